"""Seeding and devices."""

import numpy as np
import torch


def generator(seed, stream, device="cpu"):
    """A random stream of its own.

    Args:
        seed: the run's seed.
        stream: the name of what draws from it; two names give two independent streams.
        device: where the numbers are needed.
    """
    mixed = np.random.SeedSequence([seed, *stream.encode()]).generate_state(1)
    return torch.Generator(device).manual_seed(int(mixed[0]))


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
