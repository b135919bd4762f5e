"""Snapshot and restore an environment in the middle of an episode."""

import copy

import gymnasium as gym

from envs.task import task_of


def snapshot(env):
    """The state of env in a running episode: all that its future depends on but the actions.

    Uses the environment's own `snapshot()` if it has one, else copies its attributes with `copy.deepcopy`.
    """
    if hasattr(env, "snapshot"):
        return env.snapshot()
    own = copy.deepcopy({name: value for name, value in vars(env).items() if name != "env"})
    return own, snapshot(env.env) if isinstance(env, gym.Wrapper) else None


def restore(env, state):
    """Restore what `snapshot` returned in the same episode. A state can be restored any number of times."""
    if hasattr(env, "restore"):
        env.restore(state)
        return
    own, below = state
    vars(env).update(copy.deepcopy(own))
    if isinstance(env, gym.Wrapper):
        restore(env.env, below)


def reseed(env, seed):
    """Restart the random stream of the running episode from seed."""
    task_of(env).reseed(seed)
