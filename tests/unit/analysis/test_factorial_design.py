"""results/suite100k_dev/factorial.csv against the design in the README beside it."""

import itertools
import math

import numpy as np
import pytest

from agent import SACAgent
from cli import parse_train_args
from tests.helpers import ROOT, rows

ACTIONS = {"cheetah_run": 6, "walker_run": 6, "cartpole_swingup_sparse": 1, "quadruped_run": 12}  # A
# Levels - and + of each factor. The learning rates of actor, critic and temperature are one factor.
FACTORS = {
    "A": lambda c, size: {0.99: -1, 0.995: 1}[c.discount],
    "B": lambda c, size: {-size: -1, -size / 2: 1}[c.target_entropy],
    "C": lambda c, size: {0.1: -1, 0.01: 1}[c.init_temperature],
    "D": lambda c, size: {(3e-4,) * 3: -1, (1e-3,) * 3: 1}[c.actor_lr, c.critic_lr, c.alpha_lr],
    "E": lambda c, size: {0.005: -1, 0.01: 1}[c.critic_tau],
    "F": lambda c, size: {"ar1": -1, "pink": 1}[c.exploration_noise],
    "G": lambda c, size: {"even": -1, "fading": 1}[c.replay_weight],
    "H": lambda c, size: {"prefix": -1, "step": 1}[c.temperature_weighting],
}


@pytest.fixture(scope="module")
def cells():
    """Of each row: cell, task, seed, levels (8,), Config."""
    result = []
    for row in rows(ROOT / "results/suite100k_dev/factorial.csv"):
        argv = ["--env", row["task"], "--seed", row["seed"], *row["flags"].split()]
        config, _ = parse_train_args(argv)
        levels = [factor(config, ACTIONS[row["task"]]) for factor in FACTORS.values()]
        result.append((int(row["cell"]), row["task"], int(row["seed"]), levels, config))
    return result


def test_cells_and_seeds(cells):
    assert [cell for cell, *_ in cells] == list(range(1, 65))
    assert all(seed == 100 + cell for cell, _, seed, _, _ in cells)


def test_generators_and_resolution(cells):
    settings = np.array([levels for _, task, _, levels, _ in cells if task == "cheetah_run"])
    assert len(settings) == 16 == len({tuple(levels) for levels in settings[:, :4]})
    a, b, c, d, *generated = settings.T
    assert (np.array(generated) == [b * c * d, a * c * d, a * b * c, a * b * d]).all()
    for count in (1, 2, 3):  # resolution IV: no main effect is confounded with another one or with an interaction
        for columns in itertools.combinations(settings.T, count):
            assert np.prod(columns, axis=0).sum() == 0


def test_prefixes_are_balanced(cells):
    """Each four rows are one setting on the four tasks, each eight that setting and its opposite."""
    for start in range(0, 64, 8):
        block = cells[start : start + 8]
        assert [task for _, task, _, _, _ in block] == 2 * list(ACTIONS)
        levels = np.array([levels for _, _, _, levels, _ in block])
        assert (levels[:4] == levels[0]).all() and (levels[4:] == -levels[0]).all()


def test_the_rest_of_the_flags_is_the_protocols(cells):
    assert {
        (c.num_train_steps, c.num_seed_steps, c.eval_frequency, c.num_eval_episodes, c.normalize_observations)
        for *_, c in cells
    } == {(50_000, 1000, 10_000, 10, True)}
    assert {c.updates_per_step for *_, c in cells} == {1.0} and {c.action_repeat for *_, c in cells} == {1}


@pytest.mark.parametrize("index", [0, 7])
def test_the_flags_reach_the_agent(cells, index):
    """The first and the last row of the first block: today's settings, and all the others."""
    *_, levels, config = cells[index]
    plus = levels[0] == 1
    assert set(levels) == {levels[0]}
    size = ACTIONS[config.env]
    agent = SACAgent(3, size, config, "cpu")
    assert agent.target_entropy == (-size / 2 if plus else -size)
    assert agent.alpha.item() == pytest.approx(0.01 if plus else 0.1)
    assert agent.discounts[1].item() == pytest.approx(0.995 if plus else 0.99)
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in agent.optimizers.items()}
    rate = 1e-3 if plus else 3e-4
    assert rates == {"actor": rate, "critic": rate, "temperature": rate, "confidence": 1e-3}
    assert agent.actor.is_correlated != plus
    agent.critic.critics[0].layers[0].bias.data.fill_(1.0)
    agent._update_target()
    moved = agent.critic_target.critics[0].layers[0].bias
    assert math.isclose(moved[0].item(), 0.01 if plus else 0.005, rel_tol=1e-5)
