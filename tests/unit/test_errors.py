"""How a command reports that a pipe has been closed."""

import os
import subprocess
import sys

import pytest

from errors import report_errors
from tests.helpers import ROOT


def closed_pipe():
    """The writing end of a pipe that nobody reads."""
    out, into = os.pipe()
    os.close(out)
    return into


def test_a_last_line_that_nobody_reads_is_one_sentence():
    code = "from errors import report_errors\nwith report_errors(): print('the last line')"
    pipe, environment = closed_pipe(), os.environ | {"PYTHONUNBUFFERED": ""}  # the line is written at the end
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, text=True, env=environment
    )
    os.close(pipe)
    assert (result.returncode, result.stderr) == (1, "-c: error: nothing reads the output any more\n")


def test_another_closed_pipe_keeps_its_traceback():
    pipe = closed_pipe()
    with pytest.raises(BrokenPipeError), report_errors():
        os.write(pipe, b"as of an environment")
    os.close(pipe)
