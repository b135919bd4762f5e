"""Exceptions that a command reports as a one-line error, and prints that cannot end a command."""

import os
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

    An error ends the process with the exit status of its class, Ctrl-C with 130, a stdout that nobody reads with 1.
    """
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        yield
        print(end="", flush=True)  # at exit an error of the last lines would be more than one line
    except KeyboardInterrupt:
        print(f"{os.path.basename(sys.argv[0])}: interrupted", file=sys.stderr)
        sys.exit(130)
    except (UsageError, RunError) as error:
        print(f"{os.path.basename(sys.argv[0])}: error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except BrokenPipeError:
        try:
            print(flush=True)  # fails, too, unless the error is of another pipe, as of an environment
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            print(f"{os.path.basename(sys.argv[0])}: error: nothing reads the output any more", file=sys.stderr)
            sys.exit(1)
        raise


@contextmanager
def unread_output_ignored():
    """Context of prints that must not end a command.

    If stdout cannot be written, as when its reader has ended (`train.py | head`), what is printed from then on is lost.
    """
    try:
        yield
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
