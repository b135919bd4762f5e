"""Writing files so that none is ever half there."""

import os
import shutil
from contextlib import contextmanager

from errors import RunError


@contextmanager
def writing(path, size=None):
    """Turns what the system refuses while path is written, `size` bytes where that is known, into a `RunError`."""
    try:
        yield
    except OSError as error:
        wanted = "" if size is None else f" ({size:,} bytes)"
        free = shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free
        raise RunError(f"cannot write {path}{wanted}: {error.strerror or error}; {free:,} bytes are free") from error


def write_atomically(path, data):
    """Write bytes beside path, wait until they are on the disk, then rename: path is as before, or whole.

    Raises:
        RunError: see `writing`.
    """
    scratch = f"{path}.tmp"
    with writing(path, len(data)):
        try:
            with open(scratch, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
        except OSError:
            if os.path.isfile(scratch):
                os.remove(scratch)
            raise
        _sync_directory(os.path.dirname(path) or ".")


def _sync_directory(path):
    if os.name == "posix":  # elsewhere a directory cannot be opened
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
