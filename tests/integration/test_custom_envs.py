"""train.py and evaluate.py with environments that users write and with run directories that hold code."""

import json
import os
import shutil

import pytest
import torch

from tests.forked import run_script
from tests.helpers import ROOT, SMALL, rows, run_dir, train

# As short as the tutorials have it: no render_mode, no render().
CUSTOM = """
import gymnasium as gym
import numpy as np

class Line(gym.Env):
    action_space = gym.spaces.Box(-1, 1, (1, 2), np.float32)
    observation_space = gym.spaces.Box(-10, 10, (1,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.x = np.zeros(1, np.float32)
        return self.x, {}

    def step(self, action):
        self.x = self.x + action.sum()
        FAULT
        return self.x, RETURNED, False, False, {}

gym.register("Line-v0", Line, max_episode_steps=LIMIT)
"""
FLAGS = ["--num_train_steps", 60, "--num_seed_steps", 40, "--num_eval_episodes", 1, "--device", "cpu"]


@pytest.fixture
def line(tmp_path):
    """Writes the module `line` with some values; returns what PYTHONPATH has to hold."""

    def write(fault="pass", returned="1.0", limit=20):
        text = CUSTOM.replace("FAULT", fault).replace("RETURNED", returned).replace("LIMIT", str(limit))
        (tmp_path / "modules").mkdir()
        (tmp_path / "modules" / "line.py").write_text(text)
        (tmp_path / "cwd").mkdir()
        return tmp_path / "cwd", {"PYTHONPATH": str(tmp_path / "modules")}

    return write


def test_the_default_flags_train_without_video(line):
    cwd, environment = line()
    result = train(cwd, "--env", "line:Line-v0", *FLAGS, "--batch_size", 16, **environment)
    assert result.returncode == 0, result.stderr
    assert "\x1b[33mWARN" not in result.stderr
    assert [text for text in result.stderr.splitlines() if "warning:" in text] == [
        "warning: training without video: line:Line-v0 has no render mode rgb_array"
    ]
    (directory,) = cwd.glob("exp/*")
    assert [row["return"] for row in rows(directory / "train.csv")] == ["20.0"] * 3


def test_a_result_of_a_wrong_type_ends_the_run_with_one_sentence(line):
    cwd, environment = line(returned="None")
    result = train(cwd, "--env", "line:Line-v0", *FLAGS, *SMALL, **environment)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "train.py: error: line:Line-v0: step() returns, in step 1 of an episode, None instead of a number as reward"
    )
    assert "Traceback" not in result.stderr


def test_an_exception_of_the_environment_keeps_its_traceback(line):
    cwd, environment = line(fault="missing()")
    result = train(cwd, "--env", "line:Line-v0", *FLAGS, *SMALL, **environment)
    assert result.returncode == 1
    *_, error, note = result.stderr.splitlines()
    assert error == "NameError: name 'missing' is not defined"
    assert note.startswith("This was raised by step() of the environment line:Line-v0, in step ")
    assert "line.py" in result.stderr


def test_an_environment_without_end_does_not_hang(line):
    cwd, environment = line(limit=None)
    quick = ["--hidden_depth", 1, "--chunk_size", 50, "--confidence_threshold", 0]  # one plan per 50 steps
    result = train(cwd, "--env", "line:Line-v0", *FLAGS, *SMALL, *quick, **environment)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "train.py: error: evaluation at step 60: line:Line-v0: an episode has not ended after 100,000 steps; "
        "register the environment with max_episode_steps"
    )


@pytest.mark.parametrize(
    "text, why",
    [
        ("import nonexistent", "importing line fails: ModuleNotFoundError: No module named 'nonexistent' ("),
        (None, "there is no module 'line'"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(tmp_path, text, why):
    (tmp_path / "modules").mkdir()
    (tmp_path / "cwd").mkdir()
    if text:
        (tmp_path / "modules" / "line.py").write_text(text)
    result = train(tmp_path / "cwd", "--env", "line:Line-v0", PYTHONPATH=str(tmp_path / "modules"))
    assert result.returncode == 2 and os.listdir(tmp_path / "cwd") == []
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith(f"train.py: error: argument --env: {why}")


def test_code_in_a_run_directory_is_not_run(tmp_path):
    """Neither where it is played nor where it is continued."""
    shared = run_dir(tmp_path, "--env", "Pendulum-v1", *FLAGS, *SMALL, "--checkpoint_frequency", 10)
    shared = shutil.move(shared, tmp_path / "exp" / "shared")
    (shared / "tasks.py").write_text("open('was_run', 'w')")
    record = json.loads((shared / "args.json").read_text())
    record["args"]["env"] = "exp.shared.tasks:Pendulum-v1"
    (shared / "args.json").write_text(json.dumps(record))
    policy = torch.load(shared / "policy.pt", weights_only=True)
    policy["args"]["env"] = "exp.shared.tasks:Pendulum-v1"
    torch.save(policy, shared / "policy.pt")
    before = set(shared.iterdir())
    for script, *flags in (["evaluate.py", "exp/shared", "--episodes", "1"], ["train.py", "--resume", "exp/shared"]):
        result = run_script(ROOT / script, *flags, cwd=tmp_path, PYTHONPATH=str(tmp_path))
        assert result.returncode == 2 and result.stdout == ""
        (sentence,) = result.stderr.splitlines()
        assert "exp.shared.tasks is " in sentence and "code in run directories is not run" in sentence
        assert not (tmp_path / "was_run").exists() and set(shared.iterdir()) == before
