"""How a command ends whose output cannot be written."""

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


def full_disk():
    """A file on a disk without space."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    return os.open("/dev/full", os.O_WRONLY)


def ended(code, **streams):
    """(exit status, stderr) of a command whose main() is code; lines are written at its end."""
    code = "import sys\nfrom errors import UsageError, report_errors\nwith report_errors():\n    " + code
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        **{"stderr": subprocess.PIPE} | streams,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": ""},
    )
    for stream in streams.values():
        os.close(stream)
    return result.returncode, result.stderr


@pytest.mark.parametrize("stdout, cause", [(closed_pipe, "Broken pipe"), (full_disk, "No space left on device")])
def test_a_last_line_that_cannot_be_written_is_one_sentence(stdout, cause):
    assert ended("print('last')", stdout=stdout()) == (1, f"-c: error: cannot write the output: {cause}\n")


@pytest.mark.parametrize(
    "error, status, message",
    [
        ("sys.exit(143)", 143, ""),
        ("raise UsageError('wrong')", 2, "-c: error: wrong\n"),
        ("raise KeyboardInterrupt", 130, "-c: interrupted\n"),
    ],
)
def test_the_end_of_a_command_is_the_same_if_nobody_reads_its_output(error, status, message):
    assert ended(f"print('last'); {error}", stdout=closed_pipe()) == (status, message)
    assert ended(error, stderr=closed_pipe()) == (status, None)


def test_another_closed_pipe_keeps_its_traceback():
    pipe = closed_pipe()
    with pytest.raises(BrokenPipeError), report_errors():
        os.write(pipe, b"as of an environment")
    os.close(pipe)
