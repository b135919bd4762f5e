"""Random streams and devices."""

import numpy as np
import torch


def numpy_generator(seed, stream):
    """A random stream of its own, a numpy Generator.

    Args:
        seed: the run's seed.
        stream: the name of what draws from it; two names give two independent streams.
    """
    return np.random.default_rng([seed, *stream.encode()])


def torch_generator(seed, stream, device):
    """As `numpy_generator`, for tensors on device."""
    return torch.Generator(device).manual_seed(int(numpy_generator(seed, stream).integers(2**63)))


def choose_device(name):
    """The torch device called name; auto is CUDA where there is one.

    Raises:
        ValueError: torch does not know the name, or has no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"{name} is not usable here: {str(error).splitlines()[0]}") from error
    return device
