"""What tests of the commands share: running them in an empty folder, and reading what they left."""

import csv
import subprocess
import sys
from pathlib import Path

import torch

from tests.forked import run_script
from tests.oracle import TIMING

ROOT = Path(__file__).parent.parent
SMALL = ["--hidden_dim", "32", "--batch_size", "16", "--no-save_video", "--no-log_save_tb"]


def train(cwd, *flags, **environment):
    """The finished process of `python train.py FLAGS` in the folder cwd."""
    return run_script(ROOT / "train.py", *flags, cwd=cwd, **environment)


def run_dir(cwd, *flags):
    """The directory that a successful run left behind."""
    before = set(cwd.glob("exp/*"))
    result = train(cwd, *flags)
    assert result.returncode == 0, result.stderr
    (directory,) = set(cwd.glob("exp/*")) - before
    return directory


def benchmark_command(*flags):
    """The words of a command line of benchmark.py."""
    return [sys.executable, str(ROOT / "benchmark.py"), *flags]


def benchmark(cwd, *flags):
    """The finished process of `python benchmark.py FLAGS` in the folder cwd."""
    return subprocess.run(benchmark_command(*flags), cwd=cwd, capture_output=True, text=True, timeout=300)


def rows(path):
    """The rows of a CSV file as dicts of texts."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def trajectory(directory):
    """train.csv of a finished run without its timing columns, and the weights of its policy."""
    policy = torch.load(directory / "policy.pt", weights_only=True)
    return [{k: v for k, v in r.items() if k not in TIMING} for r in rows(directory / "train.csv")], policy["actor"]


def assert_equal(first, second):
    """Two trajectories are the same bit for bit."""
    assert first[0] == second[0]
    assert first[1].keys() == second[1].keys()
    assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])
