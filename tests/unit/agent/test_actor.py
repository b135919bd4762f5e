import torch
from torch.distributions import TanhTransform

from agent.actor import INITIAL_CONFIDENCE, Actor

O, A, H = 3, 2, 4


def make_actor(h=H, **options):
    torch.manual_seed(0)
    return Actor(O, A, h, hidden_dim=16, hidden_depth=2, **options)


def test_each_action_is_a_squashed_gaussian():
    actor = make_actor()
    obs, z = torch.randn(9, O), torch.randn(9, H, A)
    actions, log_prob, _ = actor.sample(obs, z)
    mean, log_std, _ = actor(obs)
    u = mean + log_std.exp() * z
    normal = torch.distributions.Normal(mean, log_std.exp())
    expected = (normal.log_prob(u) - TanhTransform().log_abs_det_jacobian(u, actions)).sum(-1)
    torch.testing.assert_close(log_prob, expected, rtol=1e-4, atol=1e-4)


def test_log_prob_is_finite_far_out():
    actor = make_actor()
    with torch.no_grad():
        actor.mlp.layers[-1].bias.fill_(40.0)
    actions, log_prob, _ = actor.sample(torch.zeros(1, O), torch.zeros(1, H, A))
    assert (actions == 1).all() and torch.isfinite(log_prob).all()


def test_log_std_stays_within_its_bounds():
    actor = make_actor(log_std_bounds=(-1.0, 0.5))
    _, log_std, _ = actor(100 * torch.randn(500, O))
    assert log_std.min() >= -1 and log_std.max() <= 0.5
    assert log_std.max() - log_std.min() > 1.4


def test_confidence_logits_do_not_reach_the_hidden_layers():
    actor = make_actor()
    _, _, logits = actor(torch.randn(5, O))
    torch.testing.assert_close(torch.sigmoid(logits), torch.full((5, H - 1), INITIAL_CONFIDENCE))
    logits.sum().backward()
    assert {n for n, p in actor.named_parameters() if p.grad is not None} == {
        name for name, _ in actor.named_parameters() if name.startswith("confidence.")
    }


def test_chunk_size_1_has_no_confidence():
    actor = make_actor(h=1)
    assert {name.split(".")[0] for name, _ in actor.named_parameters()} == {"mlp"}
    _, _, logits = actor(torch.randn(5, O))
    assert logits.shape == (5, 0)
