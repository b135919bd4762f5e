import pytest
import torch

from agent.critic import Critic

O, A, H, B = 3, 2, 4, 8


def make_critic(h=H, **options):
    torch.manual_seed(0)
    return Critic(O, A, h, hidden_dim=16, hidden_depth=2, **options)


def test_actions_after_the_prefix_do_not_count():
    critic, obs, actions = make_critic(), torch.randn(B, O), torch.randn(B, H, A)
    for j in range(1, H + 1):
        prefix_length = torch.full((B,), j)
        q = critic(obs, actions, prefix_length)
        others = actions.clone()
        others[:, j:] = float("nan")
        assert torch.equal(critic(obs, others, prefix_length), q)
        others = actions.clone()
        others[:, j - 1] += 1
        assert (critic(obs, others, prefix_length) != q).all()


def test_a_zero_action_is_not_a_missing_one():
    critic, obs = make_critic(), torch.randn(B, O)
    values = [critic(obs, torch.zeros(B, H, A), torch.full((B,), j)) for j in range(1, H + 1)]
    assert all((values[0] != other).all() for other in values[1:])


@pytest.mark.parametrize("h, input_size", [(1, O + A), (H, O + H * A + H)])
def test_input_size(h, input_size):
    critic = make_critic(h)
    assert [p.shape for n, p in critic.named_parameters() if n.endswith("layers.0.weight")] == [(16, input_size)] * 2


def test_critics_are_independent():
    critic, obs, actions = make_critic(), torch.randn(B, O), torch.randn(B, H, A)
    q = critic(obs, actions, torch.full((B,), 2))
    assert q.shape == (2, B) and (q[0] != q[1]).all()
    q[0].sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in critic.critics[0].parameters())
    assert all(p.grad.abs().sum() == 0 for p in critic.critics[1].parameters())
