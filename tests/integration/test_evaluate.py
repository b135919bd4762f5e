"""evaluate.py as a process of its own, on runs that train.py has just made."""

import csv
import json
import os
import shutil
import subprocess
import sys

import imageio.v2 as imageio
import numpy as np
import pytest
import torch

from tests.envs.scripted import episode_return
from tests.helpers import ROOT, SMALL, run_dir

SCRIPTED = ["--env", "tests.envs.scripted:Scripted-v0", "--num_seed_steps", 20, "--chunk_size", 3, *SMALL]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("trained")
    return run_dir(cwd, *SCRIPTED, "--num_train_steps", 60, "--checkpoint_frequency", 20)


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def evaluate(*flags):
    command = [sys.executable, str(ROOT / "evaluate.py"), *map(str, flags)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_returns_of_a_scripted_run(run):
    result = evaluate(run, "--episodes", 4, "--confidence_threshold", 0)
    assert result.returncode == 0 and result.stderr == ""
    report = json.loads((run / "evaluation.json").read_text())
    returns = [episode_return(e) for e in range(1, 5)]
    assert report["returns"] == returns and report["return"] == np.mean(returns)
    assert report["k"] == 3 and report["step"] == 60 and report["confidence_threshold"] == 0
    assert min(returns) <= report["return_low"] < report["return"] < report["return_high"] <= max(returns)
    table = [line.split() for line in result.stdout.splitlines()[2:6]]
    assert table == [[str(i), f"{value:.2f}", "3.00"] for i, value in enumerate(returns, start=1)]


def test_the_same_seed_gives_the_same_episodes_and_sampling_others(tmp_path):
    directory = run_dir(tmp_path, "--env", "Pendulum-v1", "--num_train_steps", 200, "--num_seed_steps", 100, *SMALL)
    reports = {}
    for name, flags in {"a": [], "b": [], "seed": ["--seed", 1], "sample": ["--sample"]}.items():
        assert evaluate(directory, "--episodes", 2, "--output", tmp_path / name, *flags).returncode == 0
        reports[name] = json.loads((tmp_path / f"{name}.json").read_text())["returns"]
    assert reports["a"] == reports["b"]
    assert len({tuple(returns) for returns in reports.values()}) == 3


def test_a_run_that_has_not_finished_plays_its_last_checkpoint(run):
    (run / "policy.pt").unlink()
    assert evaluate(run, "--episodes", 1).returncode == 0
    last = max(int(path.stem) for path in run.glob("checkpoints/*.checkpoint"))
    assert json.loads((run / "evaluation.json").read_text())["step"] == last


def test_a_video(run, renderer):
    assert evaluate(run, "--episodes", 1, "--video").returncode == 0
    assert sum(1 for _ in imageio.get_reader(run / "evaluation.mp4")) == 4  # the first reset is a look at the renderer


@pytest.fixture(scope="module")
def cheetah(tmp_path_factory):
    flags = ["--env", "cheetah_run", "--num_train_steps", 10, "--num_seed_steps", 10, "--num_eval_episodes", 1, *SMALL]
    return run_dir(tmp_path_factory.mktemp("cheetah"), *flags)


def test_cameras_and_frames_per_second(cheetah, tmp_path, renderer):
    """An episode takes 10 s, whatever the frames a second."""
    first = {}
    for name, fps, flags in (
        ("side", 2, []),
        ("1", 2, ["--video_camera", 1]),
        ("back", 7.5, ["--video_camera", "back"]),
    ):
        flags += ["--episodes", 1, "--video", "--video_size", 64, "--video_fps", fps, "--output", tmp_path / name]
        result = evaluate(cheetah, *flags)
        assert result.returncode == 0 and result.stderr == ""
        reader = imageio.get_reader(tmp_path / f"{name}.mp4")
        data, frames = reader.get_meta_data(), [frame.astype(int) for frame in reader]
        assert data["fps"] == fps and data["duration"] == 10 and len(frames) == 10 * fps
        first[name] = frames[0]
    assert np.abs(first["1"] - first["back"]).mean() < 3  # the same but for compression
    assert np.abs(first["side"] - first["1"]).mean() > 20


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--video_camera", "top"], "--video_camera: cheetah_run has no camera 'top'; its cameras are 0 side, 1 back"),
        (["--video_fps", "101"], "--video_fps: 101 frames per second are more than the 100 steps per second"),
    ],
)
def test_what_cannot_be_filmed_is_said(cheetah, flags, sentence):
    before = sorted(os.listdir(cheetah))
    result = evaluate(cheetah, "--episodes", 1, "--video", *flags)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and sentence in result.stderr
    assert sorted(os.listdir(cheetah)) == before


def test_a_sweep(run):
    result = evaluate(run, "--sweep", "--episodes", 2)
    assert result.returncode == 0, result.stderr
    rows = json.loads((run / "evaluation.json").read_text())["rows"]
    assert [(r["kind"], r["setting"]) for r in rows if r["kind"] == "fixed"] == [("fixed", k) for k in (1, 2, 3)]
    assert [r["setting"] for r in rows if r["kind"] == "confidence"] == [round(0.1 * i, 1) for i in range(11)]
    assert len(result.stdout.splitlines()) == len(rows) + 3
    picture = imageio.imread(run / "evaluation.png")
    assert picture.shape[0] > 400 and picture.std() > 10 and (run / "evaluation.svg").exists()


def damage_policy(run):
    (run / "policy.pt").write_bytes((run / "policy.pt").read_bytes()[:-50])


def another_task(run):
    policy = torch.load(run / "policy.pt", weights_only=True)
    policy["args"]["env"] = "cheetah_run"
    torch.save(policy, run / "policy.pt")


def another_size(run):
    policy = torch.load(run / "policy.pt", weights_only=True)
    policy["actor"] = {name: weight[..., :1] for name, weight in policy["actor"].items()}
    torch.save(policy, run / "policy.pt")


def another_version(run):
    record = json.loads((run / "args.json").read_text())
    del record["args"]["confidence_margin"]
    (run / "args.json").write_text(json.dumps(record))


def unfinished(run):
    (run / "policy.pt").unlink()
    shutil.rmtree(run / "checkpoints")


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (shutil.rmtree, "is not the directory of a run"),
        (lambda run: (run / "args.json").write_text("{"), "args.json is damaged"),
        (unfinished, "has not finished and cannot be played"),
        (damage_policy, "policy.pt is damaged"),
        (another_task, "says --env tests.envs.scripted:Scripted-v0, but its policy was trained with --env cheetah_run"),
        (another_size, "the policy does not fit"),
        (another_version, "is of another version of train.py, or was edited: its args.json has no confidence_margin"),
        (lambda run: (run / "evaluation.json").write_text("precious"), "evaluation.json exists"),
    ],
)
def test_what_cannot_be_evaluated_is_said(run, damage, sentence):
    damage(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = evaluate(run, "--episodes", 1)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and sentence in result.stderr
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "flags",
    [
        ["--episodes", "0"],
        ["--seed", "1e20"],
        ["--confidence_threshold", "nan"],
        ["--sweep", "--video"],
        ["--calibration", "--sweep"],
        ["--calibration", "--pairs", "9"],
        ["--horizon", "0"],
        ["--video_size", "33"],
        ["-x"],
    ],
)
def test_bad_flags(run, flags):
    result = evaluate(run, *flags)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "evaluation.json" not in os.listdir(run)


def test_a_calibration(tmp_path):
    flags = ["--env", "Gusty-v0", "--num_train_steps", 200, "--num_seed_steps", 50, *SMALL]
    run = run_dir(tmp_path, *flags, "--chunk_size", 3, "--num_eval_episodes", 1)
    result = evaluate(run, "--calibration", "--episodes", 3, "--pairs", 31, "--horizon", 4)
    assert result.returncode == 0 and result.stderr == ""
    report = json.loads((run / "evaluation.json").read_text())
    table = list(csv.DictReader((run / "evaluation.csv").open()))
    assert [row["episode"] for row in table] == ["1"] * 11 + ["2"] * 10 + ["3"] * 10
    assert report["num_pairs"] == 31 and report["horizon"] == 4 and report["sample"] is True
    realised = np.array([[float(row[f"realised_{i}"]) for i in (1, 2)] for row in table])
    assert report["realised"]["mean"] == pytest.approx(realised.mean()) and (np.ptp(realised, axis=1) > 0).mean() > 0.3
    assert len({row["predicted"] for row in table}) == 31 and {row["position"] for row in table} == {"2", "3"}
    assert f"31 pairs, realised advantage {realised.mean():10.4f}" in result.stdout
    assert imageio.imread(run / "evaluation.png").std() > 10 and (run / "evaluation.svg").exists()


def test_a_calibration_needs_critics_and_plans(run, tmp_path):
    plain = run_dir(tmp_path, *SCRIPTED, "--num_train_steps", 60, "--chunk_size", 1)
    shutil.rmtree(run / "checkpoints")
    for directory, sentence in ((run, "has no critics"), (plain, "has plans of one action")):
        result = evaluate(directory, "--calibration")
        assert result.returncode == 2 and result.stderr.count("\n") == 1 and sentence in result.stderr
        assert not list(directory.glob("evaluation.*"))
