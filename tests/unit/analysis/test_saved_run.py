"""load_run on directories that are written here."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis.saved_run import load_run
from cli import parse_train_args
from config import as_json
from errors import UsageError
from replay_buffer import ReplayBuffer
from storage.checkpoint import Checkpoints
from storage.policy import save_policy

ENV = "tests.envs.scripted:Scripted-v0"
OBS, ACTION = 3, 2


@pytest.fixture
def run(tmp_path, make_agent):
    """A finished run of 80 steps with a checkpoint of step 60, whose actors differ."""
    argv = f"--env {ENV} --chunk_size 3 --num_train_steps 90 --num_seed_steps 20 --batch_size 16 --hidden_dim 32"
    args = as_json(parse_train_args(argv.split())[0])
    (tmp_path / "args.json").write_text(json.dumps({"args": args}))
    torch.manual_seed(1)
    early, late = (make_agent(OBS, ACTION, "--chunk_size", "3") for _ in range(2))
    state = {"flags": args, "agent": early.state_dict()}
    buffer = ReplayBuffer(OBS, ACTION, 100, 3, 0.99, False, "cpu", np.random.default_rng(0))
    Checkpoints(tmp_path).save(60, state, buffer)
    save_policy(tmp_path, late.actor.state_dict(), args, OBS, ACTION, step=80)
    return SimpleNamespace(path=tmp_path, args=args, early=early, late=late, buffer=buffer, state=state)


def same(actor, other):
    return all(torch.equal(p, q) for p, q in zip(actor.parameters(), other.parameters(), strict=True))


def test_the_policy_and_its_own_step(run):
    agent, config, step = load_run(str(run.path))
    assert step == 80 and config.chunk_size == 3 and same(agent.actor, run.late.actor)


def test_the_checkpoint_where_critics_are_needed_or_there_is_no_policy(run):
    agent, _, step = load_run(str(run.path), with_critics=True)
    assert step == 60 and same(agent.actor, run.early.actor) and same(agent.critic, run.early.critic)
    (run.path / "policy.pt").unlink()
    agent, _, step = load_run(str(run.path))
    assert step == 60 and same(agent.actor, run.early.actor)


def test_the_checkpoint_of_a_run_that_was_continued_after_its_policy(run):
    Checkpoints(run.path).save(90, run.state, run.buffer)
    agent, _, step = load_run(str(run.path))
    assert step == 90 and same(agent.actor, run.early.actor)


def edit(run, **changes):
    args = json.loads((run.path / "args.json").read_text())["args"] | changes
    (run.path / "args.json").write_text(json.dumps({"args": {k: v for k, v in args.items() if v != "gone"}}))


@pytest.mark.parametrize("with_critics", [False, True])
@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"action_repeat": 4}, "--action_repeat is saved as 1, not 4"),
        ({"discount": 0.5}, "--discount is saved as 0.99, not 0.5"),
        ({"env": "Pendulum-v1"}, f"--env is saved as {ENV}, not Pendulum-v1"),
        ({"hidden_dim": "32"}, "--hidden_dim: '32' is not a number"),
        ({"chunk_size": "gone"}, "--chunk_size is missing"),
        ({"new_flag": 1}, "--new_flag is a flag of another version"),
    ],
)
def test_flags_that_are_not_those_of_the_policy_are_named(run, with_critics, changes, sentence):
    edit(run, **changes)
    with pytest.raises(UsageError) as caught:
        load_run(str(run.path), with_critics)
    assert sentence in str(caught.value)


def test_flags_that_a_resumed_run_may_change_are_free(run):
    edit(run, num_train_steps=500, video_size=64, device="cuda")
    assert load_run(str(run.path)).step == 80


@pytest.mark.parametrize("with_critics", [False, True])
def test_weights_that_are_not_finite_are_refused(run, with_critics):
    for agent in (run.early, run.late):
        next(agent.actor.parameters()).data.view(-1)[0] = float("nan")
    save_policy(run.path, run.late.actor.state_dict(), run.args, OBS, ACTION, step=80)
    Checkpoints(run.path).save(60, run.state | {"agent": run.early.state_dict()}, run.buffer)
    with pytest.raises(UsageError, match="the weights of the policy are not all finite"):
        load_run(str(run.path), with_critics)


@pytest.mark.parametrize("state", [{}, {"flags": 1, "agent": {}}, {"flags": {}, "agent": "text"}])
def test_a_checkpoint_of_something_else_is_refused(run, state):
    Checkpoints(run.path).save(70, state, run.buffer)
    with pytest.raises(UsageError, match="the newest checkpoint does not hold an agent and its flags"):
        load_run(str(run.path), with_critics=True)


@pytest.mark.parametrize("agent", [{}, {"actor": 1}, {"actor": {}, "critic": {}}])
def test_an_agent_of_other_types_is_refused(run, agent):
    Checkpoints(run.path).save(70, run.state | {"agent": agent}, run.buffer)
    (run.path / "policy.pt").unlink()
    for with_critics in (False, True):
        with pytest.raises(UsageError, match="the policy does not fit"):
            load_run(str(run.path), with_critics)


def test_flags_that_make_no_agent_are_refused(run):
    wrong = run.args | {"env": "CartPole-v1"}  # whose actions are not real numbers
    edit(run, env="CartPole-v1")
    save_policy(run.path, run.late.actor.state_dict(), wrong, OBS, ACTION, step=80)
    with pytest.raises(UsageError, match="cannot be played with the flags in its args.json"):
        load_run(str(run.path))
