"""Cores and signals of a command's process."""

import os
import subprocess
import sys

import pytest

from launch.local import LocalJobs
from launch.machine import default_num_threads
from tests.helpers import ROOT


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not Linux")
def test_cores_that_the_process_may_not_use_are_not_counted():
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        assert (LocalJobs(None).slots, LocalJobs(1).threads, default_num_threads(1024, "cpu")) == (1, 1, 1)
    finally:
        os.sched_setaffinity(0, cores)
    assert LocalJobs(None).slots == len(cores) and LocalJobs(1).threads == len(cores)


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
