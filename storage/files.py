"""Atomic file writes, with system errors as one-line messages."""

import csv
import io
import json
import os
import shutil
from contextlib import contextmanager, suppress

from errors import RunError, UsageError


@contextmanager
def writing(path, size=None):
    """Context for code that writes path.

    Args:
        path: file or directory that is written.
        size: bytes to be written, or None if unknown.

    Raises:
        RunError: instead of an OSError; the message names path, size, cause and the free bytes of the file system.
    """
    try:
        yield
    except OSError as error:
        wanted = "" if size is None else f" ({size:,} bytes)"
        cause = error.strerror or str(error).partition("\n")[0]
        raise RunError(f"cannot write {path}{wanted}: {cause}{_free_bytes(path)}") from error


def _free_bytes(path):
    """Free bytes of path's file system, as the end of a message; empty if the system does not tell."""
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    try:
        return f"; {shutil.disk_usage(folder).free:,} bytes are free"
    except OSError:
        return ""


def write_atomically(path, data):
    """Write bytes to a temporary file, flush it to the disk and rename it to path.

    After a failure or crash at any instant, path is unchanged or complete.

    Raises:
        RunError: path cannot be written; see `writing`.
    """
    scratch = f"{path}.tmp"
    with writing(path, len(data)):
        try:
            with open(scratch, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
        except BaseException:  # Ctrl-C, too
            if os.path.isfile(scratch):
                os.remove(scratch)
            raise
        _sync_directory(os.path.dirname(path) or ".")


def json_bytes(data):
    """Data as indented JSON, in bytes.

    Raises:
        RunError: a number is not finite; JSON has no such numbers.
    """
    try:
        return json.dumps(data, indent=2, allow_nan=False).encode()
    except ValueError as error:
        raise RunError("a result is not finite and cannot be written as JSON") from error


def csv_bytes(rows, columns=None):
    """Rows as CSV with a header, in bytes.

    Args:
        rows: dicts; missing cells are left empty.
        columns: None takes those of the rows, as they come.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns or list(dict.fromkeys(column for row in rows for column in row)))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def check_writable(path):
    """Create the folder of path if necessary, and check that files can be written there.

    Raises:
        UsageError: the folder cannot be created or written to.
    """
    folder = os.path.dirname(os.path.abspath(path))
    probe = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}.probe")
    try:
        with writing(path):
            os.makedirs(folder, exist_ok=True)
            with open(probe, "wb"):
                pass
            os.remove(probe)
    except RunError as error:
        raise UsageError(str(error)) from error


@contextmanager
def reserved_name(name, endings, replace=False):
    """Context for code that writes files under the first of name, name-2, name-3, ... that is free.

    Creates the empty file name + endings[0], so that no other process can take the name. If it is still empty at the
    end, it is deleted.

    Args:
        name: path without ending; its folder is created if necessary.
        endings: a name is free if no file name + ending exists.
        replace: take name itself, whatever exists, and create no file.

    Raises:
        UsageError: see `check_writable`.
    """
    check_writable(name + endings[0])
    if replace:
        yield name
        return
    candidate, number = name, 1
    while True:
        if not any(os.path.lexists(candidate + ending) for ending in endings):
            with suppress(FileExistsError):
                open(candidate + endings[0], "xb").close()
                break
        number += 1
        candidate = f"{name}-{number}"
    try:
        yield candidate
    finally:
        if os.path.getsize(candidate + endings[0]) == 0:
            os.remove(candidate + endings[0])


def _sync_directory(path):
    if os.name == "posix":  # Windows cannot open directories
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
