"""Compiled gradients against eager ones."""

import warnings

import pytest
import torch

from agent.compilation import has_compiler


@pytest.mark.parametrize("h", [1, 5])
def test_100_compiled_updates_equal_eager_ones(make_agent, make_batches, assert_same_networks, h):
    if not has_compiler():
        pytest.skip("there is no C++ compiler")
    eager, fast, untrained = (make_agent(4, 2, "--chunk_size", str(h)) for _ in range(3))
    fast.compile_from = 11
    eager_gradient = fast._critic_gradient
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "training without")  # it was compiled, and not given up
        for i, batch in enumerate(make_batches(h, 100)):
            metrics, other = eager.update(batch), fast.update(batch)
            assert (fast._critic_gradient == eager_gradient) == (i < 10)
            assert metrics.keys() == other.keys()
            for name, value in metrics.items():
                torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4, equal_nan=True)
    assert_same_networks(fast, eager, untrained)


def test_what_cannot_be_compiled_stays_eager(make_agent, make_batches, monkeypatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/nonexistent/c++",))
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    assert not has_compiler()
    eager, fallback = (make_agent(4, 2, "--chunk_size", "3") for _ in range(2))
    fallback.compile_from = 1
    batches = make_batches(3, 5)
    with pytest.warns(UserWarning, match="without compiled gradients"):
        fallback.update(batches[0])
    eager.update(batches[0])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "training without")  # it is said once
        for batch in batches[1:]:
            eager.update(batch), fallback.update(batch)
    for p, q in zip(eager.actor.parameters(), fallback.actor.parameters(), strict=True):
        assert torch.equal(p, q)
