"""The layers of every network, with their gradient written out.

One autograd node for all layers instead of one an operation; on CPUs the matrix product is oneDNN's, with bias and
ReLU fused. PyTorch's own linear layer calls MKL there, which on AMD processors runs at half of oneDNN's speed.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import library, nn
from torch.autograd.function import once_differentiable

EPSILON = 1e-5  # of LayerNorm
THIN = 4  # a product with a side of up to so many rows takes oneDNN more time to set up than to compute


def _find_onednn():
    try:
        return torch.ops.mkldnn._linear_pointwise.default if torch.backends.mkldnn.is_available() else None
    except AttributeError:  # a build of PyTorch without it
        return None


ONEDNN_LINEAR = _find_onednn()


def _onednn_linear(x, weight, bias, relu):
    return ONEDNN_LINEAR(x, weight, bias, "relu" if relu else "none", [], "")


# Inductor cannot lower oneDNN's operator itself; an operator that it does not know it calls as it is.
LIBRARY = library.Library("chunks", "DEF")
LIBRARY.define("linear(Tensor x, Tensor weight, Tensor? bias, bool relu) -> Tensor")
LIBRARY.impl("linear", _onednn_linear, "CPU")
LIBRARY.impl("linear", lambda x, weight, bias, relu: x.new_empty(len(x), len(weight)), "Meta")


def linear(x, weight, bias=None, relu=False):
    """x (B, m), weight (n, m), bias (n,) -> (B, n), without a graph; any of them may be a transposed view."""
    is_fast = ONEDNN_LINEAR is not None and x.device.type == "cpu" and x.dtype == torch.float32
    if is_fast and min(*x.shape, len(weight)) > THIN:
        return (torch.ops.chunks.linear if torch.compiler.is_compiling() else _onednn_linear)(x, weight, bias, relu)
    y = F.linear(x, weight, bias)
    return y.relu_() if relu else y


def product(gradient, inputs):
    """gradient (B, n), inputs (B, m) -> gradient.t() @ inputs (n, m). The left factor is copied: the smaller one."""
    if inputs.shape[1] < gradient.shape[1]:
        return linear(inputs.t(), gradient.t()).t().contiguous()  # the fused Adam takes it for laid out as the weight
    return linear(gradient.t(), inputs.t())


def forward(x, layer_norm, parameters):
    """Hidden layers of (linear, LayerNorm without gain and bias where wanted, ReLU) and a linear one, without a graph.

    Args:
        x: (B, m).
        layer_norm: whether it is wanted.
        parameters: weight (n, m) and bias (n,) of each layer in turn.

    Returns:
        outputs (B, n of the last), its inputs, and what the gradient needs of each layer: weight and inputs, and of
        the hidden ones with LayerNorm what was normalised, its means and its inverse standard deviations.
    """
    saved = []
    x = x.contiguous()  # oneDNN falls back to a loop for a slice of wider rows
    *hidden, (last_weight, last_bias) = zip(parameters[::2], parameters[1::2], strict=True)
    for weight, bias in hidden:
        saved += [weight, x]
        x = linear(x, weight, bias, relu=not layer_norm)
        if layer_norm:
            z = x
            x, *moments = torch.native_layer_norm(z, z.shape[-1:], None, None, EPSILON)
            x.relu_()
            saved += [z, *moments]
    return linear(x, last_weight, last_bias), x, [*saved, last_weight, x]


class _MLP(torch.autograd.Function):
    """`forward` with a gradient."""

    @staticmethod
    def forward(ctx, x, layer_norm, *parameters):
        """As `forward`."""
        outputs, features, saved = forward(x, layer_norm, parameters)
        ctx.layer_norm = layer_norm
        ctx.save_for_backward(*saved)
        ctx.mark_non_differentiable(features)
        return outputs, features

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, _):
        """(B, n of the last) -> gradients of x and of the parameters, those that are wanted."""
        needs_x, _, *needs = ctx.needs_input_grad
        size = 5 if ctx.layer_norm else 2  # saved tensors a hidden layer
        gradient = gradient.contiguous()
        gradients = []  # bias, weight of the last layer, then of the one before it
        last = len(needs) // 2 - 1
        for i in range(last, -1, -1):
            weight, inputs, *statistics = ctx.saved_tensors[i * size : (i + 1) * size]
            if i < last:
                outputs = ctx.saved_tensors[(i + 1) * size + 1]  # the next layer's inputs
                gradient = torch.ops.aten.threshold_backward(gradient, outputs, 0, grad_input=gradient)
                if ctx.layer_norm:
                    z, mean, rstd = statistics
                    gradient, *_ = torch.ops.aten.native_layer_norm_backward(
                        gradient, z, z.shape[-1:], mean, rstd, None, None, [True, False, False]
                    )
            gradients.append(gradient.sum(0) if needs[2 * i + 1] else None)
            gradients.append(product(gradient, inputs) if needs[2 * i] else None)
            gradient = linear(gradient, weight.t()) if i > 0 or needs_x else None  # (B, n) @ (n, m)
        return gradient, None, *reversed(gradients)


class MLP(nn.Module):
    """hidden_depth layers of (linear, LayerNorm where wanted, ReLU) and a linear one.

    The LayerNorm has no gain and bias of its own: a positive gain would only rescale the next layer's weights, and
    the linear layer's bias already shifts units against each other. Weights start orthogonal, biases at zero, as in
    pytorch_sac.
    """

    def __init__(self, input_size, hidden_dim, hidden_depth, output_size, layer_norm=False):
        super().__init__()
        self.layer_norm = layer_norm
        sizes = [input_size] + [hidden_dim] * hidden_depth + [output_size]
        self.layers = nn.ModuleList()
        for m, n in itertools.pairwise(sizes):
            layer = nn.Linear(m, n)
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)
            self.layers.append(layer)

    def forward(self, x):
        """(B, input_size) -> outputs (B, output_size), and features (B, hidden_dim), which carry no gradient."""
        parameters = [p for layer in self.layers for p in (layer.weight, layer.bias)]
        if torch.is_grad_enabled():
            return _MLP.apply(x, self.layer_norm, *parameters)
        return forward(x, self.layer_norm, parameters)[:2]
