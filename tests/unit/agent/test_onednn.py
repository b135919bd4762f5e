"""Linear layers by oneDNN against PyTorch's: values, gradients, where they are used."""

import importlib
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from agent import onednn

needs_onednn = pytest.mark.skipif(onednn.problem() is not None, reason="no oneDNN here")


def twins(m, n):
    """An nn.Linear and a OneDNNLinear with the same parameters."""
    layers = nn.Linear(m, n), nn.Linear(m, n)
    layers[1].load_state_dict(layers[0].state_dict())
    onednn.install(layers[1])
    return layers


def results(layer, x):
    """Output and gradients of weight, bias and input, for a loss that weights outputs differently."""
    x = x.clone().requires_grad_()
    y = layer(x)
    loss = (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum()
    return y, *torch.autograd.grad(loss, [layer.weight, layer.bias, x])


@needs_onednn
@pytest.mark.parametrize("size, m, n", [(32, 20, 30), (32, 30, 20), (32, 20, 1), (1, 20, 30)])
def test_values_and_gradients_are_the_plain_layers(size, m, n):
    plain, fast = twins(m, n)
    assert type(fast) is onednn.OneDNNLinear
    x = torch.randn(size, m, generator=torch.Generator().manual_seed(0))
    for one, other in zip(results(plain, x), results(fast, x), strict=True):
        torch.testing.assert_close(one, other)


@needs_onednn
@pytest.mark.parametrize("size, m, n, calls", [(32, 20, 30, 1), (32, 20, 4, 0), (4, 20, 30, 0), (32, 4, 30, 0)])
def test_thin_products_stay_pytorchs(monkeypatch, size, m, n, calls):
    _, fast = twins(m, n)
    made, linear = [], torch.ops.chunks.linear
    monkeypatch.setattr(torch.ops.chunks, "linear", lambda *args: made.append(1) or linear(*args))
    fast(torch.randn(size, m))
    assert len(made) == calls


@pytest.mark.parametrize(
    "cpuinfo, expected", [("vendor_id\t: AuthenticAMD\n", True), ("vendor_id\t: GenuineIntel", False)]
)
def test_it_is_faster_on_amd(monkeypatch, cpuinfo, expected):
    monkeypatch.setattr(Path, "read_text", lambda path, **options: cpuinfo)
    assert onednn.is_faster() == expected


@pytest.mark.parametrize("name, expected", [("AMD64 Family 25 Model 80, AuthenticAMD", True), ("arm", False)])
def test_the_vendor_is_known_without_proc(monkeypatch, name, expected):
    def missing(path, **options):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr("platform.processor", lambda: name)
    assert onednn.is_faster() == expected


@pytest.mark.parametrize("error", [AttributeError("no such operator\nmore"), RuntimeError("expected 7 arguments")])
def test_an_operator_that_is_missing_or_another_is_a_problem(monkeypatch, error):
    def product(*args):
        raise error

    monkeypatch.setattr(onednn, "product", product)
    assert onednn.problem() == str(error).splitlines()[0]


def test_a_wrong_product_is_not_used(monkeypatch):
    product = onednn.product
    monkeypatch.setattr(onednn, "product", lambda x, weight, bias: product(x, weight, bias) + 0.01)
    assert onednn.problem()


@needs_onednn
def test_a_second_import_finds_the_operator_registered(monkeypatch):
    monkeypatch.delitem(sys.modules, "agent.onednn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert importlib.import_module("agent.onednn") is not onednn
