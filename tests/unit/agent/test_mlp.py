"""The written-out gradients against autograd on ordinary layers, with and without oneDNN."""

import pytest
import torch
from torch import nn

from agent import mlp
from agent.mlp import MLP


@pytest.fixture(params=["oneDNN", "plain"])
def product(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(mlp, "ONEDNN_LINEAR", None)
    elif mlp.ONEDNN_LINEAR is None:
        pytest.skip("this build of PyTorch has no oneDNN")


def make(input_size, hidden_dim, depth, output_size, layer_norm):
    """An MLP and the same weights as ordinary layers."""
    torch.manual_seed(0)
    fast = MLP(input_size, hidden_dim, depth, output_size, layer_norm)
    layers = []
    for linear in fast.layers:
        nn.init.normal_(linear.bias)
        copy = nn.Linear(linear.in_features, linear.out_features)
        copy.load_state_dict(linear.state_dict())
        layers += [copy, nn.LayerNorm(linear.out_features, elementwise_affine=False)] if layer_norm else [copy]
        layers.append(nn.ReLU())
    return fast, nn.Sequential(*layers[: -2 if layer_norm else -1])


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("sizes", [(5, 48, 2, 7), (48, 5, 1, 12), (23, 64, 3, 1), (6, 8, 1, 30)])
def test_values_and_gradients_equal_autograds(product, sizes, layer_norm):
    fast, plain = make(*sizes, layer_norm)
    x = torch.randn(32, sizes[0], generator=torch.Generator().manual_seed(1), requires_grad=True)
    outputs = fast(x)[0], plain(x)
    torch.testing.assert_close(*outputs)
    upstream = torch.randn(outputs[0].shape)
    gradients = [
        torch.autograd.grad(y, [x, *network.parameters()], upstream)
        for y, network in zip(outputs, (fast, plain), strict=True)
    ]
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        assert got.stride() == expected.stride()  # the fused Adam relies on it


@pytest.mark.parametrize("layer_norm", [False, True])
def test_gradients_equal_finite_differences(layer_norm):
    fast, _ = make(3, 6, 2, 2, layer_norm)
    fast.double()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: fast(x)[0], x)


def test_features_are_the_last_hidden_layers_and_carry_no_gradient(product):
    fast, plain = make(5, 16, 2, 3, layer_norm=True)
    x = torch.randn(32, 5, requires_grad=True)
    features = fast(x)[1]
    torch.testing.assert_close(features, plain[:-1](x).detach())
    assert not features.requires_grad


def test_a_slice_of_wider_rows_is_accepted(product):
    fast, plain = make(5, 16, 2, 8, layer_norm=False)
    rows = torch.randn(32, 3, 9)
    torch.testing.assert_close(fast(rows[:, 0, :5])[0], plain(rows[:, 0, :5]))


def test_only_wanted_gradients_are_computed(product, monkeypatch):
    """Frozen weights cost no product: one a layer remains."""
    fast, _ = make(8, 16, 2, 6, layer_norm=False)
    x = torch.randn(8, 8, requires_grad=True)
    fast.requires_grad_(False)
    y, _ = fast(x)
    calls, linear = [], mlp.linear
    monkeypatch.setattr(mlp, "linear", lambda *a, **k: calls.append(1) or linear(*a, **k))
    y.sum().backward()
    assert len(calls) == 3 and x.grad is not None
    assert all(p.grad is None for p in fast.parameters())


def test_the_gradient_handed_over_is_left_alone(product):
    fast, _ = make(8, 16, 2, 8, layer_norm=False)
    upstream = torch.randn(8, 8)
    before = upstream.clone()
    fast(torch.randn(8, 8))[0].backward(upstream)
    assert torch.equal(upstream, before)


def plain_forward(self, x):
    *hidden, last = self.layers
    for layer in hidden:
        x = layer(x)
        if self.layer_norm:
            x = nn.functional.layer_norm(x, x.shape[-1:])
        x = nn.functional.relu(x)
    return last(x), x.detach()


@pytest.mark.parametrize("h", [1, 5])
def test_100_updates_equal_those_on_ordinary_layers(make_agent, make_batches, assert_same_networks, monkeypatch, h):
    batches = make_batches(h, 100)
    fast, plain = (make_agent(4, 2, "--chunk_size", str(h)) for _ in range(2))
    for batch in batches:
        fast.update(batch)
    monkeypatch.setattr(MLP, "forward", plain_forward)
    for batch in batches:
        plain.update(batch)
    assert_same_networks(fast, plain, make_agent(4, 2, "--chunk_size", str(h)))
