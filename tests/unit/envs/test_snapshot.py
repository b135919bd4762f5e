import gymnasium as gym
import numpy as np
import pytest

from envs import make_env
from envs.snapshot import reseed, restore, snapshot

# Targets in MuJoCo's model, contacts, tendons, a noisy task, muscles, a height field; and environments in Python alone.
TASKS = (
    "cheetah_run reacher_hard finger_turn_hard hopper_hop ball_in_cup_catch fish_swim stacker_stack_4 quadruped_escape"
)
OTHERS = ("Gusty-v0", "Pendulum-v1")


def play(env, actions):
    steps = []
    for action in actions:
        steps.append(env.step(action))
        if steps[-1][2] or steps[-1][3]:
            break
    return steps


def assert_equal(one, other):
    assert len(one) == len(other)
    for (obs, *rest), (other_obs, *other_rest) in zip(one, other, strict=True):
        assert np.array_equal(obs, other_obs) and rest[:3] == other_rest[:3]


@pytest.mark.parametrize("action_repeat", [1, 3])
@pytest.mark.parametrize("name", [*TASKS.split(), *OTHERS])
def test_a_restored_state_repeats_bit_for_bit(name, action_repeat):
    """Also after another branch, and a second time."""
    env = make_env(name, action_repeat)
    env.action_space.seed(0)
    env.reset(seed=3)
    play(env, [env.action_space.sample() for _ in range(30)])
    state = snapshot(env)
    actions = [env.action_space.sample() for _ in range(30)]
    first = play(env, actions)
    assert len({obs.tobytes() for obs, *_ in first}) == 30
    for branch in (actions, actions[::-1], actions):
        restore(env, state)
        again = play(env, branch)
        assert np.array_equal(first[0][0], again[0][0]) == (branch is actions)
    assert_equal(first, again)


@pytest.mark.parametrize("name, limit", [("cartpole_balance", 1000), ("Gusty-v0", 200)])
def test_the_time_limit_is_restored(name, limit):
    env = make_env(name)
    action = np.zeros(env.action_space.shape)
    env.reset(seed=0)
    play(env, [action] * (limit - 10))
    state = snapshot(env)
    for _ in range(2):
        steps = play(env, [action] * 20)
        assert len(steps) == 10 and steps[-1][3]
        restore(env, state)


class Late(gym.Env):
    """Sets an attribute in its first step, and keeps another one in `env`, as an adapter of a simulator may."""

    def __init__(self):
        self.env = [0]

    def step(self, action):
        self.drift = getattr(self, "drift", 0) + 1
        self.env[0] += 1


def test_attributes_that_are_set_later_or_named_env_are_restored():
    env = Late()
    state = snapshot(env)
    for _ in range(2):
        env.step(0)
        env.step(0)
        restore(env, state)
        assert vars(env) == {"env": [0]}


def test_reseed_changes_what_is_random_and_nothing_else():
    env = make_env("Gusty-v0")
    env.reset(seed=0)
    state = snapshot(env)
    branches = []
    for seed in (1, 1, 2):
        restore(env, state)
        reseed(env, seed)
        branches.append(play(env, [np.zeros(1)] * 60))
    assert_equal(branches[0], branches[1])
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(branches[0], branches[2], strict=True))
    assert all(a[0][2] == b[0][2] for a, b in zip(branches[0], branches[2], strict=True))  # the phase
