"""Exceptions that a command reports as a one-line error, and prints that cannot end a command."""

import os
import signal
import sys
import warnings
from contextlib import contextmanager


class UsageError(Exception):
    """A mistake in the flags or in a file that they name, found before anything is done. Exit status 2."""


class RunError(Exception):
    """A failure while a command runs. Exit status 1."""


@contextmanager
def report_errors():
    """Context of the main() of a command: print UsageError, RunError, Ctrl-C and warnings as one line each.

    An error ends the process with the exit status of its class, Ctrl-C with 130, KeyboardInterrupt(number) with
    128 + number, a stdout that cannot be written with 1, as when its reader has ended (`evaluate.py | head`).
    `sys.exit` keeps its status.
    """
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        yield
        print(end="", flush=True)  # at exit an error of the last lines would be more than one line
    except SystemExit:
        with unwritable_ignored():
            print(end="", flush=True)
        raise
    except KeyboardInterrupt as error:
        _end("interrupted", 128 + (error.args or (signal.SIGINT,))[0])
    except (UsageError, RunError) as error:
        _end(f"error: {error}", 2 if isinstance(error, UsageError) else 1)
    except OSError:
        try:
            print(flush=True)  # fails, too, unless the error is of another file, as of an environment
        except OSError as error:
            _end(f"error: cannot write the output: {error.strerror}", 1)
        raise


@contextmanager
def unwritable_ignored(name="stdout"):
    """Context of prints that must not end a command.

    If the stream cannot be written, as when its reader has ended (`train.py | head`), what is printed from then on is
    lost.

    Args:
        name: "stdout" or "stderr".
    """
    try:
        yield
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), getattr(sys, name).fileno())


def _end(message, status):
    with unwritable_ignored():
        print(end="", flush=True)
    with unwritable_ignored("stderr"):
        print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr, flush=True)
    sys.exit(status)
