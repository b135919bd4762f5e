"""The prefix critic: Q(s, a_{1:j}) of every prefix length j in one network."""

import itertools

import torch
import torch.nn.functional as F
from torch import nn


class Critic(nn.Module):
    """Independent critics, computed together: Q_c(s, a_{1:j}) for c = 1..C and one j in 1..h a sample.

    Input: s, the chunk with the actions after j set to zero, and one-hot j (none for h = 1). Each hidden layer
    is linear, LayerNorm, ReLU. The LayerNorm has no gain and bias of its own: a positive gain
    would only rescale the next layer's weights, and the linear layer's bias already shifts units against
    each other.

    Args:
        obs_size, action_size, chunk_size: O, A, h.
        hidden_dim, hidden_depth: units of a hidden layer, number of hidden layers.
        layer_norm: whether hidden layers are normalised.
        num_critics: C.
    """

    def __init__(self, obs_size, action_size, chunk_size, hidden_dim, hidden_depth, layer_norm=True, num_critics=2):
        super().__init__()
        self.chunk_size, self.layer_norm = chunk_size, layer_norm
        one_hot_size = chunk_size if chunk_size > 1 else 0
        sizes = [obs_size + chunk_size * action_size + one_hot_size] + [hidden_dim] * hidden_depth + [1]
        shapes = list(itertools.pairwise(sizes))
        self.weights = nn.ParameterList(torch.empty(num_critics, m, n) for m, n in shapes)
        self.biases = nn.ParameterList(torch.zeros(num_critics, 1, n) for _, n in shapes)
        for weight in itertools.chain.from_iterable(self.weights):
            nn.init.orthogonal_(weight.data)

    def forward(self, obs, actions, length):
        """(B, O), (B, h, A), j (B,) -> Q (C, B)."""
        steps = torch.arange(self.chunk_size, device=length.device)
        inputs = [obs]
        if self.chunk_size == 1:
            inputs += [actions.flatten(1)]
        else:
            prefix = (steps < length[:, None]).unsqueeze(-1)  # (B, h, 1)
            one_hot = (steps + 1 == length[:, None]).to(obs.dtype)  # (B, h)
            inputs += [torch.where(prefix, actions, 0.0).flatten(1), one_hot]  # (B, hA), (B, h)
        x = torch.cat(inputs, dim=1).expand(len(self.weights[0]), -1, -1)  # (C, B, O + hA + h)
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            x = torch.baddbmm(bias, x, weight)  # (C, B, units)
            if self.layer_norm:
                x = F.layer_norm(x, x.shape[-1:])
            x = F.relu(x)
        return torch.baddbmm(last[1], x, last[0]).squeeze(-1)
