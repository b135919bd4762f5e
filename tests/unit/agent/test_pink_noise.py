"""Pink noise against its exact spectrum; what a plan takes of it."""

import math

import numpy as np
import pytest
import torch

from agent.pink_noise import BLOCK, PinkNoise, colored_noise

SERIES = 20_000


@pytest.mark.parametrize("num_steps", [2, 3, 20, 21])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_spectrum_and_variance_are_exact(num_steps, exponent):
    """Expected power 1 / f^exponent, at 0 that of the lowest frequency, and variance 1: within 6 standard errors."""
    x = colored_noise(num_steps, SERIES, np.random.default_rng(0), exponent)
    assert x.shape == (num_steps, SERIES) and x.dtype == np.float32
    assert np.abs(x.mean(1)).max() < 6 / math.sqrt(SERIES)
    np.testing.assert_allclose(x.var(1), 1, atol=6 * math.sqrt(2 / SERIES))
    frequencies = np.fft.rfftfreq(num_steps)
    frequencies[0] = frequencies[1]
    power = (np.abs(np.fft.rfft(x, axis=0)) ** 2).mean(1)  # relative standard error 1, or sqrt(2) where it is real
    expected = frequencies**-exponent
    expected *= power.sum() / expected.sum()
    np.testing.assert_allclose(power / expected, 1, atol=6 * math.sqrt(2 / SERIES))


def test_series_are_independent():
    x = colored_noise(64, 3, np.random.default_rng(0), 0.0)
    assert np.abs(np.corrcoef(x.T) - np.eye(3)).max() < 0.5
    draws = np.stack([colored_noise(4, 2, np.random.default_rng(seed)).ravel() for seed in range(5000)])
    correlation = np.corrcoef(draws.T)[::2, 1::2]  # steps of the one series against steps of the other
    assert np.abs(correlation).max() < 6 / math.sqrt(5000)


def test_plans_take_their_part_of_the_episodes_sequence():
    noise = PinkNoise(10, 3, 2, np.random.default_rng(0))
    noise.reset()
    sequence = colored_noise(13, 2, np.random.default_rng(0))
    for step in (0, 4, 2, 9):
        assert (noise.at(step) == sequence[step : step + 3]).all()
    noise.reset()
    assert (noise.at(0) != sequence[:3]).all()


def test_an_episode_without_a_limit_gets_another_sequence():
    rng = np.random.default_rng(0)
    noise = PinkNoise(math.inf, 3, 2, np.random.default_rng(0))
    noise.reset()
    sequence = np.concatenate([colored_noise(BLOCK + 3, 2, rng) for _ in range(3)])
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
