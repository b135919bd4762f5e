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
    own = copy.deepcopy({name: vars(env)[name] for name in _own_attributes(env)})
    return own, snapshot(env.env) if isinstance(env, gym.Wrapper) else None


def restore(env, state):
    """Restore what `snapshot` returned in the same episode. A state can be restored any number of times."""
    if hasattr(env, "restore"):
        env.restore(state)
        return
    own, below = state
    for name in _own_attributes(env) - own.keys():  # set since then
        del vars(env)[name]
    vars(env).update(copy.deepcopy(own))
    if isinstance(env, gym.Wrapper):
        restore(env.env, below)


def _own_attributes(env):
    """Names of the attributes of an environment, of a wrapper without those of the environment in it."""
    return vars(env).keys() - ({"env"} if isinstance(env, gym.Wrapper) else set())


def reseed(env, seed):
    """Restart the random stream of the running episode from seed."""
    task_of(env).reseed(seed)
