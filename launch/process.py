"""What a command sets for its whole process: signals, numbers of threads."""

import os
import signal
from contextlib import contextmanager

LARGE_HIDDEN_DIM = 512  # units per layer up to which one thread is as fast as several: layers are too small to share


def default_num_threads(hidden_dim, device_type):
    """Threads of a run that does not say how many."""
    return 1 if device_type == "cpu" and hidden_dim <= LARGE_HIDDEN_DIM else os.cpu_count()


@contextmanager
def stop_signals():
    """A list that SIGINT and SIGTERM are put in; the second one ends the process at once."""
    received = []

    def receive(number, _):
        received.append(number)
        for name in handlers:
            signal.signal(name, signal.SIG_DFL)
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"stopping at the end of the episode; once more stops at once\n")

    handlers = {name: signal.signal(name, receive) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for name, handler in handlers.items():
            signal.signal(name, handler)
