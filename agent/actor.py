"""The actor: a squashed Gaussian for each action of a chunk, and a confidence for each."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from agent.mlp import MLP

# Labels need executed plans, so an untrained head must not end plans early: with 0.9 they run to their end at every
# confidence_threshold up to 0.9. At 0.9 the sigmoid is still steep enough for confidences to fall quickly.
INITIAL_CONFIDENCE = 0.9
# Hidden units of the confidence head. It reads the policy's features, so a small layer is enough, and its cost is
# negligible beside the other networks.
CONFIDENCE_UNITS = 64
LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class Actor(nn.Module):
    """pi(s): h tanh-squashed Gaussians (Haarnoja et al. 2018b, appendix C) and h - 1 confidence logits.

    The noise of a chunk is an AR(1) sequence along the chunk,

        e_1 = z_1,   e_i = rho e_{i-1} + sqrt(1 - rho^2) z_i,   a_i = tanh(mu_i + sigma_i e_i),

    with independent standard normal z and one rho per action dimension. Each a_i has the same marginal distribution
    as with independent noise.

    Args:
        obs_size, action_size, chunk_size: O, A, h.
        hidden_dim, hidden_depth: units per hidden layer, number of hidden layers.
        log_std_bounds: (low, high) of log sigma.
        noise_correlation: initial rho, in [0, 1). 0 is independent noise, and stays 0: its gradient is 0.
            None is independent noise, without rho.
        learnable_noise_correlation: whether rho is a parameter.
    """

    def __init__(
        self,
        obs_size,
        action_size,
        chunk_size,
        hidden_dim,
        hidden_depth,
        log_std_bounds=(-5.0, 2.0),
        noise_correlation=0.8,
        learnable_noise_correlation=True,
    ):
        super().__init__()
        self.chunk_size, self.action_size = chunk_size, action_size
        self.is_correlated = chunk_size > 1 and noise_correlation is not None
        self.log_std_bounds = log_std_bounds
        self.mlp = MLP(obs_size, hidden_dim, hidden_depth, 2 * chunk_size * action_size)
        if chunk_size > 1:
            self.confidence = MLP(hidden_dim, CONFIDENCE_UNITS, 1, chunk_size - 1)
            last = self.confidence.layers[-1]
            nn.init.zeros_(last.weight)
            nn.init.constant_(last.bias, math.log(INITIAL_CONFIDENCE / (1 - INITIAL_CONFIDENCE)))
        if self.is_correlated:
            correlation = torch.tensor(noise_correlation)
            logit = (correlation.log() - (-correlation).log1p()).repeat(action_size)
            # The logit of 0 is -inf, and weights must be finite. At -100 correlation and gradient are 0 in effect.
            logit = logit.clamp(min=-100.0)
            self.correlation_logit = nn.Parameter(logit, requires_grad=learnable_noise_correlation)

    def forward(self, obs):
        """(B, O) -> mean (B, h, A), log_std (B, h, A), confidence logits of steps 2..h (B, h - 1)."""
        features = self.mlp.features(obs)  # (B, hidden_dim)
        gaussian = self.mlp.output(features)
        # (B, 2hA) -> 2 x (B, h, A)
        mean, log_std = gaussian.view(-1, 2, self.chunk_size, self.action_size).unbind(1)
        low, high = self.log_std_bounds
        log_std = low + 0.5 * (high - low) * (torch.tanh(log_std) + 1)
        if self.chunk_size == 1:
            return mean, log_std, features.new_empty(len(features), 0)
        # detach: the confidence loss must not change the policy.
        return mean, log_std, self.confidence(features.detach())

    def noise_correlation(self):
        """rho of each action dimension, (A,)."""
        return torch.sigmoid(self.correlation_logit)

    def correlate(self, z):
        """Independent noise z (B, h, A) -> AR(1) noise e (B, h, A), standard normal at each step."""
        if not self.is_correlated:
            return z
        rho = self.noise_correlation()  # (A,)
        scale = torch.sqrt(1 - rho * rho)
        e = [z[:, 0]]
        for i in range(1, self.chunk_size):
            e.append(rho * e[-1] + scale * z[:, i])
        return torch.stack(e, dim=1)  # h x (B, A) -> (B, h, A)

    def sample(self, obs, z):
        """A chunk and its log-likelihoods.

        log pi(a_i | a_<i, s) is the log density of z_i with the usual squashing terms. The constant
        A/2 log(1 - rho^2) of the change of variables from e_i to z_i is left out, so that only the critic drives rho.

        Args:
            obs: (B, O).
            z: standard normal noise, (B, h, A).

        Returns:
            actions (B, h, A) in [-1, 1]; log_prob (B, h), in nats; confidence logits (B, h - 1).
        """
        mean, log_std, logits = self(obs)
        actions, log_density = squash(mean, log_std, self.correlate(z))
        log_prob = (-0.5 * z * z - LOG_SQRT_2PI + log_density).sum(-1)  # (B, h, A) -> (B, h)
        return actions, log_prob, logits


def squash(mean, log_std, e):
    """Squash a Gaussian action with tanh (Haarnoja et al. 2018b, appendix C). All shapes are equal.

    Returns:
        a = tanh(mean + exp(log_std) e); log |de / da|, which is to be added to the log density of e.
    """
    u = mean + log_std.exp() * e
    # log(1 - tanh(u)^2), in a form that is finite for large |u|.
    log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return torch.tanh(u), -log_std - log_slope
