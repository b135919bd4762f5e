"""The written-out gradients against autograd on ordinary layers, with and without oneDNN."""

import pytest
import torch
from torch import nn

from agent import trunk
from agent.trunk import Trunk


@pytest.fixture(params=["oneDNN", "plain"])
def product(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(trunk, "ONEDNN_LINEAR", None)
    elif trunk.ONEDNN_LINEAR is None:
        pytest.skip("this build of PyTorch has no oneDNN")


def make(input_size, hidden_dim, depth, layer_norm):
    """A trunk and the same weights as ordinary layers."""
    torch.manual_seed(0)
    fast = Trunk(input_size, hidden_dim, depth, layer_norm)
    layers = []
    for linear in fast.layers:
        nn.init.normal_(linear.bias)
        copy = nn.Linear(linear.in_features, linear.out_features)
        copy.load_state_dict(linear.state_dict())
        layers += [copy, nn.LayerNorm(linear.out_features, elementwise_affine=False)] if layer_norm else [copy]
        layers.append(nn.ReLU())
    return fast, nn.Sequential(*layers)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("input_size, hidden_dim, depth", [(5, 48, 2), (48, 5, 1), (23, 64, 3)])
def test_values_and_gradients_equal_autograds(product, input_size, hidden_dim, depth, layer_norm):
    fast, plain = make(input_size, hidden_dim, depth, layer_norm)
    inputs = [torch.randn(32, input_size, generator=torch.Generator().manual_seed(1), requires_grad=True)]
    inputs.append(inputs[0].detach().clone().requires_grad_())
    outputs = [network(x) for network, x in zip((fast, plain), inputs, strict=True)]
    torch.testing.assert_close(*outputs)
    upstream = torch.randn(outputs[0].shape)
    for y in outputs:
        y.backward(upstream)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for p, q in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_gradients_equal_finite_differences(layer_norm):
    fast, _ = make(3, 6, 2, layer_norm)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fast.double(), x)


def test_a_slice_of_wider_rows_is_accepted(product):
    fast, plain = make(5, 16, 2, layer_norm=False)
    rows = torch.randn(32, 3, 9)
    torch.testing.assert_close(fast(rows[:, 0, :5]), plain(rows[:, 0, :5]))


def test_only_wanted_gradients_are_computed(product, monkeypatch):
    """Frozen weights cost no product: one an layer and input remains."""
    fast, _ = make(8, 16, 2, layer_norm=False)
    x = torch.randn(4, 8, requires_grad=True)
    fast.requires_grad_(False)
    y = fast(x)
    calls, linear = [], trunk.linear
    monkeypatch.setattr(trunk, "linear", lambda *a, **k: calls.append(1) or linear(*a, **k))
    y.sum().backward()
    assert len(calls) == 2 and x.grad is not None
    assert all(p.grad is None for p in fast.parameters())


def test_the_gradient_handed_over_is_left_alone(product):
    fast, _ = make(8, 16, 2, layer_norm=False)
    upstream = torch.randn(4, 16)
    before = upstream.clone()
    fast(torch.randn(4, 8)).backward(upstream)
    assert torch.equal(upstream, before)


def plain_forward(self, x):
    for layer in self.layers:
        x = layer(x)
        if self.layer_norm:
            x = nn.functional.layer_norm(x, x.shape[-1:])
        x = nn.functional.relu(x)
    return x


@pytest.mark.parametrize("h", [1, 5])
def test_100_updates_equal_those_on_ordinary_layers(make_agent, make_batches, assert_same_networks, monkeypatch, h):
    batches = make_batches(h, 100)
    fast, plain = (make_agent(4, 2, "--chunk_size", str(h)) for _ in range(2))
    for batch in batches:
        fast.update(batch)
    monkeypatch.setattr(Trunk, "forward", plain_forward)
    for batch in batches:
        plain.update(batch)
    assert_same_networks(fast, plain, make_agent(4, 2, "--chunk_size", str(h)))
