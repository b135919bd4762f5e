"""The agent of a run directory, ready to play."""

import warnings
from typing import NamedTuple

from agent import SACAgent
from config import Config, differing_flags
from envs import EnvError, make_env
from errors import UsageError
from storage.checkpoint import CheckpointError, Checkpoints
from storage.policy import load_policy
from storage.run_dir import read_config


class SavedRun(NamedTuple):
    """An agent, its configuration, and the steps it was trained for."""

    agent: SACAgent
    config: Config
    step: int


def load_run(run_dir, with_critics=False):
    """The agent of a run, on the CPU.

    Args:
        run_dir: the run's directory.
        with_critics: take the newest checkpoint, which holds the whole agent. Otherwise it has the policy alone, of
            policy.pt or of the newest checkpoint, whichever is newer.

    Raises:
        UsageError: there is neither, the flags saved with it are not those of args.json, or its weights do not fit
            the task or are not finite.
    """
    config = read_config(run_dir)
    policy = None if with_critics else load_policy(run_dir)
    try:
        step, saved_flags, state = _newest_checkpoint(run_dir, with_critics)
    except UsageError:
        if policy is None:
            raise
        step = -1
    if policy is not None and policy.step >= step:  # else the run has been continued since
        step, saved_flags, state = policy.step, policy.flags, {"actor": policy.actor}
    # The flags saved with the weights decide: args.json can be edited by hand.
    if differing := differing_flags(saved_flags, config):
        raise UsageError(f"{run_dir}/args.json has other flags than the policy beside it: {', '.join(differing)}")
    agent = _build_agent(run_dir, config)
    try:
        if with_critics:
            agent.load_state_dict(state)
        else:
            agent.actor.load_state_dict(state["actor"])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"{run_dir}: the policy does not fit {config.env} and the flags in args.json") from error
    if not agent.is_finite():
        raise UsageError(f"{run_dir}: the weights of the policy are not all finite")
    return SavedRun(agent, config, step)


def _newest_checkpoint(run_dir, with_critics):
    """(step, flags, state of the agent)."""
    try:
        step, state, problems = Checkpoints(run_dir).load()
    except CheckpointError as error:
        problem = "has no critics" if with_critics else "has not finished and cannot be played"
        raise UsageError(f"{run_dir} {problem}: {error}") from error
    for problem in problems:
        warnings.warn(problem, stacklevel=1)
    flags, agent = state.get("flags"), state.get("agent")
    if not (isinstance(flags, dict) and isinstance(agent, dict)):
        raise UsageError(f"{run_dir}: the newest checkpoint does not hold an agent and its flags")
    return step, flags, agent


def _build_agent(run_dir, config):
    problem = f"{run_dir} cannot be played with the flags in its args.json"
    try:
        env = make_env(config.env, config.action_repeat)
    except EnvError as error:
        raise UsageError(f"{problem}: {error}") from error
    try:
        return SACAgent(env.observation_space.shape[0], env.action_space.shape[0], config, "cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{problem}: {reason}") from error
