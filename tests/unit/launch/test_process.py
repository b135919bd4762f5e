"""Signals of a command's process."""

import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT

STOPPED = """
import os, signal
from launch.process import stop_signals
with stop_signals() as received:
    os.kill(os.getpid(), signal.SIGTERM)
print(received == [signal.SIGTERM])
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("is_read", [True, False])
def test_a_signal_is_acknowledged_if_stderr_is_read(is_read):
    out, into = os.pipe()
    if not is_read:
        os.close(out)
    result = subprocess.run([sys.executable, "-c", STOPPED], cwd=ROOT, stdout=subprocess.PIPE, stderr=into, text=True)
    os.close(into)
    assert (result.returncode, result.stdout) == (0, "True\n")
    if is_read:
        with open(out) as file:
            assert file.read() == "stopping at the end of the episode; a second signal stops at once\n"
