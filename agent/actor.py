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

    Args:
        obs_size, action_size, chunk_size: O, A, h.
        hidden_dim, hidden_depth: units per hidden layer, number of hidden layers.
        log_std_bounds: (low, high) of log sigma.

    Observations that it takes are normalised already, by its `normalizer`, which `SACAgent` puts here.
    """

    def __init__(self, obs_size, action_size, chunk_size, hidden_dim, hidden_depth, log_std_bounds=(-5.0, 2.0)):
        super().__init__()
        self.chunk_size, self.action_size = chunk_size, action_size
        self.log_std_bounds = log_std_bounds
        self.mlp = MLP(obs_size, hidden_dim, hidden_depth, 2 * chunk_size * action_size)
        if chunk_size > 1:
            self.confidence = MLP(hidden_dim, CONFIDENCE_UNITS, 1, chunk_size - 1)
            last = self.confidence.layers[-1]
            nn.init.zeros_(last.weight)
            nn.init.constant_(last.bias, math.log(INITIAL_CONFIDENCE / (1 - INITIAL_CONFIDENCE)))

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
        # detach: the confidence loss must not change what is planned.
        return mean, log_std, self.confidence(features.detach())

    def sample(self, obs, z):
        """A chunk and its log-likelihoods.

        Args:
            obs: normalised, (B, O).
            z: independent standard normal noise, (B, h, A).

        Returns:
            actions (B, h, A) in [-1, 1]; log_prob (B, h), in nats; confidence logits (B, h - 1).
        """
        mean, log_std, logits = self(obs)
        actions, log_slope = squash(mean, log_std, z)
        log_prob = (-0.5 * z * z - LOG_SQRT_2PI - log_slope).sum(-1)  # (B, h, A) -> (B, h)
        return actions, log_prob, logits


def squash(mean, log_std, z):
    """Squash a Gaussian action with tanh (Haarnoja et al. 2018b, appendix C). All shapes are equal.

    Returns:
        a = tanh(mean + exp(log_std) z); log |da / dz|, by which the log density of a is below that of z.
    """
    u = mean + log_std.exp() * z
    # log(1 - tanh(u)^2), in a form that is finite for large |u|.
    log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return torch.tanh(u), log_std + log_slope
