import numpy as np
import pytest

import sweep
from agent.chunking import Plan
from env import make_env
from tests.scripted import episode_return


class Planner:
    """Trusts the second action everywhere, the third on even steps."""

    def plan(self, obs, sample):
        return Plan(np.zeros((3, 2), np.float32), np.array([1.0, 0.85, 0.75 if obs[0] % 2 == 0 else 0.25]))


def test_rows():
    env = make_env("tests.scripted:Scripted-v0")
    rows = list(sweep.rows(Planner(), env, seeds=[5, 6, 7], chunk_size=3))
    episodes = iter(range(1, 1000))
    for row in rows:
        assert row["returns"] == [episode_return(next(episodes)) for _ in range(3)]
    learned = {row["setting"]: row for row in rows if row["kind"] == "confidence"}
    assert learned[0.2]["k"] == 3 and learned[0.8]["k"] == 2 and learned[0.9]["k"] == 1
    assert 2 < learned[0.5]["k"] < 3
    controls = [row for row in rows if row["kind"] == "shuffled"]
    assert [row["setting"] for row in controls] == [0.3, 0.4, 0.5, 0.6, 0.7]  # where lengths differ at all
    for row in controls:
        assert row["k"] == pytest.approx(learned[row["setting"]]["k"], abs=0.4)


def test_shuffled_lengths_are_the_same_lengths_in_another_order():
    lengths = [1, 1, 2, 3, 3, 3, 5]
    length = sweep.shuffled(lengths)
    drawn = [length(None) for _ in range(70)]
    for i in range(0, 70, 7):
        assert sorted(drawn[i : i + 7]) == lengths
    assert len({tuple(drawn[i : i + 7]) for i in range(0, 70, 7)}) > 5
