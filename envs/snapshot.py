"""The same moment of an episode, lived more than once."""

import copy

import gymnasium as gym
import numpy as np

from envs.dm_control import DMControlEnv


def snapshot(env):
    """All that the rest of the episode depends on but the actions. An environment may offer `snapshot()` itself."""
    return [layer.snapshot() if hasattr(layer, "snapshot") else _copy(layer) for layer in _layers(env)]


def restore(env, state):
    """Go back to what `snapshot` gave, within the same episode, as often as you like."""
    for layer, saved in zip(_layers(env), state, strict=True):
        if hasattr(layer, "restore"):
            layer.restore(saved)
        else:
            vars(layer).update(copy.deepcopy(saved))


def reseed(env, seed):
    """Start the random stream of the running episode anew."""
    task = env.unwrapped
    if isinstance(task, DMControlEnv):
        task.task_random.seed(seed)
    task.np_random = np.random.default_rng(seed)


def _layers(env):
    layers = [env]
    while isinstance(layers[-1], gym.Wrapper):
        layers.append(vars(layers[-1])["env"])
    return layers


def _copy(layer):
    return copy.deepcopy({name: value for name, value in vars(layer).items() if name != "env"})
