"""Environments that users write: any type of result, any mistake; and modules in places where no code is accepted."""

import sys
import textwrap
import traceback
import warnings

import gymnasium as gym
import numpy as np
import pytest

from envs import LONGEST_EPISODE, EnvError, check_module, check_name, make_env, random_state, set_random_state
from envs.gymnasium_env import CheckedEnv
from errors import RunError
from storage.plain_data import from_bytes, to_bytes


class Custom(gym.Env):
    """Observations (3,), two actions, no end; what it gives is set by the tests. Takes no render_mode."""

    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    OBS = np.zeros(3, np.float32)

    def __init__(self, at_reset=(OBS, {}), at_step=(OBS, 0.5, False, False, {}), action_space=None):
        self.at_reset, self.at_step = at_reset, at_step
        self.action_space = action_space or self.action_space
        self.actions = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.at_reset

    def step(self, action):
        self.actions.append(action)
        if isinstance(self.at_step, Exception):
            raise self.at_step
        return self.at_step


@pytest.fixture
def custom():
    """Makes a Custom-v0 with given arguments."""

    def make(time_limit=50, **kwargs):
        gym.register("Custom-v0", Custom, kwargs=kwargs, max_episode_steps=time_limit)
        return make_env("Custom-v0", render_size=64)

    yield make
    gym.registry.pop("Custom-v0", None)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes an importable module; returns its file."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text, folder=tmp_path):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def test_a_class_without_render_mode_is_made_and_cannot_be_rendered(custom):
    env = custom()
    env.reset(seed=0)
    assert env.step(np.zeros(2))[1] == 0.5
    with pytest.raises(RuntimeError, match="^Custom-v0 has no render mode rgb_array$"):
        env.render()


@pytest.mark.parametrize("name", ["Gusty-v0", "PushedCheetah-v0", "Pendulum-v1", "tests.envs.scripted:Scripted-v0"])
@pytest.mark.parametrize("render_size", [None, 64])
def test_nothing_is_printed_about_render_modes(name, render_size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = make_env(name, render_size=render_size)
        env.reset(seed=0)
        env.step(env.action_space.sample())


def test_actions_of_any_shape_are_flattened(custom):
    low = np.array([[-1, -2, -3], [0, 0, 0]], np.float32)
    env = custom(action_space=gym.spaces.Box(low, low + 2, dtype=np.float32))
    assert env.action_space == gym.spaces.Box(-1, 1, (6,), np.float32)
    env.action_space.seed(0)
    env.reset(seed=0)
    env.step(np.array([-1, -1, -1, 1, 0, -1], np.float32))
    np.testing.assert_allclose(env.unwrapped.actions, [[[-1, -2, -3], [2, 1, 0]]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_actions_stay_within_the_bounds(custom, dtype):
    """By rounding alone, -1 becomes 0.19999999 in the first dimension of float32."""
    low = np.array([0.2, *np.random.default_rng(0).normal(size=99)])
    space = gym.spaces.Box(low.astype(dtype), (low + 0.7).astype(dtype), dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = custom(action_space=space)
    env.reset(seed=0)
    for action in (-1, 0, 1):
        env.step(np.full(100, action, np.float32))
    lowest, middle, highest = env.unwrapped.actions
    assert all(map(space.contains, (lowest, middle, highest)))
    np.testing.assert_allclose([lowest, highest], [space.low, space.high], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(middle, (space.low + space.high) / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("generator", [np.random.Philox, np.random.MT19937, np.random.SFC64, np.random.PCG64])
def test_any_bit_generator_of_numpy_is_saved_and_restored(custom, generator):
    first, second = custom(), make_env("Custom-v0")
    first.unwrapped.np_random = np.random.Generator(generator(7))
    first.unwrapped.np_random.random(5)
    saved = to_bytes(random_state(first))
    set_random_state(second, from_bytes(saved))
    assert isinstance(second.unwrapped.np_random.bit_generator, generator)
    assert np.array_equal(first.unwrapped.np_random.random(9), second.unwrapped.np_random.random(9))


@pytest.mark.parametrize(
    "space, sentence",
    [
        (gym.spaces.Box(-1, 1, (), np.float32), "not single numbers"),
        (
            gym.spaces.Box(np.array([-1, 2], np.float32), np.array([1, 2], np.float32)),
            "a lower bound is not less",
        ),
        (gym.spaces.Box(-1, 1, (0,)), "is empty"),
        (gym.spaces.Box(-np.inf, 1, (2,)), "only bounded real actions"),
        (gym.spaces.Discrete(3), "only Box spaces"),
    ],
)
def test_actions_that_cannot_be_learned_are_refused(custom, space, sentence):
    with pytest.raises(EnvError, match=f"^Custom-v0 has .*{sentence}"):
        custom(action_space=space)


OBS = Custom.OBS


@pytest.mark.parametrize(
    "result, sentence",
    [
        (
            (OBS, 0.5, False, {}),
            r"a tuple of 4 instead of a tuple \(observation, reward, .*\)",
        ),
        (None, "None instead of a tuple"),
        ((OBS, None, False, False, {}), "None instead of a number as reward"),
        ((OBS, np.zeros(1), False, False, {}), r"an array of shape \(1,\) instead of a number as reward"),
        ((OBS, "much", False, False, {}), "str instead of a number as reward"),
        ((OBS, 0.5, False, False, None), "None instead of a dict as info"),
        ((OBS, 0.5, None, False, {}), "None instead of a bool as terminated"),
        ((OBS, 0.5, False, np.zeros(2, bool), {}), r"an array of shape \(2,\) instead of a bool as truncated"),
        ((OBS[:1], 0.5, False, False, {}), r"an array of shape \(1,\) instead of an observation of shape \(3,\)"),
        (([0, [1, 2], 3], 0.5, False, False, {}), "list instead of an observation of shape"),
    ],
)
def test_a_step_result_of_a_wrong_type_is_named(custom, result, sentence):
    env = custom()
    env.reset(seed=0)
    env.step(np.zeros(2))
    env.unwrapped.at_step = result
    with pytest.raises(RunError, match=rf"^Custom-v0: step\(\) returns, in step 2 of an episode, {sentence}"):
        env.step(np.zeros(2))


def test_an_environment_that_exits_ends_the_run_with_a_sentence(custom, monkeypatch):
    """Otherwise its exit status 0 would look like a run that has finished."""
    env = custom()
    env.reset(seed=0)
    monkeypatch.setattr(type(env.unwrapped), "step", lambda *_: sys.exit(0))
    with pytest.raises(RunError, match=r"^Custom-v0: step\(\) called sys.exit\(\), in step 1 of an episode"):
        env.step(np.zeros(2))
    monkeypatch.setattr(type(env.unwrapped), "reset", lambda *_, **__: sys.exit(0))
    with pytest.raises(RunError, match=r"^Custom-v0: reset\(\) called sys.exit\(\)"):
        env.reset()


@pytest.mark.parametrize(
    "result, sentence",
    [
        (OBS, r"an array of shape \(3,\) instead of a pair \(observation, info\), info a dict"),
        ((OBS, None), "a tuple of 2 instead of a pair"),
        ((OBS[:2], {}), r"an array of shape \(2,\) instead of an observation of shape \(3,\)"),
    ],
)
def test_a_reset_result_of_a_wrong_type_is_named(custom, result, sentence):
    env = custom(at_reset=result)
    with pytest.raises(RunError, match=rf"^Custom-v0: reset\(\) returns {sentence}"):
        env.reset(seed=0)


@pytest.mark.parametrize("reward", [1, np.float32(1), np.float64(1), np.array(1.0), np.bool_(True)])
def test_numbers_of_any_kind_and_lists_are_accepted(custom, reward):
    env = custom(at_step=([1, 2, 3], reward, np.bool_(True), 0, {}))
    env.reset(seed=0)
    obs, reward, terminated, truncated, _ = env.step(np.zeros(2))
    assert obs.dtype == np.float32 and obs.tolist() == [1, 2, 3]
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert [type(value) for value in (reward, terminated, truncated)] == [float, bool, bool]


def test_an_exception_of_the_environment_says_where_it_comes_from(custom):
    env = custom(at_step=ZeroDivisionError("mine"))
    env.reset(seed=0)
    with pytest.raises(ZeroDivisionError, match="^mine\n") as error:
        env.step(np.zeros(2))
    printed = traceback.format_exception(error.value)
    assert printed[-1] == "This was raised by step() of the environment Custom-v0, in step 1 of an episode.\n"
    assert "raise self.at_step" in "".join(printed)


def test_an_episode_without_end_is_an_error(custom):
    env = CheckedEnv(Custom(), "Custom-v0", 100)
    for _ in range(2):
        env.reset(seed=0)
        for _ in range(99):
            env.step(np.zeros(2))
    with pytest.raises(RunError, match="^Custom-v0: an episode has not ended after 100 steps; register .*max_episode_"):
        env.step(np.zeros(2))


def test_a_time_limit_may_be_longer_than_that(custom):
    env = custom(time_limit=LONGEST_EPISODE + 5)
    env.reset(seed=0)
    checks = next(layer for layer in layers(env) if isinstance(layer, CheckedEnv))
    limit = next(layer for layer in layers(env) if isinstance(layer, gym.wrappers.TimeLimit))
    checks._num_steps = limit._elapsed_steps = LONGEST_EPISODE
    ends = [env.step(np.zeros(2))[3] for _ in range(5)]
    assert ends == [False, False, False, False, True]


def layers(env):
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env


def test_a_module_that_fails_shows_its_own_error(module):
    broken = module("broken_import", "import os\nimport nonexistent_thing\n")
    check_name("broken_import:X-v0")  # is not imported
    with pytest.raises(EnvError) as error:
        make_env("broken_import:X-v0")
    assert str(error.value) == (
        f"importing broken_import fails: ModuleNotFoundError: No module named 'nonexistent_thing' ({broken}, line 2)"
    )
    broken = module("broken_syntax", "x = (\n")
    module("exiting_import", "raise SystemExit(0)\n")
    with pytest.raises(EnvError, match="importing exiting_import fails: SystemExit: 0 .*exiting_import.py, line 1"):
        make_env("exiting_import:X-v0")
    with pytest.raises(EnvError, match="importing broken_syntax fails: SyntaxError: .*broken_syntax.py, line 1"):
        make_env("broken_syntax:X-v0")


def test_an_environment_that_exits_while_it_is_made_is_refused(module):
    text = """
    import sys
    import gymnasium as gym
    class Exiting(gym.Env):
        def __init__(self):
            sys.exit(0)
    gym.register("Exiting-v0", Exiting)
    """
    module("exiting_init", text)
    with pytest.raises(EnvError, match=r"^exiting_init:Exiting-v0 cannot be made: it calls sys.exit\(0\)$"):
        make_env("exiting_init:Exiting-v0")


def test_an_exception_while_it_is_made_is_kept_too(module):
    text = """
    import gymnasium as gym
    class Bad(gym.Env):
        def __init__(self):
            raise ValueError("mine")
    gym.register("Bad-v0", Bad)
    """
    module("bad_init", text)
    with pytest.raises(ValueError, match="^mine\n") as error:
        make_env("bad_init:Bad-v0")
    assert not isinstance(error.value, EnvError)
    assert error.value.__notes__ == ["This was raised while the environment bad_init:Bad-v0 was made."]


CODE = """
from pathlib import Path
(Path(__file__).parent / "was_run").touch()
"""


@pytest.mark.parametrize(
    "folder, name",
    [
        ("exp/gift", "exp.gift.tasks"),
        ("exp/gift/deep/er", "exp.gift.deep.er.tasks"),
        ("copied/gift", "copied.gift.tasks"),
        ("copied/gift/deep", "copied.gift.deep.tasks"),
    ],
)
def test_code_in_a_run_directory_is_not_run(module, tmp_path, monkeypatch, folder, name):
    monkeypatch.chdir(tmp_path)
    path = module("tasks", CODE, tmp_path / folder)
    module("__init__", CODE, tmp_path / folder)
    (tmp_path / "/".join(folder.split("/")[:2]) / "args.json").touch()
    for check in (check_module, check_name, make_env):
        with pytest.raises(EnvError, match="in a run directory"):
            check(f"{name}:Pendulum-v1")
    assert not list(tmp_path.rglob("was_run"))
    assert path.exists()


def test_neither_through_links_nor_from_the_path(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module("tasks_of_gift", CODE, tmp_path / "exp" / "gift")
    (tmp_path / "innocent.py").symlink_to(tmp_path / "exp" / "gift" / "tasks_of_gift.py")
    monkeypatch.syspath_prepend(tmp_path / "exp" / "gift")
    for name in ("innocent", "tasks_of_gift"):
        with pytest.raises(EnvError, match="in a run directory"):
            make_env(f"{name}:Pendulum-v1")
    assert not list(tmp_path.rglob("was_run"))


def test_nor_where_exp_is_a_link(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module("tasks", CODE, tmp_path / "elsewhere" / "run")
    (tmp_path / "exp").symlink_to(tmp_path / "elsewhere")
    for name in ("exp.run.tasks", "elsewhere.run.tasks"):
        with pytest.raises(EnvError, match="in a run directory"):
            check_module(f"{name}:Pendulum-v1")
    module("tasks", CODE, tmp_path / "other")
    check_module("other.tasks:Pendulum-v1")
    assert not list(tmp_path.rglob("was_run"))


def test_other_modules_are_accepted_and_not_imported_by_the_check(module, tmp_path):
    module("fine_tasks", CODE)
    check_name("fine_tasks:Pendulum-v1")
    assert not (tmp_path / "was_run").exists()
    assert make_env("fine_tasks:Pendulum-v1").action_space.shape == (1,)
    assert (tmp_path / "was_run").exists()
