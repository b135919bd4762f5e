import torch
from torch import nn

from agent.mlp import MLP


def test_features_are_the_last_hidden_layer_and_the_output_is_linear_in_them():
    torch.manual_seed(0)
    mlp = MLP(5, 16, 2, 3, layer_norm=True)
    for layer in mlp.layers:
        nn.init.normal_(layer.bias)
    norm = nn.LayerNorm(16, elementwise_affine=False)
    x = torch.randn(32, 5)
    hidden = torch.relu(norm(mlp.layers[1](torch.relu(norm(mlp.layers[0](x))))))
    torch.testing.assert_close(mlp.features(x), hidden)
    torch.testing.assert_close(mlp(x), hidden @ mlp.layers[2].weight.t() + mlp.layers[2].bias)
    torch.testing.assert_close(mlp.output(hidden), mlp(x))


def test_weights_start_orthogonal_and_biases_at_zero():
    mlp = MLP(7, 16, 2, 3)
    for layer in mlp.layers:
        n, m = layer.weight.shape
        gram = layer.weight @ layer.weight.t() if n <= m else layer.weight.t() @ layer.weight
        torch.testing.assert_close(gram, torch.eye(min(n, m)), atol=1e-5, rtol=0)
        assert (layer.bias == 0).all()
    assert [name for name, _ in mlp.named_parameters()][:2] == ["layers.0.weight", "layers.0.bias"]
