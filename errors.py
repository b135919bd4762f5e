"""Exceptions that a command reports as a one-line error."""

import os
import sys
import warnings
from contextlib import contextmanager


class UsageError(Exception):
    """A mistake in the flags or in what they point to; nothing has been done yet. Exit status 2."""


class RunError(Exception):
    """Something went wrong while a command was at work. Exit status 1."""


@contextmanager
def report_errors():
    """For the main() of a command: errors and warnings within it are printed as one line each."""
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        yield
    except KeyboardInterrupt:
        print(f"{os.path.basename(sys.argv[0])}: interrupted", file=sys.stderr)
        sys.exit(130)
    except (UsageError, RunError) as error:
        print(f"{os.path.basename(sys.argv[0])}: error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
