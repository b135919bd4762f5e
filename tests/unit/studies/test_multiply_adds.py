"""Multiply-adds by formula against those that PyTorch counts in a real update."""

import pytest
from torch.utils.flop_counter import FlopCounterMode

from studies import multiply_adds


@pytest.mark.parametrize("h", [1, 5])
def test_the_formula_counts_the_products_of_an_update(make_agent, make_batches, h):
    agent = make_agent(4, 2, "--chunk_size", str(h))
    (batch,) = make_batches(h, 1)
    with FlopCounterMode(display=False) as counter:
        agent.update(batch)
    by_formula = multiply_adds.chunked_update(4, 2, h, hidden_dim=32, hidden_depth=2, batch_size=32)
    assert by_formula == counter.get_total_flops() / 2  # an addition and a multiplication


def test_published_networks_by_hand():
    # O = 2, A = 1. The first layer of a 256-unit critic has 3 x 256 weights, the whole critic 256 (3 + 256 + 1).
    actor, critic = 256 * (2 + 256 + 2), 256 * (3 + 256 + 1)
    by_hand = 256 * (2 * (6 * critic - 3 * 256) + 4 * actor - 2 * 256)
    assert multiply_adds.per_step("SAC(256,MLP)", 2, 1) == by_hand
    actor = 128 * 2 + 2 * 128 * 512 + 128 * 2
    critic = 512 * 3 + 2 * 2 * 512 * 2048 + 512
    by_hand = 256 * (6 * critic - 3 * 512 + 4 * actor - 2 * 128)
    assert multiply_adds.per_step("SimBa UTD2", 2, 1) == by_hand
    assert multiply_adds.per_step("SimBa UTD8", 2, 1) == 4 * by_hand
