"""Compiled gradients: PyTorch's Inductor fuses what lies between the matrix products into a few kernels."""

import warnings

import torch


def has_compiler():
    """Whether there is a C++ compiler, which Inductor needs on a CPU."""
    from torch._inductor import cpp_builder, exc

    try:
        return bool(cpp_builder.get_cpp_compiler())
    except (exc.InvalidCxxCompiler, RuntimeError):  # the second is Windows'
        return False


def compiled(function):
    """The function, compiled at its first call; with a warning the function itself, if it cannot be compiled here.

    It may call torch.autograd.grad; the shapes of its arguments stay what they are at the first call.
    """
    torch._dynamo.config.trace_autograd_ops = True
    fast = torch.compile(function, fullgraph=True, dynamic=False)

    def call(*args):
        nonlocal fast
        try:
            return fast(*args)
        except torch._dynamo.exc.TorchDynamoException as error:  # raised before anything was computed
            reason = str(error).partition("\n")[0]
            warnings.warn(f"training without compiled gradients: {reason}", stacklevel=2)
            fast = function
            return function(*args)

    return call
