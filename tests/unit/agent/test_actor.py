import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, TanhTransform

from agent.actor import INITIAL_CONFIDENCE, Actor

O, A, H = 3, 2, 4
RHO = torch.tensor([0.8, 0.3])


def make_actor(h=H, **options):
    torch.manual_seed(0)
    return Actor(O, A, h, hidden_dim=16, hidden_depth=2, **options)


def set_correlation(actor, rho):
    with torch.no_grad():
        actor.correlation_logit.copy_(torch.logit(rho))


def test_noise_is_an_ar1_sequence_of_standard_normals():
    actor = make_actor()
    set_correlation(actor, RHO)
    e = actor.correlate(torch.randn(200_000, H, A)).detach()
    assert e.mean((0,)).abs().max() < 0.01
    for a in range(A):
        expected = RHO[a] ** (torch.arange(H)[:, None] - torch.arange(H)).abs()
        np.testing.assert_allclose(np.cov(e[:, :, a].T), expected, atol=0.015)
    assert abs(np.corrcoef(e[:, 0, 0], e[:, 0, 1])[0, 1]) < 0.01  # dimensions are independent


def test_marginals_do_not_depend_on_the_correlation():
    obs, z = torch.randn(1, O).expand(100_000, -1), torch.randn(100_000, H, A)
    actor = make_actor()
    deviations = []
    for rho in (0.01, 0.9):
        set_correlation(actor, torch.full((A,), rho))
        actions, _, _ = actor.sample(obs, z)
        deviations.append(torch.stack([actions.mean(0), actions.std(0)]).detach())
    torch.testing.assert_close(*deviations, atol=0.01, rtol=0)


def test_log_likelihood_is_the_multivariate_normals():
    """Sum over the chunk: a joint Gaussian with AR(1) covariance, squashed; the left-out constant put back."""
    actor = make_actor()
    set_correlation(actor, RHO)
    obs, z = torch.randn(50, O), torch.randn(50, H, A)
    actions, log_prob, _ = actor.sample(obs, z)
    mean, log_std, _ = actor(obs)
    u = mean + log_std.exp() * actor.correlate(z)
    torch.testing.assert_close(actions, torch.tanh(u))
    lag = (torch.arange(H)[:, None] - torch.arange(H)).abs()
    expected = 0
    for a in range(A):
        scale = torch.diag_embed(log_std[..., a].exp())
        joint = MultivariateNormal(mean[..., a], scale @ (RHO[a] ** lag) @ scale)
        jacobian = TanhTransform().log_abs_det_jacobian(u[..., a], actions[..., a]).sum(1)
        left_out = -(H - 1) / 2 * math.log(1 - RHO[a] ** 2)
        expected = expected + joint.log_prob(u[..., a]) - jacobian - left_out
    torch.testing.assert_close(log_prob.sum(1), expected, rtol=1e-4, atol=1e-3)


def test_first_action_is_a_plain_squashed_gaussian():
    """And so is every later one where the correlation is zero."""
    actor = make_actor(noise_correlation=0.0)
    obs, z = torch.randn(9, O), torch.randn(9, H, A)
    actions, log_prob, _ = actor.sample(obs, z)
    mean, log_std, _ = actor(obs)
    u = mean + log_std.exp() * z
    normal = torch.distributions.Normal(mean, log_std.exp())
    expected = (normal.log_prob(u) - TanhTransform().log_abs_det_jacobian(u, actions)).sum(-1)
    torch.testing.assert_close(log_prob, expected, rtol=1e-4, atol=1e-4)
    log_prob.sum().backward()
    assert actor.noise_correlation().tolist() == [0, 0]
    assert actor.correlation_logit.grad.tolist() == [0, 0]
    assert torch.isfinite(actor.correlation_logit).all()


def test_log_prob_is_finite_far_out():
    actor = make_actor()
    with torch.no_grad():
        actor.mlp.layers[-1].bias.fill_(40.0)
    actions, log_prob, _ = actor.sample(torch.zeros(1, O), torch.zeros(1, H, A))
    assert (actions == 1).all() and torch.isfinite(log_prob).all()


def test_a_held_correlation_is_no_parameter():
    actor = make_actor(noise_correlation=0.6, learnable_noise_correlation=False)
    assert actor.noise_correlation().tolist() == pytest.approx([0.6] * A)
    assert not actor.correlation_logit.requires_grad


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


def test_chunk_size_1_has_neither_confidence_nor_correlation():
    actor = make_actor(h=1)
    assert {name.split(".")[0] for name, _ in actor.named_parameters()} == {"mlp"}
    _, _, logits = actor(torch.randn(5, O))
    assert logits.shape == (5, 0)
