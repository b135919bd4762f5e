import os

import numpy as np
import pytest
import torch

from envs import rendering

rendering.choose_renderer()  # before anything imports dm_control

from agent import SACAgent
from cli import parse_train_args
from replay_buffer import ReplayBuffer

torch.set_num_threads(1)


@pytest.fixture
def make_agent():
    """Builds a small agent from train.py's flags."""

    def make(obs_size, action_size, *flags, hidden_dim=32):
        config, _ = parse_train_args(["--env", "none", "--hidden_dim", str(hidden_dim), *flags])
        return SACAgent(obs_size, action_size, config, "cpu")

    return make


@pytest.fixture
def make_batches():
    """Draws batches of 32 from 400 random steps: O = 4, A = 2."""

    def make(h, count):
        buffer = ReplayBuffer(4, 2, 500, h, 0.99, False, "cpu", np.random.default_rng(0))
        for t in range(400):
            row = torch.randn(11, generator=torch.Generator().manual_seed(t)).numpy()
            buffer.add(row[:4], np.tanh(row[4:6]), row[6], row[7:], False, t % 50 == 49)
        return [buffer.sample(32) for _ in range(count)]

    return make


@pytest.fixture
def assert_same_networks():
    """Asserts that two agents have equal weights, which both differ from those of a third, untrained one."""

    def check(one, other, untrained):
        for name in ("actor", "critic", "critic_target"):
            networks = (getattr(agent, name).state_dict().values() for agent in (one, other, untrained))
            for p, q, start in zip(*networks, strict=True):
                torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)
                assert torch.equal(p, start) or (p - start).abs().mean() > 50 * (p - q).abs().mean()

    return check


@pytest.fixture
def renderer():
    """Skips a test where nothing renders, except in CI, which must be able to."""
    if os.environ["MUJOCO_GL"] == "disabled":
        if "CI" in os.environ:
            pytest.fail("nothing renders here")
        pytest.skip("nothing renders here")
