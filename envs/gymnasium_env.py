"""A Gymnasium environment with flat float32 observations and flat actions in [-1, 1], whose results are checked."""

import gymnasium as gym
import numpy as np

from envs.names import EnvError, import_module
from envs.rendering import simplify
from errors import RunError

LONGEST_EPISODE = 100_000  # steps; an evaluation, and Ctrl-C, would wait for ever for the end of an endless episode
RGB = "rgb_array"
NUMBERS = (float, int, np.floating, np.bool_)  # accepted without np.shape, which takes a microsecond per step


class CheckedEnv(gym.Wrapper):
    """Checks the results of an environment. It is the innermost wrapper.

    An exception of the environment's own code keeps its traceback and gets a note with the environment's name.

    Args:
        env: the environment without wrappers.
        name: its name in messages.
        longest_episode: steps after which an episode without an end is an error.

    Raises:
        RunError: in reset() or step(): a result is not as Gymnasium defines it, or an episode does not end.
    """

    def __init__(self, env, name, longest_episode):
        super().__init__(env)
        self._name, self._longest_episode = name, longest_episode
        self._shape = env.observation_space.shape
        self._num_steps = 0

    def reset(self, **kwargs):
        """As `gymnasium.Env.reset`."""
        self._num_steps = 0
        try:
            result = self.env.reset(**kwargs)
        except SystemExit as error:
            raise RunError(f"{self._name}: reset() called sys.exit()") from error
        except Exception as error:
            error.add_note(f"This was raised by reset() of the environment {self._name}.")
            raise
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise self._error(result, "a pair (observation, info), info a dict")
        if _shape(result[0]) != self._shape:
            raise self._error(result[0], f"an observation of shape {self._shape}")
        return result

    def step(self, action):
        """As `gymnasium.Env.step`, with reward as a float, terminated and truncated as bools."""
        self._num_steps += 1
        try:
            result = self.env.step(action)
        except SystemExit as error:
            raise RunError(f"{self._name}: step() called sys.exit(), {self._when()}") from error
        except Exception as error:
            error.add_note(f"This was raised by step() of the environment {self._name}, {self._when()}.")
            raise
        if type(result) is not tuple or len(result) != 5:
            raise self._error(result, "a tuple (observation, reward, terminated, truncated, info)")
        obs, reward, terminated, truncated, info = result
        if type(obs) is not np.ndarray or obs.shape != self._shape:
            obs = self._observation(obs)
        if type(reward) is not float:
            reward = float(reward) if isinstance(reward, NUMBERS) else self._reward(reward)
        if type(terminated) is not bool:
            terminated = bool(terminated) if isinstance(terminated, NUMBERS) else self._flag("terminated", terminated)
        if type(truncated) is not bool:
            truncated = bool(truncated) if isinstance(truncated, NUMBERS) else self._flag("truncated", truncated)
        if not isinstance(info, dict):
            raise self._error(info, "a dict as info")
        if self._num_steps >= self._longest_episode and not (terminated or truncated):
            raise RunError(
                f"{self._name}: an episode has not ended after {self._num_steps:,} steps; register the environment "
                "with max_episode_steps"
            )
        return obs, reward, terminated, truncated, info

    def render(self):
        """An image (height, width, 3) uint8.

        Raises:
            RuntimeError: the environment has no render mode rgb_array.
        """
        if self.render_mode != RGB:
            raise RuntimeError(f"{self._name} has no render mode {RGB}")
        return self.env.render()

    def _observation(self, obs):
        if _shape(obs) != self._shape:
            raise self._error(obs, f"an observation of shape {self._shape}")
        return obs

    def _reward(self, reward):
        if reward is not None and _shape(reward) == ():
            try:
                return float(reward)
            except (TypeError, ValueError):
                pass
        raise self._error(reward, "a number as reward")

    def _flag(self, name, value):
        if value is None or _shape(value) != ():
            raise self._error(value, f"a bool as {name}")
        return bool(value)

    def _when(self):
        return f"in step {self._num_steps} of an episode"

    def _error(self, value, wanted):
        what = type(value).__name__
        if isinstance(value, tuple):
            what = f"a tuple of {len(value)}"
        elif isinstance(value, np.ndarray):
            what = f"an array of shape {value.shape}"
        elif value is None:
            what = "None"
        method = f"step() returns, {self._when()}," if self._num_steps else "reset() returns"
        return RunError(f"{self._name}: {method} {what} instead of {wanted}")


def make_gymnasium(name, render):
    """A Gymnasium environment by its id; the module of a module:Id is imported first.

    Args:
        name: an id that `check_name` accepts.
        render: whether render() is needed; it raises RuntimeError if there is no render mode rgb_array.

    Raises:
        EnvError: the module or the environment cannot be used.
    """
    env_id = import_module(name)
    try:
        env = _make(env_id, render)
    except (gym.error.Error, ImportError) as error:
        raise EnvError(f"{name} cannot be made: {error}") from error
    except SystemExit as error:  # it would end the process without a word
        raise EnvError(f"{name} cannot be made: it calls sys.exit({error.code!r})") from error
    except Exception as error:
        error.add_note(f"This was raised while the environment {name} was made.")
        raise
    for kind, space in (("observation", env.observation_space), ("action", env.action_space)):
        if not isinstance(space, gym.spaces.Box):
            raise EnvError(f"{name} has {kind}s of {space}; only Box spaces are supported")
        if 0 in space.shape:
            raise EnvError(f"{name} has the {kind} space {space}, which is empty")
    _check_actions(name, env.action_space)
    model = getattr(env.unwrapped, "model", None)
    if render and hasattr(model, "light_castshadow"):  # MuJoCo's
        simplify(model)
    return _flat(_with_checks(env, name))


def _make(env_id, render):
    """`gym.make` without its checker, which prints warnings; with render mode rgb_array if there is one."""
    entry_point = gym.spec(env_id).entry_point
    creator = entry_point if callable(entry_point) else gym.envs.registration.load_env_creator(entry_point)
    metadata = getattr(creator, "metadata", None)  # an entry point that is a function has none
    if render and (not isinstance(metadata, dict) or RGB in (metadata.get("render_modes") or ())):
        try:
            return gym.make(env_id, render_mode=RGB, disable_env_checker=True)
        except TypeError as error:
            if "unexpected keyword argument 'render_mode'" not in str(error):
                raise
    return gym.make(env_id, disable_env_checker=True)


def _check_actions(name, space):
    if not (space.is_bounded() and np.issubdtype(space.dtype, np.floating)):
        raise EnvError(f"{name} has the action space {space}; only bounded real actions are supported")
    if space.shape == ():
        raise EnvError(f"{name} has the action space {space}; only arrays of actions are supported, not single numbers")
    if not (space.low < space.high).all():
        raise EnvError(f"{name} has the action space {space}, where a lower bound is not less than the upper bound")


def _with_checks(env, name):
    """The environment with a `CheckedEnv` as its innermost wrapper."""
    limit = getattr(env.spec, "max_episode_steps", None) or 0
    longest_episode = max(LONGEST_EPISODE, limit + 1)
    if not isinstance(env, gym.Wrapper):
        return CheckedEnv(env, name, longest_episode)
    lowest = env
    while isinstance(lowest.env, gym.Wrapper):
        lowest = lowest.env
    lowest.env = CheckedEnv(lowest.env, name, longest_episode)
    return env


def _flat(env):
    """The environment with observations (O,) float32 and actions (A,) in [-1, 1]."""
    actions = env.action_space
    # Rescaled actions of -1 and 1 can be beyond the bounds by rounding.
    env = gym.wrappers.TransformAction(env, lambda action: np.clip(action, actions.low, actions.high), actions)
    one = actions.dtype.type(1)
    env = gym.wrappers.RescaleAction(gym.wrappers.FlattenObservation(env), -one, one)
    bounds = (np.asarray(bound, np.float32) for bound in (env.observation_space.low, env.observation_space.high))
    space = gym.spaces.Box(*bounds, dtype=np.float32)
    env = gym.wrappers.TransformObservation(env, lambda obs: obs.astype(np.float32), space)
    shape = env.action_space.shape
    if len(shape) > 1:
        flat = gym.spaces.Box(-1.0, 1.0, (int(np.prod(shape)),), np.float32)
        env = gym.wrappers.TransformAction(env, lambda action: np.reshape(action, shape), flat)
    return env


def _shape(value):
    """The shape of an array or of nested lists; None if they are ragged."""
    try:
        return np.shape(value)
    except ValueError:
        return None
