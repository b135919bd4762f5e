"""make_env(): a DM Control task or any Gymnasium id as a gymnasium.Env with flat float32 observations."""

import difflib
import importlib.metadata
import math

import gymnasium as gym
import numpy as np

from errors import Refusal

MUJOCO_PIN = "3.17.0"  # as in requirements.txt
# Every DM Control task but lqr ends by itself after so many control steps.
MAX_EPISODE_STEPS = 1000
UNBOUNDED = 1e6  # an actuator without a control range has bounds of 1e10


def check_mujoco():
    """Raise Refusal, naming the pin, if the installed mujoco is one that dm_control cannot load tasks with."""
    installed = importlib.metadata.version("mujoco")
    if installed.split(".")[0] != MUJOCO_PIN.split(".")[0]:
        raise Refusal(
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
        Refusal: an unusable version of mujoco, or a camera that the task does not have.
    """
    tasks = dm_control_tasks()
    if name in tasks:
        env = DMControlEnv(*tasks[name], render_size, camera)
    else:
        env = _make_gymnasium(name, tasks, render_size)
        if camera is not None:
            raise Refusal(f"argument --video_camera: {name} has no cameras to choose from, only DM Control tasks have")
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


class DMControlEnv(gym.Env):
    """A task of the DM Control suite; a time limit is `truncated`, an end by the task itself `terminated`.

    Args:
        domain, task: as in `dm_control.suite.load`.
        render_size: pixels a side, None for no rendering.
        camera: name or number as text, None for the first.
    """

    def __init__(self, domain, task, render_size=None, camera=None):
        from dm_control import suite
        from dm_control.rl.control import PhysicsError

        self._PhysicsError = PhysicsError
        self._env = suite.load(domain, task, task_kwargs={"random": 0})
        if render_size is None:
            # quadruped_escape would open a renderer, and fail without one, to tell it about the new terrain.
            physics = self._env.physics
            physics.__class__ = type("HeadlessPhysics", (type(physics),), {"contexts": None})
        self._render_size = render_size
        self._camera = 0 if camera is None else self._camera_id(camera, f"{domain}_{task}")
        self.render_mode = "rgb_array" if render_size else None
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 1 / self._env.control_timestep()}
        bounds = self._env.action_spec()
        unbounded = bounds.maximum > UNBOUNDED
        self._low = np.where(unbounded, -1.0, bounds.minimum)
        self._high = np.where(unbounded, 1.0, bounds.maximum)
        self.action_space = gym.spaces.Box(-1.0, 1.0, bounds.shape, np.float32)
        size = sum(int(np.prod(spec.shape)) for spec in self._env.observation_spec().values())
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    @property
    def task_random(self):
        """The numpy RandomState that the task draws from."""
        return self._env.task.random

    def reset(self, *, seed=None, options=None):
        """A new episode; seed restarts the task's random stream."""
        super().reset(seed=seed)
        if seed is not None:
            self._env.task.random.seed(seed % 2**32)
        self._num_steps = 0
        self._last_obs = self._flatten(self._env.reset().observation)
        return self._last_obs, {}

    def step(self, action):
        """Apply an action (A,) in [-1, 1] for one control step.

        A simulation that diverges ends the episode: terminated, with reward 0, the observation before it and
        {"diverged": True}. No reward of the suite is lower, so that the agent learns to stay away.
        """
        action = np.asarray(action, np.float64)
        self._num_steps += 1
        try:
            time_step = self._env.step(self._low + (action + 1) * 0.5 * (self._high - self._low))
        except self._PhysicsError:
            return self._last_obs, 0.0, True, False, {"diverged": True}
        terminated = time_step.last() and time_step.discount == 0
        truncated = not terminated and (time_step.last() or self._num_steps >= MAX_EPISODE_STEPS)
        self._last_obs = self._flatten(time_step.observation)
        return self._last_obs, float(time_step.reward), terminated, truncated, {}

    def snapshot(self):
        """What the rest of the episode depends on: MuJoCo's state with its warm starts, step counts, random stream.

        Targets that a task keeps in MuJoCo's model do not move within an episode, so a snapshot is one of this episode.
        """
        import mujoco

        model, data, kind = self._env.physics.model.ptr, self._env.physics.data.ptr, mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(mujoco.mj_stateSize(model, kind))
        mujoco.mj_getState(model, data, state, kind)
        counts = self._num_steps, self._env._step_count, self._env._reset_next_step
        return state, counts, self.task_random.get_state(), self._last_obs

    def restore(self, snapshot):
        """Go back to what `snapshot()` gave."""
        import mujoco

        state, counts, random, self._last_obs = snapshot
        self._num_steps, self._env._step_count, self._env._reset_next_step = counts
        model, data = self._env.physics.model.ptr, self._env.physics.data.ptr
        mujoco.mj_setState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(model, data)
        self.task_random.set_state(random)

    def render(self):
        """The present state as (render_size, render_size, 3) uint8."""
        return self._env.physics.render(self._render_size, self._render_size, camera_id=self._camera)

    def close(self):
        """Free the simulation and its renderer."""
        self._env.close()

    def _camera_id(self, camera, task_name):
        model = self._env.physics.model
        names = [model.id2name(i, "camera") for i in range(model.ncam)]
        for i, name in enumerate(names):
            if camera in (name, str(i)):
                return i
        listed = ", ".join(f"{i} {name}" for i, name in enumerate(names))
        raise Refusal(f"argument --video_camera: {task_name} has no camera {camera!r}; its cameras are {listed}")

    @staticmethod
    def _flatten(observation):
        return np.concatenate([np.ravel(value) for value in observation.values()]).astype(np.float32)


class ActionRepeat(gym.Wrapper):
    """Applies each action `repeat` times, or until the episode ends, and sums the rewards."""

    def __init__(self, env, repeat):
        super().__init__(env)
        self._repeat = repeat
        if "render_fps" in env.metadata:
            self.metadata = env.metadata | {"render_fps": env.metadata["render_fps"] / repeat}

    def step(self, action):
        """As `gymnasium.Env.step`; the observation is the last one."""
        total = 0.0
        for _ in range(self._repeat):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += reward
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info
