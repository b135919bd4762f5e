"""The written-out gradients against autograd on the same `MLP`, with and without oneDNN."""

import copy
import importlib
import sys
import warnings

import pytest
import torch
from torch import nn

from agent import fast_mlp
from agent.fast_mlp import FastMLP, probe_onednn
from agent.mlp import MLP


@pytest.fixture
def probed():
    """The operator as it is here, restored afterwards."""
    probe_onednn()
    yield fast_mlp.onednn_operator
    probe_onednn()


@pytest.fixture(params=["oneDNN", "plain"])
def product(request, probed, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(fast_mlp, "onednn_operator", None)
    elif probed is None:
        pytest.skip("this build of PyTorch has no oneDNN")


def make(input_size, hidden_dim, depth, output_size, layer_norm):
    """A FastMLP and an MLP with the same weights."""
    torch.manual_seed(0)
    plain = MLP(input_size, hidden_dim, depth, output_size, layer_norm)
    for linear in plain.layers:
        nn.init.normal_(linear.bias)
    fast = copy.deepcopy(plain)
    fast.__class__ = FastMLP
    return fast, plain


SIZES = [(5, 48, 2, 7), (48, 5, 1, 12), (23, 64, 3, 1), (6, 8, 1, 30)]
PARTS = {
    "whole": lambda mlp, x: mlp(x),
    "features": lambda mlp, x: mlp.features(x),
    "in turn": lambda mlp, x: mlp.output(mlp.features(x)),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_values_and_gradients_equal_autograds(product, sizes, layer_norm, part):
    networks = make(*sizes, layer_norm)
    x = torch.randn(32, sizes[0], generator=torch.Generator().manual_seed(1), requires_grad=True)
    outputs = [PARTS[part](network, x) for network in networks]
    torch.testing.assert_close(*outputs)
    with torch.no_grad():
        torch.testing.assert_close(PARTS[part](networks[0], x), outputs[1])
    upstream = torch.randn(outputs[0].shape)
    gradients = [
        torch.autograd.grad(y, [x, *network.parameters()], upstream, allow_unused=True)
        for y, network in zip(outputs, networks, strict=True)
    ]
    assert sum(g is not None for g in gradients[0]) == 1 + 2 * (sizes[2] + (part != "features"))
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        assert got is None or got.stride() == expected.stride()  # the fused Adam relies on it


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_gradients_equal_finite_differences(layer_norm, part):
    fast, _ = make(3, 6, 2, 2, layer_norm)
    fast.double()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: PARTS[part](fast, x), x)


def test_a_slice_of_wider_rows_is_accepted(product):
    fast, plain = make(5, 16, 2, 8, layer_norm=False)
    rows = torch.randn(32, 3, 9)
    torch.testing.assert_close(fast(rows[:, 0, :5]), plain(rows[:, 0, :5]))


def test_only_wanted_gradients_are_computed(product, monkeypatch):
    """Frozen weights cost no product: one per layer remains."""
    fast, _ = make(8, 16, 2, 6, layer_norm=False)
    x = torch.randn(8, 8, requires_grad=True)
    fast.requires_grad_(False)
    y = fast(x)
    calls, linear = [], fast_mlp.linear
    monkeypatch.setattr(fast_mlp, "linear", lambda *a, **k: calls.append(1) or linear(*a, **k))
    y.sum().backward()
    assert len(calls) == 3 and x.grad is not None
    assert all(p.grad is None for p in fast.parameters())


@pytest.mark.parametrize("part", PARTS)
def test_the_gradient_handed_over_is_left_alone(product, part):
    fast, _ = make(8, 16, 2, 16, layer_norm=False)
    upstream = torch.randn(8, 16)
    before = upstream.clone()
    PARTS[part](fast, torch.randn(8, 8)).backward(upstream)
    assert torch.equal(upstream, before)


class Operators:
    """Stands for torch.ops.mkldnn with another linear operator, or without one."""

    def __init__(self, linear=None):
        if linear is not None:
            self._linear_pointwise = type("Overloads", (), {"default": staticmethod(linear)})


def no_algorithm(x, weight, bias, attr, scalars):
    raise AssertionError("called with six arguments")


OTHERS = {
    "missing": Operators(),
    "other signature": Operators(no_algorithm),
    "other meaning": Operators(lambda x, weight, bias, attr, scalars, algorithm: x @ weight),
    "fails": Operators(lambda *args: torch.zeros(2) @ torch.zeros(3)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_without_a_usable_operator_products_are_torchs(probed, monkeypatch, name):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of PyTorch has no oneDNN")
    monkeypatch.setattr(torch.ops, "mkldnn", OTHERS[name])
    with pytest.warns(UserWarning, match="oneDNN's are not usable here: .") as caught:
        probe_onednn()
    assert len(caught) == 1 and fast_mlp.onednn_operator is None
    fast, plain = make(8, 16, 2, 16, layer_norm=True)
    x = torch.randn(32, 8)
    torch.testing.assert_close(fast(x), plain(x))
    monkeypatch.undo()


def test_a_build_without_onednn_is_no_reason_to_warn(probed, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe_onednn()
    assert fast_mlp.onednn_operator is None


@pytest.mark.parametrize("again", ["reload", "new import"])
def test_the_module_can_be_imported_again(probed, monkeypatch, again):
    """Its operator is registered for the whole process, once."""
    if again == "reload":
        module = importlib.reload(fast_mlp)
    else:
        monkeypatch.delitem(sys.modules, "agent.fast_mlp")
        module = importlib.import_module("agent.fast_mlp")
        assert module is not fast_mlp
    module.probe_onednn()
    x, weight, bias = torch.randn(32, 8), torch.randn(16, 8), torch.randn(16)
    if probed is not None:
        torch.testing.assert_close(
            torch.ops.chunks.linear(x, weight, bias, True), torch.relu(nn.functional.linear(x, weight, bias))
        )
    torch.testing.assert_close(module.linear(x, weight, bias), nn.functional.linear(x, weight, bias))
