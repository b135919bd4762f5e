"""Snapshot and restore an environment in the middle of an episode."""

import copy

import gymnasium as gym

from envs.task import task_of


def snapshot(env):
    """All that the rest of the episode depends on but the actions. An environment may offer `snapshot()` itself."""
    if hasattr(env, "snapshot"):
        return env.snapshot()
    own = copy.deepcopy({name: value for name, value in vars(env).items() if name != "env"})
    return own, snapshot(env.env) if isinstance(env, gym.Wrapper) else None


def restore(env, state):
    """Go back to what `snapshot` gave, within the same episode, any number of times."""
    if hasattr(env, "restore"):
        env.restore(state)
        return
    own, below = state
    vars(env).update(copy.deepcopy(own))
    if isinstance(env, gym.Wrapper):
        restore(env.env, below)


def reseed(env, seed):
    """Start the random stream of the running episode anew."""
    task_of(env).reseed(seed)
