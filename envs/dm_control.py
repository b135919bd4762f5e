"""A task of the DM Control suite as a gymnasium.Env."""

import gymnasium as gym
import numpy as np

from envs.names import CameraError, import_suite
from envs.rendering import simplify
from envs.task import Task

# Control steps. All tasks but lqr have this limit themselves.
MAX_EPISODE_STEPS = 1000
UNBOUNDED = 1e6  # dm_control gives an actuator without a control range bounds of +-1e10


class DMControlEnv(gym.Env, Task):
    """A task of the DM Control suite. The time limit sets `truncated`, an end by the task itself `terminated`.

    Args:
        domain, task: as in `dm_control.suite.load`.
        render_size: width and height of `render()` in pixels; None for no rendering.
        camera: name or number as text; None is the first.

    Raises:
        CameraError: the task has no such camera.
        UsageError: dm_control cannot load tasks with the installed version of mujoco.
    """

    max_episode_steps = MAX_EPISODE_STEPS
    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, domain, task, render_size=None, camera=None):
        suite = import_suite()
        from dm_control.rl.control import PhysicsError

        self._PhysicsError = PhysicsError
        self._env = suite.load(domain, task, task_kwargs={"random": 0})
        if render_size is None:
            # Without this, quadruped_escape would open a renderer at each reset, to update its terrain, and fail
            # where there is none.
            physics = self._env.physics
            physics.__class__ = type("HeadlessPhysics", (type(physics),), {"contexts": None})
        else:
            size = self._env.physics.model.vis.global_  # limits the size of frames
            size.offwidth, size.offheight = max(size.offwidth, render_size), max(size.offheight, render_size)
            simplify(self._env.physics.model)
        self._render_size = render_size
        self._camera = 0 if camera is None else self._camera_id(camera, f"{domain}_{task}")
        self.render_mode = "rgb_array" if render_size else None
        self.metadata = self.metadata | {"render_fps": 1 / self._env.control_timestep()}
        bounds = self._env.action_spec()
        unbounded = bounds.maximum > UNBOUNDED
        self._low = np.where(unbounded, -1.0, bounds.minimum)
        self._high = np.where(unbounded, 1.0, bounds.maximum)
        self.action_space = gym.spaces.Box(-1.0, 1.0, bounds.shape, np.float32)
        size = sum(int(np.prod(spec.shape)) for spec in self._env.observation_spec().values())
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    @property
    def task_random(self):
        """The task's random stream, a numpy RandomState."""
        return self._env.task.random

    def reset(self, *, seed=None, options=None):
        """Start an episode; returns observation (O,), {}. A seed restarts the task's random stream."""
        super().reset(seed=seed)
        if seed is not None:
            self._env.task.random.seed(seed % 2**32)
        self._num_steps = 0
        self._last_obs = self._flatten(self._env.reset().observation)
        return self._last_obs, {}

    def step(self, action):
        """Apply an action (A,) in [-1, 1] for one control step. Returns as `gymnasium.Env.step`.

        If the simulation diverges, the episode ends: terminated, with reward 0, the last good observation and
        {"diverged": True}. Rewards of the suite, but for lqr, are at least 0, so the agent learns to
        avoid such states.
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

    def random_state(self):
        """See `Task`."""
        name, keys, *rest = self.task_random.get_state()
        return {"task": [name, keys.tolist(), *rest]}

    def set_random_state(self, state):
        """See `Task`."""
        name, keys, *rest = state["task"]
        self.task_random.set_state((name, np.array(keys, np.uint32), *rest))

    def reseed(self, seed):
        """See `Task`."""
        self.task_random.seed(seed)

    def snapshot(self):
        """The state of a running episode: MuJoCo's state with its warm starts, step counts, random stream.

        It can only be restored in the same episode, since it lacks what a task sets in MuJoCo's model at reset, such as
        targets.
        """
        import mujoco

        model, data, kind = self._env.physics.model.ptr, self._env.physics.data.ptr, mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(mujoco.mj_stateSize(model, kind))
        mujoco.mj_getState(model, data, state, kind)
        counts = self._num_steps, self._env._step_count, self._env._reset_next_step
        return state, counts, self.task_random.get_state(), self._last_obs

    def restore(self, snapshot):
        """Restore what `snapshot()` returned in this episode."""
        import mujoco

        state, counts, random, self._last_obs = snapshot
        self._num_steps, self._env._step_count, self._env._reset_next_step = counts
        model, data = self._env.physics.model.ptr, self._env.physics.data.ptr
        mujoco.mj_setState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(model, data)
        self.task_random.set_state(random)

    def render(self):
        """A frame of the current state, (render_size, render_size, 3) uint8."""
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
        raise CameraError(f"{task_name} has no camera {camera!r}; its cameras are {listed}")

    @staticmethod
    def _flatten(observation):
        return np.concatenate([np.ravel(value) for value in observation.values()]).astype(np.float32)
