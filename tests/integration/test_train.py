"""The real command line of train.py, as a process of its own in an empty folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch

from config import FLAGS, Config, as_json
from tests.envs.scripted import episode_length, episode_return
from tests.helpers import ROOT, SMALL, assert_equal, rows, run_dir, train, trajectory


@pytest.fixture(scope="module")
def cheetah(tmp_path_factory):
    """Default flags, but short: (run directory, what was printed)."""
    cwd = tmp_path_factory.mktemp("cheetah")
    result = train(
        cwd, "--env", "cheetah_run", "--num_train_steps", 3000, "--eval_frequency", 2000, "--num_eval_episodes", 2
    )
    assert result.returncode == 0, result.stderr
    (directory,) = cwd.glob("exp/*")
    return directory, result


def test_files_of_a_run(cheetah, renderer):
    directory, _ = cheetah
    assert re.fullmatch(r"sac-cheetah_run-h5-s1-\d{8}-\d{6}", directory.name)
    (events,) = directory.glob("events.out.tfevents.*")
    assert {p.name for p in directory.iterdir()} == {
        "args.json",
        "train.csv",
        "eval.csv",
        "lock",
        "checkpoints",
        "video",
        "policy.pt",
        events.name,
    }
    record = json.loads((directory / "args.json").read_text())
    assert record["args"] == as_json(Config(env="cheetah_run")) | {
        "num_train_steps": 3000,
        "eval_frequency": 2000,
        "num_eval_episodes": 2,
        "num_threads": 1,
        "compile": "off",
    }
    assert record["update"] == "not compiled (fewer than 30,000 updates)"
    assert torch.__version__.startswith(record["versions"]["torch"])


def test_the_evaluation_video_shows_the_task(cheetah, renderer):
    directory, _ = cheetah
    assert sorted(p.name for p in (directory / "video").iterdir()) == ["2000.mp4", "3000.mp4"]
    frames = [frame for frame in imageio.get_reader(directory / "video" / "2000.mp4")]
    assert len(frames) == 250 and frames[0].shape == (320, 256, 3)  # 10 s at 25 frames per second
    assert 20 < frames[0].mean() < 235 and frames[0].std() > 10
    assert np.abs(frames[0].astype(int) - frames[60]).max() > 50  # something moves


def test_a_resumed_run_may_change_camera_and_frames_per_second(tmp_path, renderer):
    """An episode takes 10 s, whatever the frames per second."""
    flags = ["--env", "cheetah_run", "--num_seed_steps", 1000, "--num_train_steps", 1000, "--num_eval_episodes", 1]
    flags += [*SMALL, "--save_video", "--video_size", 64, "--video_fps", 2, "--updates_per_step", 0.01]
    directory = run_dir(tmp_path, *flags)
    more = ["--num_train_steps", 2000, "--video_camera", "back", "--video_fps", 3]
    result = train(tmp_path, "--resume", directory, *more)
    assert result.returncode == 0 and result.stderr == ""
    videos = []
    for step, fps in ((1000, 2), (2000, 3)):
        reader = imageio.get_reader(directory / "video" / f"{step}.mp4")
        data, frames = reader.get_meta_data(), [frame.astype(int) for frame in reader]
        assert data["fps"] == fps and data["duration"] == 10 and len(frames) == 10 * fps
        videos.append(frames)
    assert np.abs(videos[0][0] - videos[1][0]).mean() > 20


def test_csv_files_of_a_run(cheetah):
    directory, _ = cheetah
    train_rows, eval_rows = rows(directory / "train.csv"), rows(directory / "eval.csv")
    assert [r["step"] for r in train_rows] == ["1000", "2000", "3000"]
    assert [r["step"] for r in eval_rows] == ["2000", "3000"]
    last = {name: float(value) for name, value in train_rows[-1].items()}
    assert np.isfinite(list(last.values())).all()
    expected = "critic_loss actor_loss alpha_loss confidence_loss alpha entropy q".split()
    for name in ("confidence", "label", "advantage_mean", "advantage_std"):
        expected += [f"{name}_{i}" for i in range(2, 6)]
    assert set(expected) <= last.keys()
    for i in range(2, 6):
        assert 0 < last[f"confidence_{i}"] < 1 and 0 <= last[f"label_{i}"] <= 1 and last[f"advantage_std_{i}"] > 0
    for row in eval_rows:
        assert float(row["return"]) == pytest.approx((float(row["return_1"]) + float(row["return_2"])) / 2)


def test_the_terminal_output_is_readable_when_piped(cheetah):
    directory, result = cheetah
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    run = Path("exp") / directory.name
    assert lines[0] == f"run directory {run}"
    assert re.fullmatch(
        r"device cpu, 1 thread, not compiled \(fewer than 30,000 updates\), replay buffer 2 MB, renderer \w+, "
        r"next evaluation at step 2,000",
        lines[1],
    )
    assert all(re.match(r"(train|eval ) \| ", line) for line in lines[2:-2]) and "\x1b" not in result.stdout
    assert lines[-2:] == [f"play it: python evaluate.py {run} --video", f"plot it: python plot.py {run}"]


def test_the_policy_loads_without_pickle(cheetah, make_agent):
    directory, _ = cheetah
    policy = torch.load(directory / "policy.pt", weights_only=True)
    agent = make_agent(policy["obs_size"], policy["action_size"], hidden_dim=policy["args"]["hidden_dim"])
    agent.actor.load_state_dict(policy["actor"])
    assert policy["args"]["env"] == "cheetah_run" and agent.plan(np.zeros(17), sample=False).actions.shape == (5, 6)


@pytest.mark.parametrize("h", [1, 3])
def test_every_row_of_a_scripted_run(tmp_path, h):
    """Returns, lengths and steps of each episode are known; a row must hold its own episode's."""
    flags = [
        "--env",
        "tests.envs.scripted:Scripted-v0",
        "--chunk_size",
        h,
        "--num_seed_steps",
        20,
        "--log_frequency",
        1,
    ]
    directory = run_dir(
        tmp_path, *flags, "--num_train_steps", 62, "--eval_frequency", 25, "--num_eval_episodes", 2, *SMALL
    )
    train_rows = rows(directory / "train.csv")
    step = 0
    assert len(train_rows) == 9
    for episode, row in enumerate(train_rows, start=1):
        step += episode_length(episode)
        assert (int(row["episode"]), int(row["step"]), int(row["length"])) == (episode, step, episode_length(episode))
        assert float(row["return"]) == episode_return(episode)
        assert float(row["steps_per_second"]) == pytest.approx(episode_length(episode) / float(row["duration"]))
        assert 1 <= float(row["k"]) <= h
        if step <= 20:
            assert float(row["k"]) == h and row["critic_loss"] == ""
        else:
            assert float(row["critic_loss"]) > 0
    eval_rows = rows(directory / "eval.csv")
    assert [r["step"] for r in eval_rows] == ["25", "50", "62"]
    for i, row in enumerate(eval_rows):
        returns = [episode_return(2 * i + 1), episode_return(2 * i + 2)]
        assert [float(row["return_1"]), float(row["return_2"])] == returns
        assert float(row["return"]) == np.mean(returns)


def test_evaluation_does_not_change_training(tmp_path):
    """The same run, bit for bit, whatever the schedule of evaluations; another seed gives another run."""
    flags = ["--env", "Pendulum-v1", "--num_train_steps", 450, "--num_seed_steps", 100, *SMALL]
    first = trajectory(run_dir(tmp_path, *flags, "--eval_frequency", 450, "--num_eval_episodes", 1))
    second = trajectory(run_dir(tmp_path, *flags, "--eval_frequency", 130, "--num_eval_episodes", 3))
    assert len(first[0]) == 2
    assert_equal(first, second)
    other = trajectory(run_dir(tmp_path, *flags, "--eval_frequency", 450, "--num_eval_episodes", 1, "--seed", 2))
    assert other[0] != first[0]


def test_runs_started_at_once_do_not_share_a_directory(tmp_path):
    flags = ["--env", "tests.envs.scripted:Scripted-v0", "--num_train_steps", "30", "--num_seed_steps", "30", *SMALL]
    command = [sys.executable, str(ROOT / "train.py"), *flags]
    processes = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [p.wait(timeout=120) for p in processes] == [0, 0]
    directories = list(tmp_path.glob("exp/*"))
    assert len(directories) == 2
    assert all((d / "policy.pt").exists() and len(rows(d / "eval.csv")) == 1 for d in directories)


@pytest.mark.parametrize(
    "name, environment",
    [
        ("Gusty-v0", {}),
        ("reacher_easy", {"MUJOCO_GL": "nonsense"}),
        ("quadruped_escape", {"MUJOCO_GL": "off"}),
    ],
)
def test_without_a_renderer_training_goes_on_without_video(tmp_path, name, environment):
    """The environment cannot render, or the machine cannot: one warning, no video, everything else."""
    flags = ["--num_train_steps", 50, "--num_seed_steps", 50, "--num_eval_episodes", 1]
    result = train(tmp_path, "--env", name, *flags, **environment)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("training without video") == 1
    (directory,) = tmp_path.glob("exp/*")
    assert not (directory / "video").exists() and (directory / "policy.pt").exists()


def imported(stderr):
    """Top-level modules that `python -X importtime` reports."""
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in stderr.splitlines() if "import time:" in line}


@pytest.mark.parametrize(
    "flags, status", [(["--help"], 0), (["--env", "x", "--chunk_size", "0"], 2), (["--eval_frequency=--"], 2)]
)
def test_help_and_a_bad_flag_load_neither_torch_nor_mujoco(flags, status):
    command = [sys.executable, "-X", "importtime", str(ROOT / "train.py"), *flags]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == status
    modules = imported(result.stderr)
    assert "argparse" in modules and not modules & {"torch", "mujoco", "dm_control", "numpy", "gymnasium"}


def test_help_states_every_default():
    command = [sys.executable, str(ROOT / "train.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"})
    text = result.stdout.split("options:")[1]
    flags = re.split(r"\n  (?=--)", text)[1:]
    assert len(flags) == len(FLAGS) + 1  # and --resume
    for flag in flags:
        assert "default" in flag or flag.startswith("--env "), flag
    assert max(map(len, result.stdout.splitlines())) <= 80


WATCH = """
import importlib.abc, os, sys
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "dm_control":
            with open(os.environ["WATCHED"], "a") as file:
                print(os.environ.get("MUJOCO_GL"), file=file)
sys.meta_path.insert(0, Watch())
"""


def test_the_renderer_is_chosen_before_dm_control_is_loaded(tmp_path, renderer):
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    environment = {"PYTHONPATH": str(tmp_path), "WATCHED": str(tmp_path / "watched"), "MUJOCO_GL": ""}
    flags = ["--env", "cheetah_run", "--num_train_steps", 10, "--num_seed_steps", 10, "--num_eval_episodes", 1]
    command = [sys.executable, str(ROOT / "train.py"), *map(str, flags), *SMALL, "--save_video"]  # a fresh interpreter
    result = subprocess.run(command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True)
    assert result.returncode == 0 and result.stderr == ""
    *probes, run = (tmp_path / "watched").read_text().split()  # a probe is a process that tries one renderer
    assert run == probes[-1] != "disabled"


@pytest.mark.parametrize(
    "flags, named",
    [
        (
            ["--env", "cheetah_rum"],
            "--env: there is no DM Control task or Gymnasium id 'cheetah_rum'; did you mean cheetah_run",
        ),
        (["--env", "CartPole-v1"], "--env"),
        (["--env", "cheetah_run", "--chunk_size", "0"], "--chunk_size"),
        (["--env", "cheetah_run", "--device", "cuda:77"], "--device"),
        (["--env", "cheetah_run", "--device", "abacus"], "--device"),
        (["--env", "cheetah_run", "--device", "meta"], "--device: meta is not one of cpu, cuda, mps"),
        (["--env", "cheetah_run", "--device", "hpu"], "--device: hpu is not usable here"),
        (["--env", "cheetah_run", "--video_camera", "top"], "has no camera 'top'; its cameras are 0 side, 1 back"),
        (["--env", "Pendulum-v1", "--video_camera", "0"], "--video_camera: Pendulum-v1 has no cameras"),
        (["--env", "cheetah_run", "--action_repeat", "2", "--video_fps", "51"], "than the 50 steps per second"),
    ],
)
def test_a_bad_flag_gives_one_sentence_and_no_directory(tmp_path, flags, named):
    result = train(tmp_path, *flags)
    assert result.returncode == 2 and result.stdout == ""
    (sentence,) = result.stderr.splitlines()
    assert named in sentence
    assert os.listdir(tmp_path) == []


def test_a_wrong_mujoco_is_named_with_its_pin(tmp_path):
    metadata = tmp_path / "site" / "mujoco-4.0.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: mujoco\nVersion: 4.0.0\n")
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    result = train(cwd, "--env", "cheetah_run", "--no-save_video", PYTHONPATH=str(metadata.parent.parent))
    assert result.returncode == 2
    (sentence,) = result.stderr.splitlines()
    assert "mujoco 4.0.0" in sentence and "mujoco==3.17.0" in sentence
    assert os.listdir(cwd) == []
