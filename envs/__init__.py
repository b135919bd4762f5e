"""make_env(): a DM Control task or any Gymnasium id as a gymnasium.Env with flat float32 observations."""

import difflib
import importlib.metadata
import math

import gymnasium as gym
import numpy as np

from envs.dm_control import MAX_EPISODE_STEPS, DMControlEnv
from envs.wrappers import ActionRepeat
from errors import UsageError

MUJOCO_PIN = "3.17.0"  # as in requirements.txt


def check_mujoco():
    """Raise UsageError, naming the pin, if the installed mujoco is one that dm_control cannot load tasks with."""
    installed = importlib.metadata.version("mujoco")
    if installed.split(".")[0] != MUJOCO_PIN.split(".")[0]:
        raise UsageError(
            f"mujoco {installed} is installed, with which dm_control cannot load tasks; "
            f"install the pinned one: pip install mujoco=={MUJOCO_PIN}"
        )


def dm_control_tasks():
    """{"cheetah_run": ("cheetah", "run"), ...} for every task of the suite."""
    check_mujoco()
    from absl import logging
    from dm_control import suite

    logging.set_verbosity(logging.ERROR)  # dm_control's own models use deprecated attributes
    return {f"{domain}_{task}": (domain, task) for domain, task in suite.ALL_TASKS}


def make_env(name, action_repeat=1, render_size=None, camera=None):
    """An environment with observations (O,) float32 and actions (A,) in [-1, 1].

    Args:
        name: a DM Control task as domain_task, or a Gymnasium id (`module:Id-v0` imports the module first).
        action_repeat: each action is applied so many times; rewards are summed.
        render_size: pixels a side of `render()`; None makes an environment that cannot render.
        camera: of `render()`, name or number as text (DM Control); None is the task's first.

    Raises:
        ValueError: unknown name (with near matches), or spaces that are not bounded boxes.
        UsageError: an unusable version of mujoco, or a camera that the task does not have.
    """
    tasks = dm_control_tasks()
    if name in tasks:
        env = DMControlEnv(*tasks[name], render_size, camera)
    else:
        env = _make_gymnasium(name, tasks, render_size)
        if camera is not None:
            raise UsageError(
                f"argument --video_camera: {name} has no cameras to choose from, only DM Control tasks have"
            )
    return ActionRepeat(env, action_repeat) if action_repeat > 1 else env


def _make_gymnasium(name, tasks, render_size):
    try:
        env = gym.make(name, render_mode="rgb_array") if render_size else gym.make(name)
    except (gym.error.Error, ImportError) as error:
        in_the_way = (gym.error.DependencyNotInstalled, gym.error.DeprecatedEnv, ImportError)
        if isinstance(error, in_the_way) and ":" not in name:
            raise ValueError(f"{name} cannot be made: {error}") from error
        near = difflib.get_close_matches(name, [*tasks, *gym.registry], n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"there is no DM Control task or Gymnasium id {name!r}{hint}") from error
    for kind, space in (("observation", env.observation_space), ("action", env.action_space)):
        if not isinstance(space, gym.spaces.Box):
            raise ValueError(f"{name} has {kind}s of {space}; only Box spaces are supported")
    if not (env.action_space.is_bounded() and np.issubdtype(env.action_space.dtype, np.floating)):
        raise ValueError(f"{name} has the action space {env.action_space}; only bounded real actions are supported")
    env = gym.wrappers.RescaleAction(gym.wrappers.FlattenObservation(env), np.float32(-1), np.float32(1))
    bounds = (np.asarray(bound, np.float32) for bound in (env.observation_space.low, env.observation_space.high))
    space = gym.spaces.Box(*bounds, dtype=np.float32)
    return gym.wrappers.TransformObservation(env, lambda obs: obs.astype(np.float32), space)


def max_episode_steps(env):
    """Steps after which an episode is truncated; infinity where nothing says so."""
    if isinstance(env.unwrapped, DMControlEnv):
        repeat = env._repeat if isinstance(env, ActionRepeat) else 1
        return math.ceil(MAX_EPISODE_STEPS / repeat)
    return env.spec.max_episode_steps or math.inf


def random_state(env):
    """All random streams of an environment and of its action space, as plain data.

    Between two episodes this is the whole state of an environment whose reset() forgets the last episode.
    """
    task = env.unwrapped
    state = {"action_space": env.action_space.np_random.bit_generator.state}
    if isinstance(task, DMControlEnv):
        name, keys, *rest = task.task_random.get_state()
        return state | {"task": [name, keys.tolist(), *rest]}
    return state | {"env": task.np_random.bit_generator.state}


def set_random_state(env, state):
    """Take over what `random_state` gave."""
    env.action_space.np_random.bit_generator.state = state["action_space"]
    if isinstance(env.unwrapped, DMControlEnv):
        name, keys, *rest = state["task"]
        env.unwrapped.task_random.set_state((name, np.array(keys, np.uint32), *rest))
    else:
        env.unwrapped.np_random.bit_generator.state = state["env"]


# By entry point: the modules are imported only when such an environment is made.
gym.register("Gusty-v0", "envs.gusty:Gusty", max_episode_steps=200)
gym.register("PushedCheetah-v0", "envs.pushed_cheetah:PushedCheetah")
