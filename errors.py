"""How a run is refused or ends early: with one sentence."""

import os
import sys
import warnings
from contextlib import contextmanager


class UsageError(Exception):
    """The run does not start: a mistake in the flags or in what they point to. Exit status 2."""


class RunError(Exception):
    """The run ends early. Exit status 1."""


@contextmanager
def report_errors():
    """For the main() of a command: a `UsageError` or `RunError` within it is one line and an exit status, a warning a line."""
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        yield
    except (UsageError, RunError) as error:
        print(f"{os.path.basename(sys.argv[0])}: error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
