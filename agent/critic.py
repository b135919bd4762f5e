"""The prefix critic: one network for Q(s, a_{1:j}) of every prefix length j."""

import torch
from torch import nn

from agent.mlp import MLP


class Critic(nn.Module):
    """Independent critics Q_c(s, a_{1:j}), c = 1..C, in units of return, with one j in 1..h per sample.

    The input of each is s, the chunk with the actions after j set to zero, and j as a one-hot vector (none for h = 1).

    Args:
        obs_size, action_size, chunk_size: O, A, h.
        hidden_dim, hidden_depth: units per hidden layer, number of hidden layers.
        layer_norm: whether hidden layers have a LayerNorm.
    """

    def __init__(self, obs_size, action_size, chunk_size, hidden_dim, hidden_depth, layer_norm=True):
        super().__init__()
        self.chunk_size = chunk_size
        one_hot_size = chunk_size if chunk_size > 1 else 0
        input_size = obs_size + chunk_size * action_size + one_hot_size
        self.critics = nn.ModuleList(MLP(input_size, hidden_dim, hidden_depth, 1, layer_norm) for _ in range(2))

    def forward(self, obs, actions, prefix_length):
        """obs (B, O), actions (B, h, A), prefix_length (B,) -> Q (C, B)."""
        if self.chunk_size == 1:
            x = torch.cat([obs, actions.flatten(1)], dim=1)  # (B, O + A)
        else:
            steps = torch.arange(self.chunk_size, device=prefix_length.device)
            prefix = (steps < prefix_length[:, None]).unsqueeze(-1)  # (B, h, 1)
            one_hot = (steps + 1 == prefix_length[:, None]).to(obs.dtype)  # (B, h)
            x = torch.cat([obs, torch.where(prefix, actions, 0.0).flatten(1), one_hot], dim=1)  # (B, O + hA + h)
        return torch.cat([critic(x) for critic in self.critics], dim=1).t()  # (B, C) -> (C, B)
