"""What the package asks of an environment beyond `gymnasium.Env`, whichever kind it is."""

import abc
import math

import numpy as np


class Task(abc.ABC):
    """The random streams and the time limit of an environment.

    Attributes:
        max_episode_steps: control steps after which an episode is truncated; infinite where nothing says so.
    """

    max_episode_steps = math.inf

    @abc.abstractmethod
    def random_state(self):
        """The state of the random stream, as a dict of plain data."""

    @abc.abstractmethod
    def set_random_state(self, state):
        """Take over what `random_state` gave."""

    @abc.abstractmethod
    def reseed(self, seed):
        """Start the random stream of the running episode anew."""


class GymnasiumTask(Task):
    """The same for an environment that knows Gymnasium only.

    Args:
        env: the environment with its wrappers.
    """

    def __init__(self, env):
        self._env = env.unwrapped
        self.max_episode_steps = getattr(env.spec, "max_episode_steps", None) or math.inf

    def random_state(self):
        """See `Task`."""
        return {"env": self._env.np_random.bit_generator.state}

    def set_random_state(self, state):
        """See `Task`."""
        self._env.np_random.bit_generator.state = state["env"]

    def reseed(self, seed):
        """See `Task`."""
        self._env.np_random = np.random.default_rng(seed)


def task_of(env):
    """The `Task` of an environment: the environment itself below its wrappers, or an adapter."""
    return env.unwrapped if isinstance(env.unwrapped, Task) else GymnasiumTask(env)
