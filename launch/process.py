"""Stop signals and cores of a command's process."""

import os
import signal
from contextlib import contextmanager, suppress

LARGE_HIDDEN_DIM = 512  # units per layer; up to this size, one thread is as fast as several


def num_cores():
    """Number of cores that this process may use: fewer than the machine has in a Slurm job, or below taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def acknowledge(text):
    """Write a line to stderr, in the handler of a signal. Not print: the signal may interrupt one, and it cannot nest.

    The line is lost if nothing reads stderr: in `train.py 2>&1 | tee log`, Ctrl-C ends tee, too.
    """
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())


@contextmanager
def stop_signals():
    """Context that collects SIGINT and SIGTERM in the list that it yields; the second one ends the process."""
    received = []

    def receive(number, _):
        received.append(number)
        for name in handlers:
            signal.signal(name, signal.SIG_DFL)
        acknowledge("stopping at the end of the episode; a second signal stops at once")

    handlers = {name: signal.signal(name, receive) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for name, handler in handlers.items():
            signal.signal(name, handler)
