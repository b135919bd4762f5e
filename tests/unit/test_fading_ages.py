"""Fading replay weights against the exact probabilities."""

import numpy as np
import pytest
from scipy.stats import chisquare

import replay_buffer
from replay_buffer import FadingAges, ReplayBuffer

DRAWS = 200_000


def weights(ages, fade=0.9999):
    return np.maximum(fade**ages, 0.1)


def assert_probabilities(counts, probabilities):
    """Counts as of draws with these probabilities: chi-square at 1e-4, with a fixed seed."""
    assert chisquare(counts, counts.sum() * probabilities / probabilities.sum()).pvalue > 1e-4


@pytest.mark.parametrize("size", [1, 2, 1000, 23_025, 23_026, 23_027, 100_000])
def test_ages_have_their_probabilities(size):
    ages = FadingAges().draw(np.random.default_rng(0), size, DRAWS)
    assert ages.min() >= 0 and ages.max() < size
    edges = np.unique(np.linspace(0, size, 51).astype(int))
    probabilities = [weights(np.arange(low, high)).sum() for low, high in zip(edges, edges[1:], strict=False)]
    counts, _ = np.histogram(ages, edges)
    assert counts.sum() == DRAWS
    if len(counts) > 1:
        assert_probabilities(counts, np.array(probabilities))


class Mass:
    """A generator whose uniform numbers are given."""

    def __init__(self, values):
        self.values = np.array(values)

    def random(self, count):
        return self.values


@pytest.mark.parametrize("size", [3, 40_000])
def test_the_inverse_is_exact_at_the_borders(size):
    """Just below and just above the sum of the weights of the ages 0..a."""
    sums = np.cumsum(weights(np.arange(size, dtype=float)))
    for a in {0, 1, size // 2, size - 2}:
        share = sums[a] / sums[-1]
        drawn = FadingAges().draw(Mass([share - 1e-9, share + 1e-9]), size, 2)
        assert drawn.tolist() == [a, a + 1]


@pytest.mark.parametrize("size", [1, 3, 40_000, 285_173])
def test_the_extreme_draws_stay_inside(size):
    """At 285,173 the largest uniform number is rounded up to the sum of all weights."""
    assert FadingAges().draw(Mass([0.0, np.nextafter(1, 0)]), size, 2).tolist() == [0, size - 1]


@pytest.mark.parametrize("capacity, num_steps", [(300, 5), (300, 90), (300, 92), (80, 93), (80, 98), (80, 400)])
def test_windows_start_at_each_step_with_its_weight(monkeypatch, capacity, num_steps):
    """Episodes of 7 steps; the newest may have ended or not, the ring be full or not; no end mark starts a window."""
    monkeypatch.setattr(replay_buffer, "FADE", 0.95)  # so that a small ring has old rows
    buffer = ReplayBuffer(1, 1, capacity, 3, 0.9, False, "cpu", np.random.default_rng(0), fading=True)
    row_of = {}
    for t in range(num_steps):
        row_of[t] = buffer.num_rows
        buffer.add([t], [0], 0, [t + 1], False, t % 7 == 6)
    oldest = max(0, buffer.num_rows - capacity + (num_steps % 7 > 0))
    kept = {t: buffer.num_rows - 1 - row for t, row in row_of.items() if row >= oldest}
    starts = np.concatenate([buffer.sample(2000).obs[:, 0].numpy().astype(int) for _ in range(20)])
    assert set(starts.tolist()) == set(kept)
    counts = np.array([(starts == t).sum() for t in kept])
    if len(kept) > 1:
        assert_probabilities(counts, weights(np.array(list(kept.values())), 0.95))


def test_even_weights_draw_what_they_always_drew():
    buffer, rng = (np.random.default_rng(1) for _ in range(2))
    buffer = ReplayBuffer(1, 1, 100, 1, 0.9, False, "cpu", buffer)
    for t in range(50):
        buffer.add([t], [0], 0, [t + 1], False, False)
    index = rng.integers(51, size=8)
    while (index == 50).any():
        index = np.where(index == 50, rng.integers(51, size=8), index)
    assert buffer.sample(8).obs[:, 0].tolist() == index.tolist()
