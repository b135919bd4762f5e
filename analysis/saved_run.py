"""A run that train.py left behind, as an agent that can play."""

import os
import pickle
from typing import NamedTuple

import torch

from agent import SACAgent
from envs import make_env
from errors import UsageError
from storage.checkpoint import CheckpointError, Checkpoints
from storage.run_dir import read_flags


class SavedRun(NamedTuple):
    """An agent, the flags it was trained with, and the steps it was trained for."""

    agent: SACAgent
    flags: dict
    step: int


def load_run(run_dir, with_critics=False):
    """The agent of a run, on the CPU.

    Args:
        run_dir: the run's directory.
        with_critics: take the newest checkpoint, which holds the whole agent. Otherwise it has the policy alone, of
            policy.pt, or of the newest checkpoint of a run that has not finished.

    Raises:
        UsageError: there is neither, or it does not belong to the task that args.json names.
    """
    flags = read_flags(run_dir)
    path = os.path.join(run_dir, "policy.pt")
    if os.path.exists(path) and not with_critics:
        try:
            policy = torch.load(path, weights_only=True, map_location="cpu")
            env_name, step, weights = policy["args"]["env"], policy["args"]["num_train_steps"], policy["actor"]
        except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is damaged, or not a policy") from error
    else:
        try:
            step, state, _ = Checkpoints(run_dir).load()
        except CheckpointError as error:
            problem = "has no critics" if with_critics else "has not finished and cannot be played"
            raise UsageError(f"{run_dir} {problem}: {error}") from error
        env_name, weights = state["flags"]["env"], state["agent"]["actor"]
    if env_name != flags["env"]:
        raise UsageError(f"{run_dir} is a run of {flags['env']}, but its policy is one of {env_name}")
    env = make_env(flags["env"], flags["action_repeat"])
    sizes = env.observation_space.shape[0], env.action_space.shape[0]
    try:
        agent = SACAgent.from_flags(*sizes, flags | {"device": "cpu"})
    except KeyError as error:
        raise UsageError(f"{run_dir} is of another version of train.py: its args.json has no {error}") from error
    try:
        if with_critics:
            agent.load_state_dict(state["agent"])
        else:
            agent.actor.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"{run_dir}: the policy does not fit {flags['env']} and the flags in args.json") from error
    return SavedRun(agent, flags, step)
