"""Compiled gradients: PyTorch's Inductor fuses what lies between the matrix products into a few kernels."""

import warnings

import torch

COMPILE_FROM = 1000  # updates: what is wrong with a run shows before it stops to compile
COMPILE_WORTH = 30_000  # updates after which compilation has paid for itself, with some to spare


def pays(config, device):
    """Whether a run is long enough for compilation, on a device and a machine where it works."""
    updates = (config.num_train_steps - config.num_seed_steps) * config.updates_per_step
    return device.type == "cpu" and updates >= COMPILE_WORTH and has_compiler()


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
