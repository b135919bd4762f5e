"""The candidates of --long_prefixes against numbers written out by hand, and compiled against plain."""

import math
import warnings

import pytest
import torch

from agent import fast_path
from agent.compilation import has_compiler

H = 5


def logits(*executed):
    """Logits (B, h - 1) with which so many actions of each plan are executed."""
    return torch.tensor([[1.0] * (k - 1) + [-1.0] * (H - k) for k in executed])


def test_executed_prefixes(make_agent):
    agent = make_agent(4, 2, "--long_prefixes", "executed")
    j = torch.full((6,), 5)
    share = torch.tensor([0.0, 0.29, 0.31, 0.89999, 0.9, 0.99])
    found = agent._actor_prefix_length((j, share), logits(3, 3, 3, 3, 3, 1))
    assert found.tolist() == [1, 1, 2, 3, 5, 5]  # thirds of [0, 0.9), then as drawn
    draws = agent._prefix_draw(4000)
    lengths = agent._actor_prefix_length(draws, logits(2).expand(4000, -1))
    expected = [0.47, 0.47, 0.02, 0.02, 0.02]
    for length, probability in enumerate(expected, start=1):
        error = math.sqrt(probability * (1 - probability) / 4000)
        assert abs((lengths == length).float().mean() - probability) < 4 * error


def test_minimum_over_four_critics_only_for_longer_prefixes(make_agent):
    agent = make_agent(4, 2, "--long_prefixes", "four_critics")
    assert len(agent.critic.critics) == 4
    q = torch.tensor([[3.0, 3], [4, 4], [1, 1], [2, 2]])
    assert agent._minimum(q, torch.tensor([1, 2])).tolist() == [3, 1]


def test_bootstrap_one(make_agent):
    """V of a policy that would execute whole plans: of one action, with the entropy of one action."""
    agent = make_agent(4, 2, "--long_prefixes", "bootstrap_one")
    agent._confidences = lambda logits: torch.ones(len(logits), H)
    obs, noise = torch.randn(3, 4), torch.randn(3, H, 2)
    with torch.no_grad():
        actions, log_prob, _ = agent.actor.sample(obs, noise)
        q = agent.critic_target(obs, actions, torch.ones(3, dtype=torch.long))
        torch.testing.assert_close(agent._value(obs, noise), torch.minimum(*q) - 0.1 * log_prob[:, 0])


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_compiled_updates_equal_the_references(make_agent, make_batches):
    """Of the candidate with most new code."""
    reference, fast = (make_agent(4, 2, "--long_prefixes", "executed") for _ in range(2))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "training with")
        fast_path.install(fast, 2)
        for batch in make_batches(H, 20):
            reference.update(batch), fast.update(batch)
    for name in ("actor", "critic", "critic_target"):
        networks = getattr(reference, name), getattr(fast, name)
        for p, q in zip(*(network.parameters() for network in networks), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)
