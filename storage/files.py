"""Atomic file writes, and one sentence for every error of the system while a file is written."""

import json
import os
import shutil
from contextlib import contextmanager

from errors import RunError


@contextmanager
def writing(path, size=None):
    """Turn an OSError while path is written into a `RunError`.

    Args:
        path: named in the sentence, with the free bytes of its file system.
        size: bytes to be written, where that is known.
    """
    try:
        yield
    except OSError as error:
        wanted = "" if size is None else f" ({size:,} bytes)"
        cause = error.strerror or str(error).partition("\n")[0]
        raise RunError(f"cannot write {path}{wanted}: {cause}{_free_bytes(path)}") from error


def _free_bytes(path):
    """Of the file system that path is on, or would be on; nothing where the system does not say."""
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    try:
        return f"; {shutil.disk_usage(folder).free:,} bytes are free"
    except OSError:
        return ""


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


def json_bytes(data):
    """Data as indented JSON.

    Raises:
        RunError: a number is not finite, which JSON cannot hold.
    """
    try:
        return json.dumps(data, indent=2, allow_nan=False).encode()
    except ValueError as error:
        raise RunError("a result is not finite, so that no JSON file can hold it") from error


def check_writable(path):
    """Create the folder of path, and check that a file can be written there.

    Raises:
        RunError: it cannot.
    """
    folder = os.path.dirname(os.path.abspath(path))
    probe = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}.probe")
    with writing(path):
        os.makedirs(folder, exist_ok=True)
        with open(probe, "wb"):
            pass
        os.remove(probe)


def free_name(name, endings):
    """name, or the first of name-2, name-3, ... for which no file with one of the endings exists."""
    candidate, number = name, 1
    while any(os.path.lexists(candidate + ending) for ending in endings):
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def _sync_directory(path):
    if os.name == "posix":  # elsewhere a directory cannot be opened
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
