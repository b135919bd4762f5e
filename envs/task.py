"""The interface that this package needs of an environment beyond `gymnasium.Env`."""

import abc
import math

import numpy as np


class Task(abc.ABC):
    """The random streams and the time limit of an environment.

    Attributes:
        max_episode_steps: control steps after which an episode is truncated; infinite if there is no known limit.
    """

    max_episode_steps = math.inf

    @abc.abstractmethod
    def random_state(self):
        """The state of the random streams, as a dict of plain data."""

    @abc.abstractmethod
    def set_random_state(self, state):
        """Restore what `random_state` returned."""

    @abc.abstractmethod
    def reseed(self, seed):
        """Restart the random stream of the running episode from seed."""


class GymnasiumTask(Task):
    """Adapter: the `Task` of an environment that only has the interface of Gymnasium.

    Args:
        env: the environment with its wrappers.
    """

    def __init__(self, env):
        self._env = env.unwrapped
        self.max_episode_steps = getattr(env.spec, "max_episode_steps", None) or math.inf

    def random_state(self):
        """See `Task`."""
        return {"env": _without_arrays(self._env.np_random.bit_generator.state)}

    def set_random_state(self, state):
        """See `Task`."""
        name = state["env"]["bit_generator"]
        if self._env.np_random.bit_generator.state["bit_generator"] != name:  # a new environment has numpy's default
            self._env.np_random = np.random.Generator(getattr(np.random, name)())
        self._env.np_random.bit_generator.state = state["env"]

    def reseed(self, seed):
        """See `Task`."""
        self._env.np_random = np.random.default_rng(seed)


def _without_arrays(state):
    """The state of a bit generator with lists in the place of arrays, which numpy takes as well."""
    if isinstance(state, dict):
        return {name: _without_arrays(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


def task_of(env):
    """The unwrapped environment if it is a `Task`, else an adapter."""
    return env.unwrapped if isinstance(env.unwrapped, Task) else GymnasiumTask(env)
