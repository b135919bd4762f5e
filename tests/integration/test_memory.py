"""Updates must not leak memory: a run has a million of them."""

import ctypes
import gc
import os

import pytest
import torch

from agent import fast_path
from agent.compilation import has_compiler

BYTES_PER_UPDATE = 500  # the graph of a target update that is recorded takes 5,800


def resident_bytes():
    gc.collect()  # cycles would look like a leak
    ctypes.CDLL(None).malloc_trim(0)  # a leak into what other tests have freed would not be seen
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
@pytest.mark.parametrize("path", ["reference", "fast", "compiled"])
def test_500_updates_do_not_leak_memory(make_agent, make_batches, path):
    if path == "compiled" and not has_compiler():
        pytest.skip("there is no C++ compiler")
    agent = make_agent(4, 2)
    if path != "reference":
        fast_path.install(agent, compile_from=1 if path == "compiled" else None)
    batches = make_batches(5, 8)
    for update in range(250):  # allocators and compilation settle
        agent.update(batches[update % 8])
    before = resident_bytes()
    for update in range(500):
        agent.update(batches[update % 8])
    assert resident_bytes() - before < 500 * BYTES_PER_UPDATE


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("h", [1, 5])
def test_only_parameters_require_a_gradient(make_agent, make_batches, h, fast):
    agent = make_agent(4, 2, "--chunk_size", str(h))
    if fast:
        fast_path.install(agent)
    for batch in make_batches(h, 3):
        agent.update(batch)
    trained = {*agent.actor.parameters(), *agent.critic.parameters(), agent.log_alpha}
    modules = (agent.actor, agent.critic, agent.critic_target)
    tensors = [t for m in modules for t in (*m.parameters(), *m.buffers())]
    tensors += [value for value in vars(agent).values() if isinstance(value, torch.Tensor)]
    assert len(agent.optimizers) == (4 if h > 1 else 3)
    for optimizer in agent.optimizers.values():
        tensors += [t for state in optimizer.state.values() for t in state.values()]
    assert all(t.grad_fn is None and t.requires_grad <= (t in trained) for t in tensors)
    assert trained == {t for t in tensors if t.requires_grad}
