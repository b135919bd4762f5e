import importlib.metadata
import json
import math
import re
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import (
    CameraError,
    EnvError,
    check_mujoco,
    dm_control_tasks,
    make_env,
    max_episode_steps,
    names,
    random_state,
    set_random_state,
)
from envs.names import MUJOCO_PIN
from errors import UsageError
from tests.helpers import ROOT

TASKS = sorted(dm_control_tasks())


@pytest.mark.parametrize("name", TASKS)
def test_every_dm_control_task_constructs_and_steps(name):
    env = make_env(name)
    obs, _ = env.reset(seed=0)
    assert obs.shape == env.observation_space.shape and obs.dtype == np.float32
    for value in (-1.0, 1.0):
        action = np.full(env.action_space.shape, value, np.float32)
        obs, reward, terminated, truncated, _ = env.step(action)
        assert obs.shape == env.observation_space.shape and np.isfinite(obs).all()
        assert np.isfinite(reward) and not terminated and not truncated


def test_names_are_matched_against_the_suite():
    for name in ("ball_in_cup_catch", "swimmer_swimmer6", "point_mass_easy", "cartpole_swingup_sparse"):
        assert name in TASKS
    assert len(TASKS) > 40


@pytest.mark.parametrize("name", ["cheetah_run", "Pendulum-v1", "HalfCheetah-v5", "Gusty-v0"])
def test_the_checker_of_gymnasium_passes(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unbounded observations, wrapped environments
        check_env(make_env(name), skip_render_check=True)


@pytest.mark.parametrize(
    "name, camera, sentence",
    [
        ("cheetah_run", "top", "cheetah_run has no camera 'top'; its cameras are 0 side, 1 back"),
        ("fish_swim", "5", "0 tracking_top, 1 tracking_x, 2 tracking_y, 3 fixed_top, 4 eye"),
        ("cheetah_run", "-1", "no camera '-1'"),
        ("HalfCheetah-v5", "0", "HalfCheetah-v5 has no cameras to choose from"),
    ],
)
def test_a_camera_that_is_not_there(name, camera, sentence):
    with pytest.raises(CameraError, match=re.escape(sentence)):
        make_env(name, camera=camera)


def test_a_time_limit_truncates():
    env = make_env("reacher_easy")
    env.reset(seed=0)
    ends = [env.step(np.zeros(2))[2:4] for _ in range(1000)]
    assert ends == [(False, False)] * 999 + [(False, True)]


def test_a_task_without_time_limit_is_truncated_too():
    env = make_env("lqr_lqr_2_1")
    env.reset(seed=0)
    ends = [env.step(np.ones(1))[2:4] for _ in range(1000)]
    assert ends == [(False, False)] * 999 + [(False, True)]


def test_an_end_by_the_task_terminates():
    """lqr ends with discount 0 once the state is close to zero."""
    env = make_env("lqr_lqr_2_1")
    env.reset(seed=0)
    with env.unwrapped._env.physics.reset_context():
        env.unwrapped._env.physics.data.qpos[:] = 0
    assert env.step(np.zeros(1))[2:4] == (True, False)


def test_observations_are_the_tasks_in_order():
    env = make_env("cheetah_run")
    obs, _ = env.reset(seed=3)
    physics = env.unwrapped._env.physics
    np.testing.assert_allclose(obs, np.concatenate([physics.data.qpos[1:], physics.velocity()]), rtol=1e-6)


def test_actions_are_scaled_to_the_actuators():
    """quadruped's actuators have ranges of their own, Pendulum's torque goes to 2."""
    env = make_env("quadruped_walk")
    env.reset(seed=0)
    spec = env.unwrapped._env.action_spec()
    for value, expected in ((-1, spec.minimum), (1, spec.maximum), (0, (spec.minimum + spec.maximum) / 2)):
        env.step(np.full(12, value))
        np.testing.assert_allclose(env.unwrapped._env.physics.control(), expected, atol=1e-12)
    env = make_env("Pendulum-v1")
    env.reset(seed=0)
    env.step(np.ones(1, np.float32))
    assert env.unwrapped.last_u == 2


def test_seeds_decide_the_whole_sequence_of_episodes():
    env, other = make_env("ball_in_cup_catch"), make_env("ball_in_cup_catch")
    for e in (env, other):
        e.reset(seed=5)
    assert (env.reset()[0] == other.reset()[0]).all()
    assert (env.reset(seed=6)[0] != other.reset(seed=7)[0]).any()
    assert (env.reset(seed=7)[0] == make_env("ball_in_cup_catch").reset(seed=7)[0]).all()


class Counter(gym.Env):
    """Reward t at step t, terminates at step 5."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    metadata = {"render_modes": [], "render_fps": 30}

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(1, self.t, np.float32), float(self.t), self.t == 5, False, {}


gym.register("Counter-v0", Counter)


def test_action_repeat_sums_rewards_and_stops_at_the_end():
    env = make_env("Counter-v0", action_repeat=3)
    env.reset()
    assert env.step(np.zeros(1)) == (3, 6.0, False, False, {})
    assert env.step(np.zeros(1)) == (5, 9.0, True, False, {})
    assert env.metadata["render_fps"] == 10


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("cheetah_rum", "did you mean cheetah_run"),
        ("HalfCheeta-v5", "did you mean HalfCheetah-v5"),
        ("no.such.module:Thing-v0", "there is no module 'no.such.module'"),
        ("tests.no_such_module:Thing-v0", "there is no module 'tests.no_such_module'"),
        ("a:b:c", "'a:b:c' is neither a task, nor a Gymnasium id, nor module:Id"),
        ("os:", "is neither"),
        (":Pendulum-v1", "is neither"),
        ("../x:Pendulum-v1", "is neither"),
        ("tests.envs.scripted:Scripted-v1", "registers no Gymnasium id 'Scripted-v1'; did you mean Scripted-v0"),
        ("xyzzy", "there is no"),
        ("", "there is no"),
        ("HalfCheetah-v3", "cannot be made"),
        ("CartPole-v1", "only bounded real actions|only Box spaces"),
    ],
)
def test_an_unusable_name_is_explained(name, sentence):
    with pytest.raises(EnvError, match=sentence) as error:
        make_env(name)
    assert name.partition(":")[0] in str(error.value)


@pytest.mark.parametrize("version, accepted", [("3.17.0", True), ("3.18.1", True), ("4.0.0", False), ("2.3.7", False)])
def test_a_wrong_mujoco_is_named(version, accepted, monkeypatch):
    monkeypatch.setattr(names.importlib.metadata, "version", lambda _: version)
    if accepted:
        check_mujoco()
    else:
        with pytest.raises(UsageError, match=f"mujoco {version} .* mujoco=={MUJOCO_PIN}"):
            check_mujoco()


def test_the_pin_is_the_one_of_requirements_txt_and_is_installed():
    requirements = (names.ROOT / "requirements.txt").read_text().splitlines()
    assert f"mujoco=={MUJOCO_PIN}" in requirements
    assert importlib.metadata.version("mujoco") == MUJOCO_PIN


@pytest.mark.parametrize(
    "name, repeat, steps",
    [
        ("cheetah_run", 1, 1000),
        ("cheetah_run", 3, 334),
        ("PushedCheetah-v0", 1, 1000),
        ("Gusty-v0", 1, 200),
        ("Gusty-v0", 3, 67),
        ("Counter-v0", 1, math.inf),
        ("Counter-v0", 3, math.inf),
    ],
)
def test_the_longest_episode_in_actions(name, repeat, steps):
    assert max_episode_steps(make_env(name, repeat)) == steps


@pytest.mark.parametrize("name", ["cheetah_run", "PushedCheetah-v0", "Gusty-v0", "Pendulum-v1"])
def test_the_random_state_decides_what_follows(name):
    """Through JSON, as in a checkpoint, and into another environment."""
    env, other = make_env(name), make_env(name)
    env.action_space.seed(3)
    env.reset(seed=3)
    other.reset(seed=4)
    set_random_state(other, json.loads(json.dumps(random_state(env))))
    one, two = ([e.reset()[0], e.action_space.sample(), e.step(e.action_space.sample())[0]] for e in (env, other))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_frames_may_be_larger_than_the_models_own_limit(renderer):
    env = make_env("cartpole_swingup", render_size=512)
    env.reset(seed=0)
    assert env.render().shape == (512, 512, 3)
    env.close()


@pytest.mark.parametrize("name, needs_suite", [("Pendulum-v1", False), ("PushedCheetah-v0", True)])
def test_dm_control_is_loaded_where_it_is_needed_and_says_nothing(name, needs_suite):
    code = f"import sys; from envs import make_env; make_env({name!r}); print('dm_control.suite' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == (f"{needs_suite}\n", "")
