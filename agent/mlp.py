"""The multi-layer perceptron (MLP) of all networks."""

import itertools

import torch.nn.functional as F
from torch import nn


class MLP(nn.Module):
    """hidden_depth layers of (linear, optional LayerNorm, ReLU), then a linear layer.

    The LayerNorm has no gain or bias: the next layer's weights can absorb a positive gain, and the bias of the linear
    layer before it already shifts units. Weights are initialised orthogonally, biases with zero, as in pytorch_sac.

    Args:
        input_size, output_size: features per sample.
        hidden_dim, hidden_depth: units per hidden layer, number of hidden layers.
        layer_norm: whether hidden layers have a LayerNorm.
    """

    def __init__(self, input_size, hidden_dim, hidden_depth, output_size, layer_norm=False):
        super().__init__()
        self.layer_norm = layer_norm
        sizes = [input_size] + [hidden_dim] * hidden_depth + [output_size]
        self.layers = nn.ModuleList()
        for m, n in itertools.pairwise(sizes):
            layer = nn.Linear(m, n)
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)
            self.layers.append(layer)

    def features(self, x):
        """(B, input_size) -> outputs of the last hidden layer (B, hidden_dim)."""
        *hidden, _ = self.layers
        for layer in hidden:
            x = layer(x)
            if self.layer_norm:
                x = F.layer_norm(x, x.shape[-1:])
            x = F.relu(x)
        return x

    def output(self, features):
        """(B, hidden_dim) -> (B, output_size)."""
        return self.layers[-1](features)

    def forward(self, x):
        """(B, input_size) -> (B, output_size)."""
        return self.output(self.features(x))
