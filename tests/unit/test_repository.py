"""What is committed."""

import subprocess

import pytest

from tests.helpers import ROOT


def test_no_link_is_committed():
    """A link, as of a virtual environment to another folder, names a path of one machine."""
    result = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        pytest.skip("not a git checkout")
    files = result.stdout.splitlines()
    assert files and not [line for line in files if line.startswith("120000")]
