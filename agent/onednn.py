"""Linear layers by oneDNN, for compiled code on CPUs where PyTorch's own matrix products (MKL) are slower."""

import platform
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import library, nn

THIN = 4  # products with a dimension up to this stay PyTorch's: oneDNN's set-up would cost more than the product


def is_faster():
    """Whether oneDNN's products are the faster ones here: on AMD processors, where MKL runs at half of its speed.

    A rule, not a timing: the same machine always gets the same answer, and so the same numbers.
    """
    try:
        vendor = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:  # not Linux
        vendor = platform.processor()
    return "AuthenticAMD" in vendor


def _product(x, weight, bias):
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


# Inductor cannot lower oneDNN's operator itself; an operator that it does not know it calls as it is.
if not hasattr(torch.ops.chunks, "linear"):  # a second import of this module finds it registered
    LIBRARY = library.Library("chunks", "DEF")
    LIBRARY.define("linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
    LIBRARY.impl("linear", _product, "CPU")
    LIBRARY.impl("linear", lambda x, weight, bias: x.new_empty(len(x), len(weight)), "Meta")

    def _save(ctx, inputs, output):
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)

    def _gradients(ctx, gradient):
        """(B, n) -> of x (B, m), of the weight (n, m), of the bias (n,)."""
        x, weight = ctx.saved_tensors
        product = torch.ops.chunks.linear
        if x.shape[1] < gradient.shape[1]:  # oneDNN copies the left factor: let it be the smaller one
            of_weight = product(x.t(), gradient.t(), None).t()
        else:
            of_weight = product(gradient.t(), x.t(), None)
        return product(gradient, weight.t(), None), of_weight, gradient.sum(0)

    library.register_autograd("chunks::linear", _gradients, setup_context=_save, lib=LIBRARY)


class OneDNNLinear(nn.Linear):
    """`nn.Linear` by oneDNN. It is made from one, by assigning to its __class__, and shares its parameters."""

    def forward(self, x):
        """(B, m) -> (B, n)."""
        if min(*x.shape, self.out_features) <= THIN:
            return F.linear(x, self.weight, self.bias)
        return torch.ops.chunks.linear(x, self.weight, self.bias)


def install(*networks):
    """Let the linear layers of networks use oneDNN.

    The operator is private to PyTorch: it may be missing, or take other arguments in another version. Then there is
    a warning, and the layers stay as they are.
    """
    x, weight, bias = torch.linspace(-1, 1, 64).view(8, 8), torch.linspace(-2, 1, 64).view(8, 8), torch.ones(8)
    try:
        torch.testing.assert_close(_product(x, weight, bias), F.linear(x, weight, bias))
        torch.testing.assert_close(_product(x, weight, None), F.linear(x, weight))
    except (AttributeError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        warnings.warn(f"training with PyTorch's matrix products: oneDNN's are not usable here: {reason}", stacklevel=2)
        return
    for network in networks:
        for module in network.modules():
            if type(module) is nn.Linear:
                module.__class__ = OneDNNLinear
