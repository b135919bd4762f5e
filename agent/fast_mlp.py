"""`MLP` with oneDNN's matrix product and written-out gradients: same parameters, same values up to rounding.

There is one autograd node for all layers instead of one per operation. On CPUs the matrix product is oneDNN's, with
bias and ReLU fused: PyTorch's own linear layer calls MKL there, which on AMD processors runs at half of oneDNN's speed.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import library
from torch.autograd.function import once_differentiable

from agent.mlp import MLP

EPSILON = 1e-5  # of LayerNorm, as in F.layer_norm
THIN = 4  # products with a dimension up to this use F.linear: oneDNN's set-up would cost more than the product

onednn_operator = None  # PyTorch's private operator, once `probe_onednn` has found that it computes the right thing


def probe_onednn():
    """Look for oneDNN's linear operator and test it with a small product.

    The operator is private to PyTorch: it may be missing, or take other arguments in another version. Then there is
    a warning, and products are F.linear's.
    """
    global onednn_operator
    onednn_operator = None
    if not torch.backends.mkldnn.is_available():
        return
    x, weight, bias = torch.linspace(-1, 1, 64).view(8, 8), torch.linspace(-2, 1, 64).view(8, 8), torch.ones(8)
    try:
        operator = torch.ops.mkldnn._linear_pointwise.default
        torch.testing.assert_close(operator(x, weight, bias, "none", [], ""), F.linear(x, weight, bias))
        torch.testing.assert_close(operator(x, weight, None, "relu", [], ""), F.linear(x, weight).relu())
    except (AttributeError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        warnings.warn(f"training with slower matrix products: oneDNN's are not usable here: {reason}", stacklevel=2)
    else:
        onednn_operator = operator


def _onednn_linear(x, weight, bias, relu):
    return onednn_operator(x, weight, bias, "relu" if relu else "none", [], "")


def _registered_linear(x, weight, bias, relu):
    # Not `onednn_operator`: after a second import that name belongs to another module than this function.
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "relu" if relu else "none", [], "")


# Inductor cannot lower oneDNN's operator itself; an operator that it does not know it calls as it is.
if not hasattr(torch.ops.chunks, "linear"):  # a second import of this module finds it registered
    LIBRARY = library.Library("chunks", "DEF")
    LIBRARY.define("linear(Tensor x, Tensor weight, Tensor? bias, bool relu) -> Tensor")
    LIBRARY.impl("linear", _registered_linear, "CPU")
    LIBRARY.impl("linear", lambda x, weight, bias, relu: x.new_empty(len(x), len(weight)), "Meta")


def linear(x, weight, bias=None, relu=False):
    """x (B, m), weight (n, m), bias (n,) -> (B, n), without a graph; any of them may be a transposed view."""
    is_fast = onednn_operator is not None and x.device.type == "cpu" and x.dtype == torch.float32
    if is_fast and min(*x.shape, len(weight)) > THIN:
        return (torch.ops.chunks.linear if torch.compiler.is_compiling() else _onednn_linear)(x, weight, bias, relu)
    y = F.linear(x, weight, bias)
    return y.relu_() if relu else y


def product(gradient, inputs):
    """gradient (B, n), inputs (B, m) -> gradient.t() @ inputs (n, m). The left factor is copied: the smaller one."""
    if inputs.shape[1] < gradient.shape[1]:
        return linear(inputs.t(), gradient.t()).t().contiguous()  # the fused Adam takes it for laid out as the weight
    return linear(gradient.t(), inputs.t())


def forward(x, num_hidden, layer_norm, parameters):
    """Linear layers, without a graph; the first num_hidden are followed by LayerNorm if wanted, and ReLU.

    Args:
        x: (B, m).
        num_hidden: how many of the layers are hidden ones.
        layer_norm: whether hidden layers are normalised.
        parameters: weight (n, m) and bias (n,) of each layer in turn.

    Returns:
        outputs (B, n of the last layer); for the gradient, of each layer weight and inputs, of hidden ones with
        LayerNorm also what was normalised, its means and its inverse standard deviations; at the end the outputs.
    """
    saved = []
    x = x.contiguous()  # oneDNN falls back to a loop for a slice of wider rows
    for i, (weight, bias) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
        saved += [weight, x]
        x = linear(x, weight, bias, relu=i < num_hidden and not layer_norm)
        if i < num_hidden and layer_norm:
            z = x
            x, *moments = torch.native_layer_norm(z, z.shape[-1:], None, None, EPSILON)
            x.relu_()
            saved += [z, *moments]
    return x, [*saved, x]


class _Layers(torch.autograd.Function):
    """`forward` with a gradient."""

    @staticmethod
    def forward(ctx, x, num_hidden, layer_norm, *parameters):
        """As `forward`."""
        outputs, saved = forward(x, num_hidden, layer_norm, parameters)
        ctx.num_hidden, ctx.layer_norm = num_hidden, layer_norm
        ctx.save_for_backward(*saved)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        """(B, n of the last layer) -> gradients of x and of the parameters, those that are wanted."""
        needs_x, _, _, *needs = ctx.needs_input_grad
        saved = ctx.saved_tensors
        size = 5 if ctx.layer_norm else 2  # saved tensors per hidden layer
        gradient = gradient.contiguous()
        gradients = []  # bias, weight of the last layer, then of the one before it
        last = len(needs) // 2 - 1
        for i in range(last, -1, -1):
            weight, inputs, *statistics = saved[i * size : (i + 1) * size]
            if i < ctx.num_hidden:
                outputs = saved[(i + 1) * size + 1] if i < last else saved[-1]  # the next layer's inputs
                if i < last:  # the gradient was made here: it may be written over
                    torch.ops.aten.threshold_backward(gradient, outputs, 0, grad_input=gradient)
                else:
                    gradient = torch.ops.aten.threshold_backward(gradient, outputs, 0)
                if ctx.layer_norm:
                    z, mean, rstd = statistics
                    gradient, *_ = torch.ops.aten.native_layer_norm_backward(
                        gradient, z, z.shape[-1:], mean, rstd, None, None, [True, False, False]
                    )
            gradients.append(gradient.sum(0) if needs[2 * i + 1] else None)
            gradients.append(product(gradient, inputs) if needs[2 * i] else None)
            gradient = linear(gradient, weight.t()) if i > 0 or needs_x else None  # (B, n) @ (n, m)
        return gradient, None, None, *reversed(gradients)


class FastMLP(MLP):
    """`MLP`, faster. It is made from one, by assigning to its __class__, and shares its parameters."""

    def features(self, x):
        """As `MLP.features`."""
        *hidden, _ = self.layers  # slicing a ModuleList would build another one
        return self._run(x, hidden, len(hidden))

    def output(self, features):
        """As `MLP.output`."""
        return self._run(features, [self.layers[-1]], 0)

    def forward(self, x):
        """As `MLP.forward`, in one node."""
        return self._run(x, self.layers, len(self.layers) - 1)

    def _run(self, x, layers, num_hidden):
        parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
        if torch.is_grad_enabled():
            return _Layers.apply(x, num_hidden, self.layer_norm, *parameters)
        return forward(x, num_hidden, self.layer_norm, parameters)[0]
