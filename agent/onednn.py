"""Linear layers by oneDNN, for compiled updates on CPUs where PyTorch's own matrix products (MKL) are slower."""

import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import library, nn

THIN = 4  # products with a dimension up to this stay PyTorch's: oneDNN's set-up would cost more than the product


def is_faster():
    """Whether oneDNN's products are faster here than PyTorch's: on AMD processors, where MKL is up to twice as slow.

    A rule, not a timing: one machine always gets the same answer, and so the same numbers.
    """
    try:
        vendor = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:  # not Linux
        vendor = platform.processor()
    return "AuthenticAMD" in vendor


def product(x, weight, bias):
    """x (B, m), weight (n, m), bias (n,) or None -> (B, n), without a graph; any of them may be a transposed view."""
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


# Inductor cannot lower oneDNN's operator itself; an operator that it does not know it calls as it is.
if not hasattr(torch.ops.chunks, "linear"):  # a second import of this module finds it registered
    LIBRARY = library.Library("chunks", "DEF")
    LIBRARY.define("linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
    LIBRARY.impl("linear", product, "CPU")
    LIBRARY.impl("linear", lambda x, weight, bias: x.new_empty(len(x), len(weight)), "Meta")

    def _save(ctx, inputs, output):
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)

    def _gradients(ctx, gradient):
        """(B, n) -> of x (B, m), of the weight (n, m), of the bias (n,)."""
        x, weight = ctx.saved_tensors
        linear = torch.ops.chunks.linear
        if x.shape[1] < gradient.shape[1]:  # oneDNN copies the left factor: let it be the smaller one
            of_weight = linear(x.t(), gradient.t(), None).t()
        else:
            of_weight = linear(gradient.t(), x.t(), None)
        return linear(gradient, weight.t(), None), of_weight, gradient.sum(0)

    library.register_autograd("chunks::linear", _gradients, setup_context=_save, lib=LIBRARY)


class OneDNNLinear(nn.Linear):
    """`nn.Linear` by oneDNN. It is made from one, by assigning to its __class__, and shares its parameters."""

    def forward(self, x):
        """(B, m) -> (B, n)."""
        if min(*x.shape, self.out_features) <= THIN:
            return F.linear(x, self.weight, self.bias)
        return torch.ops.chunks.linear(x, self.weight, self.bias)


def problem():
    """Why oneDNN's operator cannot be used here, a line, or None.

    The operator is private to PyTorch: it may be missing, or take other arguments in another version.
    """
    x, weight, bias = torch.linspace(-1, 1, 64).view(8, 8), torch.linspace(-2, 1, 64).view(8, 8), torch.ones(8)
    try:
        torch.testing.assert_close(product(x, weight, bias), F.linear(x, weight, bias))
        torch.testing.assert_close(product(x, weight, None), F.linear(x, weight))
    except (AttributeError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        return str(error).partition("\n")[0]
    return None


def install(*networks):
    """Let the linear layers of networks use oneDNN. Call it only where there is no `problem`."""
    for network in networks:
        for module in network.modules():
            if type(module) is nn.Linear:
                module.__class__ = OneDNNLinear
