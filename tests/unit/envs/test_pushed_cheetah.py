"""envs/pushed_cheetah.py is cheetah_run but for its pushes."""

import numpy as np

from envs import make_env

NAME = "PushedCheetah-v0"


def test_only_a_positive_pitch_is_pushed():
    plain, pushed = make_env("cheetah_run"), make_env(NAME)
    rng = np.random.default_rng(0)
    obs, _ = plain.reset(seed=1)
    assert np.array_equal(obs, pushed.reset(seed=1)[0])
    same, other = [], 0
    for _ in range(300):
        plain.unwrapped.restore(pushed.unwrapped.snapshot())
        exposed = pushed.unwrapped.is_exposed()
        assert exposed == (obs[1] > 0)  # the pitch is observed
        action = rng.uniform(-1, 1, 6).astype(np.float32)
        expected, obs = plain.step(action), pushed.step(action)[0]
        if np.array_equal(expected[0], obs):
            same.append(exposed)
        else:
            assert exposed
            other += 1
            assert np.abs(expected[0] - obs).max() > 0.01
    assert other > 10 and not all(same)
    assert 0.1 < other / (other + sum(same)) < 0.3


def test_it_can_be_recorded(renderer):
    env = make_env(NAME, render_size=64)
    env.reset(seed=0)
    assert env.render().shape == (84, 84, 3)
    assert env.metadata["render_fps"] == 100
