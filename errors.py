"""How a run is refused or ends early: with one sentence."""

import os
import shutil
from contextlib import contextmanager


class Refusal(Exception):
    """The run does not start: a mistake in the flags or in what they point to. Exit status 2."""


class Failure(Exception):
    """The run ends early. Exit status 1."""


@contextmanager
def writing(path, size=None):
    """Turns what the system refuses while path is written, `size` bytes where that is known, into a `Failure`."""
    try:
        yield
    except OSError as error:
        wanted = "" if size is None else f" ({size:,} bytes)"
        free = shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free
        raise Failure(f"cannot write {path}{wanted}: {error.strerror or error}; {free:,} bytes are free") from error
