import os

import pytest
import torch

import video

video.choose_renderer()  # before anything imports dm_control

from agent import SACAgent
from flags import parse_args

torch.set_num_threads(1)


@pytest.fixture
def make_agent():
    """Builds a small agent from train.py's flags."""

    def make(obs_size, action_size, *flags, hidden_dim=32):
        flags = vars(parse_args(["--env", "none", "--hidden_dim", str(hidden_dim), *flags])) | {"device": "cpu"}
        return SACAgent.from_flags(obs_size, action_size, flags)

    return make


@pytest.fixture
def renderer():
    """Skips a test where nothing renders, except in CI, which must be able to."""
    if os.environ["MUJOCO_GL"] == "disabled":
        if "CI" in os.environ:
            pytest.fail("nothing renders here")
        pytest.skip("nothing renders here")
