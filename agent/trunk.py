"""The hidden layers of every network, with their gradient written out.

One autograd node for all layers instead of one an operation; on CPUs the matrix product is oneDNN's, with bias and
ReLU fused. PyTorch's own linear layer calls MKL there, which on AMD processors runs at half of oneDNN's speed.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

EPSILON = 1e-5  # of LayerNorm


def _find_onednn():
    try:
        return torch.ops.mkldnn._linear_pointwise.default if torch.backends.mkldnn.is_available() else None
    except AttributeError:  # a build of PyTorch without it
        return None


ONEDNN_LINEAR = _find_onednn()

# Inductor cannot lower oneDNN's operator itself; what it does not know it calls as it is.
LIBRARY = torch.library.Library("chunks", "DEF")
LIBRARY.define("linear(Tensor x, Tensor weight, Tensor? bias, bool relu) -> Tensor")


def _onednn_linear(x, weight, bias, relu):
    return ONEDNN_LINEAR(x, weight, bias, "relu" if relu else "none", [], "")


LIBRARY.impl("linear", _onednn_linear, "CPU")
LIBRARY.impl("linear", lambda x, weight, bias, relu: x.new_empty(len(x), len(weight)), "Meta")


def linear(x, weight, bias=None, relu=False):
    """x (B, m), weight (n, m), bias (n,) -> (B, n), without a graph; any of them may be a transposed view."""
    # A single row, as in acting, is a matrix-vector product, which oneDNN takes more time to set up than to compute.
    if ONEDNN_LINEAR is not None and x.device.type == "cpu" and x.dtype == torch.float32 and len(x) > 1:
        return (torch.ops.chunks.linear if torch.compiler.is_compiling() else _onednn_linear)(x, weight, bias, relu)
    y = F.linear(x, weight, bias)
    return y.relu_() if relu else y


def product(gradient, inputs):
    """gradient (B, n), inputs (B, m) -> gradient.t() @ inputs (n, m). The left factor is copied: the smaller one."""
    if inputs.shape[1] < gradient.shape[1]:
        return linear(inputs.t(), gradient.t()).t().contiguous()  # the fused Adam takes it for laid out as the weight
    return linear(gradient.t(), inputs.t())


def hidden_layers(x, layer_norm, parameters):
    """Layers of (linear, LayerNorm without gain and bias where wanted, ReLU), without a graph.

    Args:
        x: (B, m).
        layer_norm: whether it is wanted.
        parameters: weight (n, m) and bias (n,) of each layer in turn.

    Returns:
        (B, n of the last), and what the gradient needs of each layer: weight, inputs, outputs and, with LayerNorm,
        what was normalised, its means and its inverse standard deviations.
    """
    saved = []
    x = x.contiguous()  # oneDNN falls back to a loop for a slice of wider rows
    for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
        inputs, x = x, linear(x, weight, bias, relu=not layer_norm)
        statistics = ()
        if layer_norm:
            z = x
            x, *moments = torch.native_layer_norm(z, z.shape[-1:], None, None, EPSILON)
            x.relu_()
            statistics = (z, *moments)
        saved += [weight, inputs, x, *statistics]
    return x, saved


class _HiddenLayers(torch.autograd.Function):
    """`hidden_layers` with a gradient."""

    @staticmethod
    def forward(ctx, x, layer_norm, *parameters):
        """As `hidden_layers`."""
        x, saved = hidden_layers(x, layer_norm, parameters)
        ctx.layer_norm = layer_norm
        ctx.save_for_backward(*saved)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        """(B, n of the last) -> gradients of x and of the parameters, those that are wanted."""
        needs_x, _, *needs = ctx.needs_input_grad
        size = 6 if ctx.layer_norm else 3  # saved tensors a layer
        gradients = []  # bias, weight of the last layer, then of the one before it
        last = len(needs) // 2 - 1
        for i in range(last, -1, -1):
            weight, inputs, y, *statistics = ctx.saved_tensors[i * size : (i + 1) * size]
            # In place where it is ours; what autograd hands over is not.
            into = {} if i == last else {"grad_input": gradient}
            gradient = torch.ops.aten.threshold_backward(gradient, y, 0, **into)
            if ctx.layer_norm:
                z, mean, rstd = statistics
                gradient, *_ = torch.ops.aten.native_layer_norm_backward(
                    gradient, z, z.shape[-1:], mean, rstd, None, None, [True, False, False]
                )
            gradients.append(gradient.sum(0) if needs[2 * i + 1] else None)
            gradients.append(product(gradient, inputs) if needs[2 * i] else None)
            gradient = linear(gradient, weight.t()) if i > 0 or needs_x else None  # (B, n) @ (n, m)
        return gradient, None, *reversed(gradients)


class Trunk(nn.Module):
    """hidden_depth layers of (linear, LayerNorm where wanted, ReLU): (B, input_size) -> (B, hidden_dim).

    The LayerNorm has no gain and bias of its own: a positive gain would only rescale the next layer's weights, and
    the linear layer's bias already shifts units against each other.
    """

    def __init__(self, input_size, hidden_dim, hidden_depth, layer_norm=False):
        super().__init__()
        self.layer_norm = layer_norm
        sizes = [input_size] + [hidden_dim] * hidden_depth
        self.layers = nn.ModuleList(orthogonal_linear(m, n) for m, n in itertools.pairwise(sizes))

    def forward(self, x):
        """(B, input_size) -> (B, hidden_dim)."""
        parameters = [p for layer in self.layers for p in (layer.weight, layer.bias)]
        if torch.is_grad_enabled():
            return _HiddenLayers.apply(x, self.layer_norm, *parameters)
        return hidden_layers(x, self.layer_norm, parameters)[0]


def orthogonal_linear(input_size, output_size):
    """A linear layer initialised as in pytorch_sac: orthogonal weight, zero bias."""
    layer = nn.Linear(input_size, output_size)
    nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
