"""Pink noise against its exact spectrum; what a plan takes of it."""

import math

import numpy as np
import pytest
import torch

from agent.pink_noise import BLOCK, PinkNoise, pink_series

SERIES = 20_000


@pytest.mark.parametrize("num_steps", [2, 3, 20, 21])
def test_spectrum_and_variance_are_exact(num_steps):
    """Expected power 1 / f, at 0 that of the lowest frequency, and variance 1: within 6 standard errors."""
    x = pink_series(num_steps, SERIES, np.random.default_rng(0))
    assert x.shape == (num_steps, SERIES) and x.dtype == np.float32
    assert np.abs(x.mean(1)).max() < 6 / math.sqrt(SERIES)
    np.testing.assert_allclose(x.var(1), 1, atol=6 * math.sqrt(2 / SERIES))
    frequencies = np.fft.rfftfreq(num_steps)
    frequencies[0] = frequencies[1]
    power = (np.abs(np.fft.rfft(x, axis=0)) ** 2).mean(1)  # relative standard error 1, or sqrt(2) where it is real
    expected = 1 / frequencies
    expected *= power.sum() / expected.sum()
    np.testing.assert_allclose(power / expected, 1, atol=6 * math.sqrt(2 / SERIES))


def test_series_are_independent():
    draws = np.stack([pink_series(4, 2, np.random.default_rng(seed)).ravel() for seed in range(5000)])
    correlation = np.corrcoef(draws.T)[::2, 1::2]  # steps of the one series against steps of the other
    assert np.abs(correlation).max() < 6 / math.sqrt(5000)


def test_plans_take_their_part_of_the_episodes_sequence():
    noise = PinkNoise(10, 3, 2, np.random.default_rng(0))
    noise.reset()
    sequence = pink_series(13, 2, np.random.default_rng(0))
    for step in (0, 4, 2, 9):
        assert (noise.at(step) == sequence[step : step + 3]).all()
    noise.reset()
    assert (noise.at(0) != sequence[:3]).all()


@pytest.mark.parametrize("limit", [math.inf, 10**9])
def test_a_long_episode_gets_another_sequence(limit):
    rng = np.random.default_rng(0)
    noise = PinkNoise(limit, 3, 2, np.random.default_rng(0))
    noise.reset()
    sequence = np.concatenate([pink_series(BLOCK + 3, 2, rng) for _ in range(3)])
    for step in (0, BLOCK, BLOCK + 1, BLOCK + 2, 2 * BLOCK + 5):
        assert (noise.at(step) == sequence[step : step + 3]).all()


@pytest.mark.parametrize("h", [1, 3])
def test_a_plan_adds_the_noise_that_it_is_given(make_agent, h):
    agent = make_agent(4, 2, "--chunk_size", str(h))
    before = agent.plan_generator.get_state()
    obs, noise = np.ones(4, np.float32), np.random.default_rng(0).normal(size=(h, 2)).astype(np.float32)
    plan = agent.plan(obs, sample=True, noise=noise)
    with torch.no_grad():
        mean, log_std, _ = agent.actor(torch.from_numpy(obs)[None])
    expected = torch.tanh(mean[0] + log_std[0].exp() * torch.from_numpy(noise))
    np.testing.assert_allclose(plan.actions, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(agent.plan_generator.get_state(), before)


def test_without_given_noise_plans_are_independent(make_agent):
    agent = make_agent(4, 2, "--chunk_size", "3")
    one, other = (agent.plan(np.ones(4), sample=True).actions for _ in range(2))  # as evaluate.py --sample does
    assert (one != other).all()
