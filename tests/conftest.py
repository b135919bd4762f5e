import inspect

import pytest
import torch

from agent import SACAgent
from train import parse_args

torch.set_num_threads(1)


@pytest.fixture
def make_agent():
    """Builds a small agent from train.py's flags."""

    def make(obs_size, action_size, *flags, hidden_dim=32):
        args = parse_args(["--env", "none", "--hidden_dim", str(hidden_dim), *flags])
        options = inspect.getfullargspec(SACAgent).kwonlyargs
        return SACAgent(
            obs_size, action_size, **{k: v for k, v in vars(args).items() if k in options} | {"device": "cpu"}
        )

    return make
