"""Normalised observations in whole runs: what is counted, and what resuming and evaluating do with it."""

import json
import signal
from pathlib import Path

import pytest
import torch

import train
from analysis.saved_run import load_run
from cli import parse_train_args
from errors import UsageError
from launch.machine import resolve
from tests.envs.scripted import episode_length
from tests.helpers import SMALL, assert_equal, trajectory
from train import Workspace

SCRIPTED = ["--env", "tests.envs.scripted:Scripted-v0", "--num_train_steps", 50, "--num_seed_steps", 20]
PENDULUM = ["--env", "Pendulum-v1", "--num_train_steps", 500, "--num_seed_steps", 100]  # episodes of 200 steps
OLD_RECORD = Path(__file__).parents[2] / "results/first_evidence/cheetah_run-adaptive-s1/args.json"
FLAGS = ["--normalize_observations", "--num_eval_episodes", 1, "--log_frequency", 1, *SMALL]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Makes a run in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def make(*flags, run_dir=None, stop=()):
        argv = [str(f) for f in [*FLAGS, *flags]]
        return Workspace(resolve(parse_train_args(argv)[0]), run_dir, stop)

    return make


def statistics(run):
    return {name: buffer.clone() for name, buffer in run.agent.actor.normalizer.named_buffers()}


def counted(steps):
    """The observations of so many steps, each once: 0 at a reset, t after the t-th step."""
    observations, episode = [], 0
    while steps > 0:
        episode += 1
        length = min(steps, episode_length(episode))
        observations += range(length + 1)
        steps -= length
    return torch.tensor(observations, dtype=torch.float64)


def test_each_observation_of_training_is_counted_once(workspace):
    """Evaluations in between add none."""
    run = workspace(*SCRIPTED, "--eval_frequency", 5)
    assert run.train() == 0
    observations, found = counted(50), statistics(run)
    assert found["count"] == len(observations) == 58
    torch.testing.assert_close(found["mean"], observations.mean().expand(3))
    torch.testing.assert_close(found["m2"] / 58, observations.var(unbiased=False).expand(3))
    saved = torch.load(f"{run.run_dir}/policy.pt", weights_only=True)["actor"]
    assert all(torch.equal(saved[f"normalizer.{name}"], buffer) for name, buffer in found.items())
    # Normalised at use: what is stored is as the environment gave it.
    stored = torch.from_numpy(run.buffer.rows[: run.buffer.size, :3]).double()
    assert torch.equal(stored, observations[:, None].expand(-1, 3))


@pytest.mark.parametrize("is_new", [False, True])  # new: of a repeated step before the one that diverged
def test_the_last_observation_is_not_counted_again_when_the_simulation_diverges(workspace, monkeypatch, is_new):
    run, step = workspace(*SCRIPTED), train.checked_step

    def diverging_step(env, action, where):
        result = step(env, action, where)
        return (run.obs + is_new, 0.0, True, False, {"diverged": True}) if where == "step 3" else result

    monkeypatch.setattr(train, "checked_step", diverging_step)
    assert run.train() == 0
    assert statistics(run)["count"] == 50 - 1 + is_new + run.episode


def test_a_resumed_run_is_the_undisturbed_one(workspace, tmp_path):
    whole = workspace(*PENDULUM)
    assert whole.train() == 0
    stop = []
    run = workspace(*PENDULUM, stop=stop)
    collect = run.collect

    def collect_and_stop():
        collect()
        if run.step == 150:
            stop.append(signal.SIGTERM)

    run.collect = collect_and_stop
    assert run.train() == 128 + signal.SIGTERM and run.step == 200
    again = workspace(*PENDULUM, run_dir=run.run_dir)
    assert again.train() == 0
    assert_equal(trajectory(tmp_path / again.run_dir), trajectory(tmp_path / whole.run_dir))
    assert again.agent.actor.normalizer.count == 503


def test_a_run_of_the_time_before_there_were_statistics_is_refused(workspace):
    """By the name of a flag that only its time had."""
    run = workspace(*SCRIPTED)
    assert run.train() == 0
    with open(OLD_RECORD) as file:
        flags = json.load(file)["args"]
    path = f"{run.run_dir}/args.json"
    with open(path) as file:
        record = json.load(file)
    with open(path, "w") as file:
        json.dump(record | {"args": flags}, file)
    with pytest.raises(UsageError, match="args.json .*--learnable_noise_correlation is a flag of another version"):
        load_run(run.run_dir)


def test_a_policy_without_statistics_is_refused(workspace):
    run = workspace(*SCRIPTED)
    assert run.train() == 0
    path = f"{run.run_dir}/policy.pt"
    policy = torch.load(path, weights_only=True)
    policy["actor"] = {name: weight for name, weight in policy["actor"].items() if "normalizer" not in name}
    torch.save(policy, path)
    with pytest.raises(UsageError, match="the policy does not fit tests.envs.scripted:Scripted-v0"):
        load_run(run.run_dir)


def test_playing_counts_nothing_and_uses_the_statistics(workspace):
    run = workspace(*SCRIPTED)
    assert run.train() == 0
    before = statistics(run)
    agent = load_run(run.run_dir).agent
    obs = [1.0, 2.0, 3.0]
    assert (agent.plan(obs, False).actions == run.agent.plan(obs, False).actions).all()
    assert all(torch.equal(buffer, before[name]) for name, buffer in agent.actor.normalizer.named_buffers())
