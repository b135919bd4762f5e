"""Random streams, cadences, time, devices and memory."""

import os
from contextlib import contextmanager
from time import perf_counter

import numpy as np
import torch

DEVICE_TYPES = ("cpu", "cuda", "mps")


def numpy_generator(seed, stream):
    """A numpy Generator.

    Args:
        seed: the run's seed.
        stream: name of the random stream; streams of different names are independent.
    """
    return np.random.default_rng([seed, *stream.encode()])


def torch_generator(seed, stream, device):
    """A torch Generator on device; other arguments as in `numpy_generator`."""
    return torch.Generator(device).manual_seed(int(numpy_generator(seed, stream).integers(2**63)))


class Every:
    """A callable, step -> whether at least `interval` steps have passed since it last returned True.

    Args:
        interval: steps; with 0 it always returns False.
        step: step from which the first interval is counted.
    """

    def __init__(self, interval, step=0):
        self.interval, self.last = interval, step

    def __call__(self, step):
        if not self.interval or step - self.last < self.interval:
            return False
        self.last = step
        return True


class Stopwatch:
    """Shares of wall time of named sections, which must not be nested.

    Args:
        names: of the sections.
    """

    def __init__(self, *names):
        self._names = names
        self._restart()

    @contextmanager
    def section(self, name):
        """Count the time of a with block."""
        started = perf_counter()
        yield
        self._seconds[name] += perf_counter() - started

    def pop_shares(self):
        """{name: share of the wall time since the last call, or since the start}; 0 for sections that did not run."""
        elapsed = max(perf_counter() - self._started, 1e-9)  # a coarse clock may not have moved
        shares = {name: seconds / elapsed for name, seconds in self._seconds.items()}
        self._restart()
        return shares

    def _restart(self):
        self._started, self._seconds = perf_counter(), dict.fromkeys(self._names, 0.0)


def choose_device(name):
    """The torch device of this name; auto is CUDA if available, else cpu.

    Raises:
        ValueError: torch does not know the name, this machine has no such device, or it is not in DEVICE_TYPES.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except Exception as error:  # each type of device raises another one
        raise ValueError(f"{name} is not usable here: {str(error).partition(chr(10))[0]}") from error
    if device.type not in DEVICE_TYPES:
        raise ValueError(f"{name} is not one of {', '.join(DEVICE_TYPES)}")
    return device


def memory_limit():
    """Bytes of memory that this process may use, or None if the system does not tell."""
    limits = []
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:
        with open("/sys/fs/cgroup/memory.max") as file:  # limit of a container
            limits.append(int(file.read()))
    except (OSError, ValueError):
        pass
    return min(limits, default=None)
