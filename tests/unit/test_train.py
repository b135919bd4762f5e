"""The training loop of train.py, in this process, with an agent that only counts."""

import json
import os
import signal
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch

import train as train_module
from agent import compilation, fast_path
from agent.chunking import Plan
from agent.pink_noise import PinkNoise
from cli import parse_train_args
from errors import RunError, UsageError
from launch import machine
from launch.machine import resolve
from replay_buffer import ReplayBuffer
from storage.checkpoint import Checkpoints
from tests.envs.scripted import COLOUR, episode_length
from tests.helpers import SMALL, rows
from train import Workspace
from utils import numpy_generator

STEPS = ["--env", "tests.envs.scripted:Scripted-v0", "--num_train_steps", 50, "--num_seed_steps", 20]


class CountingAgent:
    """Plans the same three actions in every state, learns nothing, and counts its updates."""

    def __init__(self, obs_size, action_size, config, device):
        self.num_updates, self.actor = 0, torch.nn.Identity()
        self.sizes = obs_size, action_size

    def observe(self, obs):
        pass

    def plan(self, obs, sample, noise=None):
        actions = np.array([[0.1, 0], [0.2, 0], [0.3, 0]], np.float32)
        return Plan(actions, np.array([1.0, 0.9, 0.1], np.float32))

    def update(self, batch):
        self.num_updates += 1
        return {}

    def state_dict(self):
        return {"num_updates": self.num_updates}

    def load_state_dict(self, state):
        self.num_updates = state["num_updates"]

    def is_finite(self):
        return True


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Makes a workspace of 50 steps, 20 of them random; episodes of the environment have 7, 4, 9, 7, ... steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_module, "SACAgent", CountingAgent)
    monkeypatch.setattr(fast_path, "install", lambda agent, *options: None)

    def make(*flags, run_dir=None, stop=()):
        argv = [str(f) for f in [*STEPS, *SMALL, "--num_eval_episodes", 1, "--chunk_size", 3, *flags]]
        return Workspace(resolve(parse_train_args(argv)[0]), run_dir, stop)

    return make


@pytest.mark.parametrize("updates_per_step, expected", [(0.3, 9), (0.5, 15), (1, 30), (2, 60)])
def test_updates_per_step(workspace, updates_per_step, expected):
    run = workspace("--updates_per_step", updates_per_step)
    assert run.train() == 0 and run.agent.num_updates == expected


def test_cadences(workspace, monkeypatch):
    """Evaluations at their step, checkpoints at the next end of an episode: 7, 11, 20, 27, 31, 40, 47."""
    saved = []
    monkeypatch.setattr(Checkpoints, "save", lambda self, step, state, buffer: saved.append((step, state["episode"])))
    run = workspace("--eval_frequency", 15, "--checkpoint_frequency", 12)
    assert run.train() == 0
    assert [row["step"] for row in rows(f"{run.run_dir}/eval.csv")] == ["15", "30", "45", "50"]
    assert [row["step"] for row in rows(f"{run.run_dir}/train.csv")] == ["7", "11", "20", "27", "31", "40", "47"]
    assert saved == [(0, 1), (20, 4), (40, 7)]


def test_the_shares_of_wall_time_and_the_duration_of_an_episode(workspace, monkeypatch):
    """On a clock that only the sections move: 1 per step, 2 per batch, 3 per update, 50, 100."""
    now = [0.0]

    def takes(owner, name, seconds):
        function = getattr(owner, name)

        def slow(*args, **kwargs):
            now[0] += seconds
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, slow)

    for clock in ("utils.perf_counter", "train.time.perf_counter"):
        monkeypatch.setattr(clock, lambda: now[0])
    takes(ReplayBuffer, "add", 1)
    takes(ReplayBuffer, "sample", 2)
    takes(CountingAgent, "update", 3)
    takes(Checkpoints, "save", 50)
    takes(train_module, "evaluate", 100)
    run = workspace("--eval_frequency", 15, "--checkpoint_frequency", 12)
    assert run.train() == 0
    # Episodes of 9 and 7 steps; evaluation at step 15, checkpoint after step 20, seed steps up to there.
    expected = {"20": [9, 0, 0, 100, 0], "27": [7, 14, 21, 0, 50]}
    for row in rows(f"{run.run_dir}/train.csv"):
        if seconds := expected.pop(row["step"], None):
            shares = [float(row[f"share_{name}"]) for name in train_module.SECTIONS]
            assert shares == pytest.approx([value / sum(seconds) for value in seconds])
            assert float(row["duration"]) == sum(seconds[:3])  # without evaluations
    assert not expected


@pytest.mark.parametrize("overlay, height", [("--video_overlay", 60), ("--no-video_overlay", 48)])
def test_the_overlay_of_a_video_can_be_left_out(workspace, overlay, height):
    """The environment's frames have 48 rows of one colour; the plan is drawn into 12 more below them."""
    run = workspace("--save_video", overlay)
    assert run.train() == 0
    frame = next(iter(imageio.get_reader(f"{run.run_dir}/video/50.mp4")))
    assert frame.shape == (height, 64, 3) and np.abs(frame[:48].mean((0, 1)) - COLOUR).max() < 6


def test_no_checkpoints_and_no_early_stop_file(workspace):
    run = workspace("--checkpoint_frequency", 0)
    assert run.train() == 0 and not os.path.exists(f"{run.run_dir}/checkpoints")


def test_a_resumed_run_keeps_its_cadences(workspace):
    stop = []
    run = workspace("--eval_frequency", 15, "--checkpoint_frequency", 12, stop=stop)
    collect = run.collect

    def collect_and_stop():
        collect()
        if run.step == 25:  # inside the fourth episode, of steps 21 to 27
            stop.append(signal.SIGTERM)

    run.collect = collect_and_stop
    assert run.train() == 128 + signal.SIGTERM and run.step == 27
    again = workspace("--eval_frequency", 15, "--checkpoint_frequency", 12, run_dir=run.run_dir)
    assert again.train() == 0 and again.agent.num_updates == 30
    assert [row["step"] for row in rows(f"{run.run_dir}/eval.csv")] == ["15", "30", "45", "50"]
    assert [row["episode"] for row in rows(f"{run.run_dir}/train.csv")][:5] == ["1", "2", "3", "4", "5"]


def test_a_signal_right_after_the_last_chance_to_save_stops_at_the_next(workspace, monkeypatch):
    """Between the check for a checkpoint and the check for the end nothing may be lost."""
    stop = []
    run = workspace("--checkpoint_frequency", 1000, stop=stop)
    checkpoint_if_due = run.checkpoint_if_due

    def checkpoint_and_signal():
        checkpoint_if_due()
        if run.step == 20:
            stop.append(signal.SIGTERM)

    run.checkpoint_if_due = checkpoint_and_signal
    assert run.train() == 128 + signal.SIGTERM and run.step == 27
    assert os.path.exists(f"{run.run_dir}/checkpoints/000000000027.checkpoint")


def test_without_checkpoints_a_signal_ends_the_run_inside_the_episode(workspace, capsys):
    """There is nothing to save at its end."""
    stop = []
    run = workspace("--checkpoint_frequency", 0, stop=stop)
    collect = run.collect

    def collect_and_stop():
        collect()
        if run.step == 23:  # of the episode of steps 21 to 27
            stop.append(signal.SIGTERM)

    run.collect = collect_and_stop
    assert run.train() == 128 + signal.SIGTERM and run.step == 23 and not run.episode_over
    assert "stopped at step 23; no checkpoint was saved" in capsys.readouterr().out
    assert not os.path.exists(f"{run.run_dir}/policy.pt") and not os.path.exists(f"{run.run_dir}/checkpoints")


@pytest.mark.parametrize(
    "frequency, what", [(10, "continue with: python train.py --resume"), (0, "no checkpoint was saved")]
)
def test_a_signal_before_the_first_step_ends_the_run_there(workspace, capsys, frequency, what):
    run = workspace("--checkpoint_frequency", frequency, stop=[signal.SIGINT])
    assert run.train() == 128 + signal.SIGINT and run.step == 0
    assert not os.path.exists(f"{run.run_dir}/policy.pt")
    assert f"stopped at step 0; {what}" in capsys.readouterr().out


def test_an_error_closes_the_log(workspace, monkeypatch):
    run = workspace("--log_save_tb")

    def fail():
        raise RunError("no step")

    monkeypatch.setattr(run, "collect", fail)
    with pytest.raises(RunError, match="no step"):
        run.train()
    (events,) = Path(run.run_dir).glob("events.*")
    assert b"session_end_info" in events.read_bytes()


def test_a_workspace_leaves_the_process_alone(workspace):
    def state():
        signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return signals, torch.get_num_threads(), dict(os.environ)

    before = state()
    run = workspace("--num_threads", 7)
    config = run.config
    assert run.train() == 0
    assert state() == before and run.config is config


def test_a_held_random_action_is_no_plan_of_the_policy(workspace, monkeypatch):
    """Seed steps end inside a held chunk: its third step, the 23rd, is none of the policy's."""
    planned = []
    add = ReplayBuffer.add
    monkeypatch.setattr(ReplayBuffer, "add", lambda buffer, *step: planned.append(step[7]) or add(buffer, *step))
    workspace("--num_seed_steps", 22).train()
    assert planned == [False] * 23 + [True] * 27


def test_a_replay_buffer_that_is_too_short_or_too_long_is_refused(workspace, tmp_path):
    with pytest.raises(UsageError, match="^argument --replay_buffer_capacity: a capacity of 6 is below chunk_size"):
        workspace("--replay_buffer_capacity", 6, "--batch_size", 4)
    with pytest.raises(UsageError, match="^argument --replay_buffer_capacity: .* GB of memory; there are"):
        workspace("--replay_buffer_capacity", "1e12", "--num_train_steps", "1e12")
    assert not (tmp_path / "exp").exists()


def test_collection_executes_plans_and_replays_every_step(workspace, monkeypatch):
    """Plans of 3 with two trusted steps: what reaches the replay buffer, step by step."""
    added = []
    add = ReplayBuffer.add
    monkeypatch.setattr(ReplayBuffer, "add", lambda buffer, *step: added.append(step) or add(buffer, *step))
    run = workspace("--commit_epsilon", 0)
    run.train()
    assert len(added) == 50
    step, episode = 0, 0
    while step < 50:
        episode += 1
        for t in range(min(episode_length(episode), 50 - step)):
            obs, action, reward, next_obs, terminated, truncated, rest, planned = added[step]
            assert obs[0] == t and next_obs[0] == t + 1 and reward == 100 * episode + t + 1
            done = t + 1 == episode_length(episode)
            assert (terminated, truncated) == (done and episode % 3 == 2, done and episode % 3 != 2)
            assert planned == (step >= 20)
            if step < 20:  # random: one action for 3 steps
                assert len(rest) == 2 - t % 3 and (rest == action).all()
                assert t % 3 == 0 or (action == added[step - 1][1]).all()
            else:  # the fourth episode begins at step 20
                assert [a[0] for a in (action, *rest)] == pytest.approx([[0.1, 0.2], [0.2]][t % 2])
            step += 1
    assert float(rows(f"{run.run_dir}/train.csv")[-1]["k"]) == 2
    assert float(rows(f"{run.run_dir}/eval.csv")[-1]["k"]) == 2


def test_pink_noise_is_one_sequence_per_episode(workspace, monkeypatch):
    """A plan made after t steps of an episode takes its entries from t on; each episode has its own, seed steps too."""
    run = workspace("--commit_epsilon", 0)
    taken, plan = [], run.agent.plan

    def recording_plan(obs, sample, noise=None):
        if sample:  # an evaluation does not
            taken.append(noise)
        return plan(obs, sample)

    monkeypatch.setattr(run.agent, "plan", recording_plan)
    run.train()
    noise = PinkNoise(np.inf, 3, 2, numpy_generator(1, "exploration"))
    step, episode, expected = 0, 0, []
    while step < 50:
        episode += 1
        noise.reset()
        length = min(episode_length(episode), 50 - step)
        expected += [noise.at(t) for t in range(0, length, 2) if step >= 20]  # plans of two executed steps
        step += length
    assert len(taken) == len(expected) and all((a == b).all() for a, b in zip(taken, expected, strict=True))


def test_plain_sac_explores_with_independent_noise(workspace, monkeypatch):
    run = workspace("--chunk_size", 1)
    taken, plan = [], run.agent.plan

    def recording_plan(obs, sample, noise=None):
        if sample:
            taken.append(noise)
        return plan(obs, sample)

    monkeypatch.setattr(run.agent, "plan", recording_plan)
    run.train()
    assert set(taken) == {None}


@pytest.mark.parametrize(
    "flags, updates_worth_it, choice, installed",
    [
        ([], 30, "on", [compilation.COMPILE_FROM]),
        ([], 31, "off", [None]),
        (["--no-fast_path"], 30, "off", []),
    ],
)
def test_auto_compiles_where_a_run_is_long_enough(workspace, monkeypatch, flags, updates_worth_it, choice, installed):
    compiled_from = []
    monkeypatch.setattr(machine, "COMPILE_WORTH", updates_worth_it)
    monkeypatch.setattr(compilation, "has_compiler", lambda: True)
    monkeypatch.setattr(fast_path, "install", lambda agent, compile_from, *_: compiled_from.append(compile_from))
    run = workspace(*flags)
    assert run.config.compile == choice and run.train() == 0 and compiled_from == installed
    with open(f"{run.run_dir}/args.json") as file:
        assert json.load(file)["args"]["compile"] == choice


@pytest.mark.parametrize("fails", [False, True])
def test_a_compilation_is_announced_if_there_is_one(workspace, monkeypatch, capsys, fails):
    monkeypatch.setattr(compilation, "COMPILE_FROM", 20)
    monkeypatch.setattr(compilation, "has_compiler", lambda: True)
    monkeypatch.setattr(fast_path, "install", lambda *options: options[-1]("a reason") if fails else None)
    assert workspace("--compile", "on").train() == 0
    out = capsys.readouterr().out
    assert out.count("compiling the update") == (0 if fails else 1)
    assert (", not compiled (a reason), " if fails else ", compiled after 20 updates, ") in out


def test_the_reference_cannot_be_compiled(workspace):
    with pytest.raises(UsageError, match="^argument --compile: on needs --fast_path"):
        workspace("--compile", "on", "--no-fast_path")
