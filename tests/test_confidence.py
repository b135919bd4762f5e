import pytest
import torch

from agent.confidence import ConfidenceTarget

POSITION = torch.tensor([1, 2]).repeat(2000)


def label(target, mean=0.0, std=1.0, cost=0.0, seed=0):
    """Mean label of each position for advantages of the given mean and standard deviation."""
    noise = torch.randn(2, len(POSITION), generator=torch.Generator().manual_seed(seed))
    difference = (mean + std * noise + cost) * target.discount**POSITION
    labels = target.label(torch.zeros_like(difference), difference, torch.full((len(POSITION),), cost), POSITION)
    return [labels[POSITION == p].mean().item() for p in (1, 2)]


@pytest.mark.parametrize("std", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("margin, share", [(0.0, 0.5), (0.5, 0.6915), (2.0, 0.9772)])
def test_where_nothing_is_known_the_plan_is_kept(std, margin, share):
    """Pure noise of any scale: the label is P(x >= -margin), the value that the head starts from."""
    target = ConfidenceTarget(3, 0.9, margin)
    assert ConfidenceTarget.uninformed(margin) == pytest.approx(share, abs=1e-4)
    assert label(target, std=std) == pytest.approx([share, share], abs=0.02)


def test_advantage_is_discounted_back_and_pays_for_the_entropy():
    target = ConfidenceTarget(3, 0.9, 0.0)
    shorter, longer = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.9, 1.81]])
    target.label(shorter, longer, torch.tensor([0.25, 0.5]), torch.tensor([1, 2]))
    torch.testing.assert_close(target.mean(), torch.tensor([0.75, 0.5]))


def test_labels_do_not_follow_a_drift_of_the_values():
    """All advantages shifted by what the TD residual of recent steps shows: the same labels as without a drift."""
    still, drifting, other = (ConfidenceTarget(3, 0.9, 0.5) for _ in range(3))
    for target in (drifting, other):
        for _ in range(2000):
            target.observe_drift(torch.tensor([2.0, 4.0]))
        assert target.drift.item() == pytest.approx(3.0, rel=1e-4)
    assert label(drifting, mean=3.0) == pytest.approx([0.6915, 0.6915], abs=0.02)
    # P(x >= 3 - 0.5) and P(x >= -3 - 0.5)
    assert label(other, mean=0.0) == pytest.approx([0.0062, 0.0062], abs=0.005)
    assert label(still, mean=3.0) == pytest.approx([0.9998, 0.9998], abs=0.001)


def test_drift_is_an_exponential_average():
    target = ConfidenceTarget(3, 0.9, 0.5)
    for _ in range(100):
        target.observe_drift(torch.ones(4))
    assert target.drift.item() == pytest.approx(1 - 0.99**100, rel=1e-4)


def test_moments_follow_each_position():
    target = ConfidenceTarget(3, 0.9, 0.5)
    for seed in range(1500):
        label(target, mean=2.0, std=0.5, seed=seed)
    assert target.mean().tolist() == pytest.approx([2, 2], abs=0.02)
    assert target.std().tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    before = target.std()[1].item()
    target.label(torch.zeros(2, 4), torch.full((2, 4), 50.0), torch.zeros(4), torch.ones(4, dtype=torch.long))
    assert target.std()[1].item() == before  # no sample of position 2
    assert target.std()[0].item() > 2
