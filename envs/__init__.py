"""make_env(): a DM Control task or any Gymnasium id as a gymnasium.Env with flat float32 observations."""

import math

import gymnasium as gym

from envs.dm_control import DMControlEnv
from envs.gymnasium_env import LONGEST_EPISODE, make_gymnasium
from envs.names import CameraError, EnvError, check_module, check_mujoco, check_name, dm_control_tasks, is_gymnasium_id
from envs.task import task_of
from envs.wrappers import ActionRepeat

__all__ = [
    "LONGEST_EPISODE",
    "CameraError",
    "DMControlEnv",
    "EnvError",
    "check_module",
    "check_mujoco",
    "check_name",
    "dm_control_tasks",
    "make_env",
    "max_episode_steps",
    "random_state",
    "set_random_state",
]


def make_env(name, action_repeat=1, render_size=None, camera=None):
    """An environment with observations (O,) float32 and actions (A,) in [-1, 1].

    Args:
        name: a DM Control task as domain_task, or a Gymnasium id (`module:Id-v0` imports the module first).
        action_repeat: control steps per action; their rewards are summed.
        render_size: width and height of `render()` in pixels; None for no rendering. Gymnasium environments have a size
            of their own, and `render()` raises RuntimeError if they have no render mode rgb_array.
        camera: camera of `render()`, name or number as text (DM Control); None is the task's first.

    Raises:
        EnvError: unknown name (with near matches), a module that cannot be imported or belongs to a run directory, or
            spaces that are not boxes, bounded for actions.
        CameraError: the environment has no such camera.
        UsageError: dm_control cannot load tasks with the installed version of mujoco.
        Exception: an exception of a custom environment's own code, with a note that names the environment.
    """
    check_name(name)
    tasks = {} if is_gymnasium_id(name) else dm_control_tasks()
    if name in tasks:
        env = DMControlEnv(*tasks[name], render_size, camera)
    else:
        if camera is not None:
            raise CameraError(f"{name} has no cameras to choose from, only DM Control tasks have")
        env = make_gymnasium(name, render_size is not None)
    return ActionRepeat(env, action_repeat) if action_repeat > 1 else env


def max_episode_steps(env):
    """Steps (actions) after which an episode is truncated; infinite if there is no known limit."""
    limit = task_of(env).max_episode_steps
    repeat = env.repeat if isinstance(env, ActionRepeat) else 1
    return limit if math.isinf(limit) else math.ceil(limit / repeat)


def random_state(env):
    """The states of all random streams of an environment and of its action space, as plain data.

    Between two episodes this is the whole state of an environment that carries nothing else over reset().
    """
    return {"action_space": env.action_space.np_random.bit_generator.state, **task_of(env).random_state()}


def set_random_state(env, state):
    """Restore what `random_state` returned."""
    env.action_space.np_random.bit_generator.state = state["action_space"]
    task_of(env).set_random_state(state)


# Entry points as text: a module is imported only when its environment is made.
gym.register("Gusty-v0", "envs.gusty:Gusty", max_episode_steps=200)
gym.register("PushedCheetah-v0", "envs.pushed_cheetah:PushedCheetah")
