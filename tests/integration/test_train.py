"""The real command line, as a process of its own in an empty folder."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch

import train as train_module
from agent import SACAgent, compilation
from agent.chunking import Plan
from replay_buffer import ReplayBuffer
from tests.envs.scripted import episode_length, episode_return
from train import parse_args
from train import train as train_here

ROOT = Path(__file__).parent.parent.parent
SMALL = ["--hidden_dim", "32", "--batch_size", "16", "--no-save_video", "--no-log_save_tb"]


def train(cwd, *flags, **environment):
    command = [sys.executable, str(ROOT / "train.py"), *map(str, flags)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=os.environ | environment)


def run_dir(cwd, *flags):
    """The directory that a successful run left behind."""
    before = set(cwd.glob("exp/*"))
    result = train(cwd, *flags)
    assert result.returncode == 0, result.stderr
    (directory,) = set(cwd.glob("exp/*")) - before
    return directory


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


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


def test_a_run_leaves_everything_behind(cheetah, renderer):
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
    assert record["args"] == json.loads(json.dumps(vars(parse_args(["--env", "cheetah_run"])))) | {
        "num_train_steps": 3000,
        "eval_frequency": 2000,
        "num_eval_episodes": 2,
        "num_threads": 1,
        "compile": "off",
    }
    assert torch.__version__.startswith(record["versions"]["torch"])
    assert record["git_commit"] is None or re.match("[0-9a-f]{40}", record["git_commit"])


def test_the_evaluation_video_shows_the_task(cheetah, renderer):
    directory, _ = cheetah
    assert sorted(p.name for p in (directory / "video").iterdir()) == ["2000.mp4", "3000.mp4"]
    frames = [frame for frame in imageio.get_reader(directory / "video" / "2000.mp4")]
    assert len(frames) == 250 and frames[0].shape == (256, 256, 3)  # 10 s at 25 frames a second
    assert 20 < frames[0].mean() < 235 and frames[0].std() > 10
    assert np.abs(frames[0].astype(int) - frames[60]).max() > 50  # something moves


def test_a_resumed_run_may_be_filmed_from_elsewhere_in_other_frames(tmp_path, renderer):
    """An episode takes 10 s, whatever the frames a second."""
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
    expected = "critic_loss actor_loss alpha_loss confidence_loss alpha entropy q noise_correlation".split()
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
    assert lines[0] == f"run directory {Path('exp') / directory.name}"
    assert all(re.match(r"(train|eval ) \| ", line) for line in lines[1:]) and "\x1b" not in result.stdout


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


def trajectory(directory):
    timing = ("duration", "steps_per_second")
    policy = torch.load(directory / "policy.pt", weights_only=True)
    return [{k: v for k, v in r.items() if k not in timing} for r in rows(directory / "train.csv")], policy["actor"]


def assert_equal(first, second):
    assert first[0] == second[0]
    assert first[1].keys() == second[1].keys()
    assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])


def test_evaluation_does_not_touch_training(tmp_path):
    """Not by one bit, whenever and however long it is; another seed does."""
    flags = ["--env", "Pendulum-v1", "--num_train_steps", 650, "--num_seed_steps", 100, *SMALL]
    first = trajectory(run_dir(tmp_path, *flags, "--eval_frequency", 650, "--num_eval_episodes", 1))
    second = trajectory(run_dir(tmp_path, *flags, "--eval_frequency", 130, "--num_eval_episodes", 3))
    assert len(first[0]) == 3
    assert_equal(first, second)
    other = trajectory(run_dir(tmp_path, *flags, "--eval_frequency", 650, "--num_eval_episodes", 1, "--seed", 2))
    assert other[0] != first[0]


def test_runs_started_at_once_do_not_share_a_directory(tmp_path):
    flags = ["--env", "tests.envs.scripted:Scripted-v0", "--num_train_steps", "30", "--num_seed_steps", "30", *SMALL]
    command = [sys.executable, str(ROOT / "train.py"), *flags]
    processes = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [p.wait(timeout=120) for p in processes] == [0, 0, 0]
    directories = list(tmp_path.glob("exp/*"))
    assert len(directories) == 3
    assert all((d / "policy.pt").exists() and len(rows(d / "eval.csv")) == 1 for d in directories)


@pytest.fixture
def train_in_process(tmp_path, monkeypatch):
    """Runs train() here, so that its parts can be watched; 50 steps, 20 of them random, of the scripted environment."""
    monkeypatch.setenv("MUJOCO_GL", "disabled")  # the run sets it: restored afterwards
    monkeypatch.chdir(tmp_path)

    def run(*flags):
        steps = ["--env", "tests.envs.scripted:Scripted-v0", "--num_train_steps", 50, "--num_seed_steps", 20]
        train_here(parse_args([str(f) for f in [*steps, *SMALL, "--num_eval_episodes", 1, *flags]]))
        (directory,) = tmp_path.glob("exp/*")
        return directory

    return run


@pytest.mark.parametrize("updates_per_step, expected", [(0.3, 9), (0.5, 15), (1, 30), (2, 60)])
def test_updates_per_step(train_in_process, monkeypatch, updates_per_step, expected):
    updates, update = [], SACAgent.update
    monkeypatch.setattr(SACAgent, "update", lambda agent, batch: updates.append(1) or update(agent, batch))
    train_in_process("--updates_per_step", updates_per_step)
    assert len(updates) == expected


@pytest.mark.parametrize("updates_worth_it, choice", [(30, "on"), (31, "off")])
def test_auto_compiles_where_a_run_is_long_enough(train_in_process, monkeypatch, updates_worth_it, choice):
    compiled_from = []
    monkeypatch.setattr(train_module, "COMPILE_WORTH", updates_worth_it)
    monkeypatch.setattr(compilation, "has_compiler", lambda: True)
    monkeypatch.setattr(SACAgent, "update", lambda agent, batch: compiled_from.append(agent.compile_from) or {})
    directory = train_in_process()
    assert json.loads((directory / "args.json").read_text())["args"]["compile"] == choice
    assert set(compiled_from) == {train_module.COMPILE_FROM if choice == "on" else None}


def test_compile_on_needs_a_compiler(tmp_path):
    result = train(tmp_path, "--env", "Pendulum-v1", *SMALL, "--compile", "on", CXX="/nonexistent/c++")
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "--compile" in result.stderr
    assert not list(tmp_path.iterdir())


def test_collection_executes_plans_and_replays_every_step(train_in_process, monkeypatch):
    """Plans of 3 with two trusted steps: what reaches the replay buffer, step by step."""
    added, plan = [], Plan(np.array([[0.1, 0], [0.2, 0], [0.3, 0]], np.float32), np.array([1.0, 0.9, 0.1]))
    add = ReplayBuffer.add
    monkeypatch.setattr(ReplayBuffer, "add", lambda buffer, *step: added.append(step) or add(buffer, *step))
    monkeypatch.setattr(SACAgent, "plan", lambda agent, obs, sample: plan)
    directory = train_in_process("--chunk_size", 3, "--commit_epsilon", 0)
    assert len(added) == 50
    step, episode = 0, 0
    while step < 50:
        episode += 1
        for t in range(episode_length(episode)):
            if step == 50:
                break
            obs, action, reward, next_obs, terminated, truncated, steps_left = added[step]
            assert obs[0] == t and next_obs[0] == t + 1 and reward == 100 * episode + t + 1
            done = t + 1 == episode_length(episode)
            assert (terminated, truncated) == (done and episode % 3 == 2, done and episode % 3 != 2)
            if step < 20:  # random: one action for 3 steps
                assert steps_left == 3 - t % 3 and (t % 3 == 0 or (action == added[step - 1][1]).all())
            else:  # the fourth episode begins at step 20
                assert steps_left == 2 - t % 2 and action[0] == pytest.approx([0.1, 0.2][t % 2])
            step += 1
    assert float(rows(directory / "train.csv")[-1]["k"]) == 2
    assert float(rows(directory / "eval.csv")[-1]["k"]) == 2


@pytest.mark.parametrize(
    "name, environment",
    [
        ("Gusty-v0", {}),
        ("reacher_easy", {"MUJOCO_GL": "nonsense"}),
        ("quadruped_escape", {"MUJOCO_GL": "off"}),
    ],
)
def test_what_cannot_be_filmed_is_trained_all_the_same(tmp_path, name, environment):
    """The environment cannot render, or the machine cannot: one warning, no video, everything else."""
    flags = ["--num_train_steps", 50, "--num_seed_steps", 50, "--num_eval_episodes", 1]
    result = train(tmp_path, "--env", name, *flags, **environment)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("training without video") == 1
    (directory,) = tmp_path.glob("exp/*")
    assert not (directory / "video").exists() and (directory / "policy.pt").exists()


def test_help_is_fast_and_states_every_default():
    started = time.perf_counter()
    result = subprocess.run([sys.executable, str(ROOT / "train.py"), "--help"], capture_output=True, text=True)
    assert time.perf_counter() - started < 2
    assert result.returncode == 0
    text = result.stdout.split("options:")[1]
    flags = re.split(r"\n  (?=--)", text)[1:]
    assert len(flags) > 40
    for flag in flags:
        assert "default" in flag or flag.startswith("--env "), flag


NUMERIC = {
    "num_threads": ["0", "-1", "1.5"],
    "num_train_steps": ["0", "-5", "nan", "inf", "many"],
    "num_seed_steps": ["-1", "2000000"],
    "eval_frequency": ["0"],
    "num_eval_episodes": ["0"],
    "seed": ["-1", "0.5"],
    "action_repeat": ["0"],
    "chunk_size": ["0", "-3", "2.5", "five"],
    "confidence_threshold": ["-0.1", "1.1", "nan"],
    "confidence_margin": ["-1", "nan", "inf"],
    "noise_correlation": ["-0.1", "1", "nan"],
    "windows": ["some"],
    "commit_epsilon": ["-0.1", "1.5"],
    "discount": ["-0.1", "1", "nan"],
    "batch_size": ["0", "2000000"],
    "updates_per_step": ["0", "-1", "nan"],
    "replay_buffer_capacity": ["1", "0"],
    "init_temperature": ["0", "-1"],
    "target_entropy": ["nan", "inf"],
    "actor_lr": ["0", "-1e-3", "nan"],
    "confidence_lr": ["0"],
    "critic_lr": ["0"],
    "alpha_lr": ["0"],
    "actor_betas": ["0.9 1", "-0.1 0.9", "0.9"],
    "critic_betas": ["0.9 nan"],
    "alpha_betas": ["1 0.9"],
    "actor_update_frequency": ["0"],
    "critic_target_update_frequency": ["0"],
    "critic_tau": ["0", "1.1"],
    "hidden_dim": ["0"],
    "hidden_depth": ["0"],
    "actor_log_std_bounds": ["2 -5", "0 0", "nan 1"],
    "log_frequency": ["0"],
    "checkpoint_frequency": ["-1", "0.5"],
    "compile": ["maybe"],
    "resume": ["nowhere"],
    "video_size": ["15", "33"],
    "video_fps": ["0", "0.5", "nan"],
    "experiment": ["a/b", ""],
}


@pytest.mark.parametrize("name, value", [(n, v) for n, values in NUMERIC.items() for v in values])
def test_a_bad_value_is_refused(tmp_path, name, value):
    result = train(tmp_path, "--env", "cheetah_run", f"--{name}", *(value.split() or [""]))
    assert result.returncode == 2 and result.stdout == ""
    (sentence,) = result.stderr.splitlines()
    assert f"--{name}" in sentence
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "flags, named",
    [
        ([], "--env"),
        (
            ["--env", "cheetah_rum"],
            "--env: there is no DM Control task or Gymnasium id 'cheetah_rum'; did you mean cheetah_run",
        ),
        (["--env", "CartPole-v1"], "--env"),
        (["--env", "cheetah_run", "--frobnicate", "1"], "--frobnicate"),
        (["--env", "cheetah_run", "--chunk", "3"], "--chunk"),  # no abbreviations
        (["--env", "cheetah_run", "--chunk_size", "0"], "--chunk_size"),
        (["--env", "cheetah_run", "--seed", "4294967296"], "--seed: 4294967296 is not in"),
        (["--env", "cheetah_run", "--device", "cuda:77"], "--device"),
        (["--env", "cheetah_run", "--device", "abacus"], "--device"),
        (["--env", "cheetah_run", "--video_camera", "top"], "has no camera 'top'; its cameras are 0 side, 1 back"),
        (["--env", "Pendulum-v1", "--video_camera", "0"], "--video_camera: Pendulum-v1 has no cameras"),
        (["--env", "cheetah_run", "--action_repeat", "2", "--video_fps", "51"], "than the 50 steps per second"),
    ],
)
def test_a_mistake_costs_one_sentence_and_no_directory(tmp_path, flags, named):
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


def test_numbers_may_be_written_as_powers():
    args = parse_args(["--env", "x", "--num_train_steps", "2e6", "--critic_lr", "1e-4"])
    assert args.num_train_steps == 2_000_000 and isinstance(args.num_train_steps, int)
    assert args.critic_lr == 1e-4


def test_flags_of_the_published_configuration_and_switches():
    args = parse_args(
        "--env x --no-save_video --no-learnable_temperature --actor_betas 0.5 0.99 --actor_log_std_bounds -10 2".split()
    )
    assert not args.save_video and not args.learnable_temperature
    assert args.actor_betas == [0.5, 0.99] and args.actor_log_std_bounds == [-10, 2]
