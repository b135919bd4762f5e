"""Published agents beside the arms, and the figures of both."""

import numpy as np
import pytest

from studies import multiply_adds, suite_figures
from studies.agents_100k import Agent, read_agents
from studies.paired_arms import DEVELOPMENT
from tests.helpers import ROOT, rows


def agent(name="A", ours=False, updates="1", cost=2e6, **returns):
    return Agent(name, ours, updates, cost, returns)


def test_mean_needs_its_tasks():
    seven = dict.fromkeys(suite_figures.COMMON, 10.0)
    assert agent(**seven).mean() == 10
    assert agent(**{**seven, "ball_in_cup_catch": 90.0}).mean() == 20
    assert agent(**{**seven, "ball_in_cup_catch": 90.0}).mean(suite_figures.COMMON) == 10
    del seven["hopper_stand"]
    assert agent(**seven).mean() is None
    assert agent(**seven, another_task=1.0).mean() is None


def test_updates_per_step():
    assert [agent(updates=updates).at_most_one_update() for updates in ("0.5", "1", "2", "10?")] == [
        True,
        True,
        False,
        False,
    ]


def test_agents_of_the_repository():
    agents = {each.name: each for each in read_agents(ROOT)}
    published = rows(ROOT / "results/reference/published_100k.csv")
    assert {row["algo"] for row in published} == {name for name, each in agents.items() if not each.is_ours}
    row = next(row for row in published if row["algo"] == "SAC(256,MLP)" and row["env"] == "finger_spin")
    sac = agents["SAC(256,MLP)"]
    assert sac.returns["finger_spin"] == float(row["mean"]) and sac.updates == "1"
    assert sac.multiply_adds == multiply_adds.per_step("SAC(256,MLP)", 17, 6) and agents["DR.Q"].multiply_adds is None
    best = [
        rows(ROOT / f"results/suite100k_dev/hopper_stand-best-s{seed}/eval.csv")[-1]
        for seed in (11, 12, 13)
        if (ROOT / f"results/suite100k_dev/hopper_stand-best-s{seed}").exists()
    ]
    assert agents["ours"].returns["hopper_stand"] == pytest.approx(
        sum(float(row["return"]) for row in best) / len(best)
    )


def test_figure_has_the_agents_that_can_be_compared():
    seven = dict.fromkeys(suite_figures.COMMON, 10.0)
    six = {task: 10.0 for task in DEVELOPMENT[2:]}
    agents = [
        agent("ours", ours=True, **seven),
        agent("unknown size", cost=None, **seven),
        agent("two tasks short", **six),
        agent("many updates", updates="4", cost=8e6, **{**seven, "ball_in_cup_catch": 500.0}),
    ]
    (axes,) = suite_figures.draw_cost(agents).axes
    assert [text.get_text() for text in axes.texts] == ["ours", "many updates"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines] == [(2, 10), (8, 10)]
    assert len({line.get_color() for line in axes.lines}) == 2


def test_names_of_close_points_do_not_overlap():
    means = {"A": 600, "B": 640, "C": 660}
    agents = [agent(name, **dict.fromkeys(suite_figures.COMMON, mean)) for name, mean in means.items()]
    (axes,) = suite_figures.draw_cost(agents).axes
    heights = [text.get_position()[1] for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == ["C", "B", "A"]
    assert heights == [670, 670 - suite_figures.NAME_HEIGHT, 670 - 2 * suite_figures.NAME_HEIGHT]


def test_arms_as_curves():
    arms = {"best": {("walker_run", 12): np.arange(10), ("cheetah_run", 11): np.ones(10)}}
    first, second = suite_figures.arm_curves(arms)
    assert first[:3] == ("cheetah_run", "best", "11") and second[:3] == ("walker_run", "best", "12")
    assert second.x[-1] == 100_000 and second.y[-1] == 9
