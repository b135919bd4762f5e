import math

import pytest
import torch

from agent import confidence
from agent.actor import INITIAL_CONFIDENCE
from replay_buffer import OpenLoopStates

O, A, H = 3, 2, 4


def make_reached(seed=0, count=64):
    g = torch.Generator().manual_seed(seed)
    obs, planned_at = torch.randn(count, O, generator=g), torch.randn(count, O, generator=g)
    return OpenLoopStates(planned_at, 1 + torch.arange(count) % (H - 1), obs)


def advantage(agent, reached, alpha=0.0, critic=None):
    noise = torch.randn(len(reached.obs), A, generator=torch.Generator().manual_seed(1))
    return confidence.advantage(agent.actor, critic or agent.critic, reached, noise, alpha)[0]


def test_the_advantage_is_zero_where_a_fresh_plan_would_be_the_same(make_agent):
    """All planned steps alike and independent of the state: what is planned is what a new look would give."""
    agent = make_agent(O, A, "--chunk_size", str(H))
    with torch.no_grad():
        last = agent.actor.mlp.layers[-1]
        last.weight.zero_()
        last.bias.copy_(torch.tensor([[0.3, -0.2], [-1.0, 0.5]])[:, None].expand(2, H, A).flatten())
    assert advantage(agent, make_reached(), alpha=1.0).abs().max() < 1e-5


def test_errors_that_all_values_of_a_state_or_length_share_cancel(make_agent):
    agent = make_agent(O, A, "--chunk_size", str(H))
    reached = make_reached()

    def shifted(obs, actions, prefix_length):
        return agent.critic(obs, actions, prefix_length) + 1000 * obs.sum(1) + 500 * prefix_length

    torch.testing.assert_close(advantage(agent, reached, critic=shifted), advantage(agent, reached), atol=2e-3, rtol=0)


def test_the_better_action_wins(make_agent):
    """Q = -|a - target(s')|: the advantage is the difference of two distances, whatever the state plans."""
    agent = make_agent(O, A, "--chunk_size", str(H))
    reached = make_reached()

    def closeness(obs, actions, prefix_length):
        assert (prefix_length == 1).all() and (actions[:, 1:] == 0).all()
        return -(actions[:, 0] - torch.tanh(obs[:, :A])).abs().sum(1).repeat(2, 1)

    expected = []
    noise = torch.randn(len(reached.obs), A, generator=torch.Generator().manual_seed(1))
    for s, j, s_reached, e in zip(reached.planned_at, reached.prefix_length, reached.obs, noise, strict=True):
        distances = []
        for obs, index in ((s, j), (s_reached, 0)):
            mean, log_std, _ = agent.actor(obs[None])
            action = torch.tanh(mean[0, index] + log_std[0, index].exp() * e)
            distances.append((action - torch.tanh(s_reached[:A])).abs().sum().item())
        expected.append(distances[1] - distances[0])
    actual = advantage(agent, reached, critic=closeness)
    torch.testing.assert_close(actual, torch.tensor([expected, expected]), atol=1e-5, rtol=1e-4)


def test_cross_entropy_is_the_mean_over_valid_rows():
    logits = torch.log(torch.tensor([[0.8, 0.1], [0.3, 0.6], [0.5, 0.5]])).sub(
        torch.log1p(-torch.tensor([[0.8, 0.1], [0.3, 0.6], [0.5, 0.5]]))
    )
    advantages = torch.tensor([[1.0, -0.2, 9.0], [-1.0, -0.2, -9.0]])
    loss, label, is_at = confidence.cross_entropy(logits, advantages, torch.tensor([1, 2, 0]), 0.25)
    assert label.tolist() == [0.5, 1.0, 0.5] and is_at.tolist() == [[1, 0], [0, 1], [0, 0]]
    expected = -(0.5 * math.log(0.8) + 0.5 * math.log(0.2) + math.log(0.6)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    nothing, _, _ = confidence.cross_entropy(logits, advantages, torch.zeros(3, dtype=torch.long), 0.25)
    assert nothing.item() == 0


def test_delta_is_margin_times_the_larger_of_disagreement_and_noise():
    advantages = torch.tensor([[1.0, -0.2, 9.0], [-1.0, -0.2, -9.0]])  # variances: 2, 0, and one that does not count
    steps = torch.tensor([1, 2, 0])
    for alpha, margin, expected in ((0.3, 1, 1), (0.4, 1, 1.2), (0.3, 0.5, 0.5)):
        delta = confidence.delta(advantages, steps, torch.tensor(alpha), action_size=6, margin=margin)
        assert delta.item() == pytest.approx(expected)
    padding = torch.zeros(3, dtype=torch.long)
    nothing = confidence.delta(advantages, padding, torch.tensor(0.0), action_size=6, margin=1)
    assert nothing.item() == 0


def test_an_untrained_actor_keeps_its_plans(make_agent):
    plan = make_agent(O, A, "--chunk_size", str(H)).plan([0.0] * O, sample=False)
    assert plan.confidences.tolist() == pytest.approx([1] + [INITIAL_CONFIDENCE] * (H - 1))


def test_predicted_advantage_is_the_mean_of_the_labels_advantage(make_agent):
    agent = make_agent(O, A, "--chunk_size", str(H))
    reached = make_reached()
    draws = []
    for seed in range(400):
        noise = torch.randn(len(reached.obs), A, generator=torch.Generator().manual_seed(seed))
        alpha = agent.log_alpha.exp()
        draws.append(confidence.advantage(agent.actor, agent.critic, reached, noise, alpha)[0].mean(0))
    draws = torch.stack(draws)
    error = (agent.predict_advantage(reached) - draws.mean(0)).abs()
    assert (error < 4.5 * draws.std(0) / math.sqrt(16)).all()
    assert torch.equal(agent.predict_advantage(reached), agent.predict_advantage(reached))
