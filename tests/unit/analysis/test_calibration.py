import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch

from agent.chunking import Plan
from analysis import calibration
from errors import RunError, UsageError

H, COST, DISCOUNT, STEPS = 4, 0.1, 0.9, 30


class Clock(gym.Env):
    """Observation: the time; reward 1 - action."""

    action_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.array([0.0], np.float32), {}

    def step(self, action):
        self.time += 1
        return np.array([self.time], np.float32), 1 - float(action[0]), False, self.time >= STEPS, {}


class Forgetful(Clock):
    """An environment whose snapshots do not hold the time."""

    def snapshot(self):
        return None

    def restore(self, state):
        pass


class Agent:
    """Plans whose i-th step costs (i - 1) COST; predicts 100 j + s + s' / 1000."""

    plan_generator = torch.Generator()

    def plan(self, obs, sample):
        assert sample
        return Plan(COST * np.arange(H)[:, None], np.linspace(1, 0.4, H))

    def predict_advantage(self, reached):
        return 100 * reached.prefix_length + reached.planned_at[:, 0] + reached.obs[:, 0] / 1000


def realised(j, k, steps):
    """The planned step costs j COST, then plans follow; or plans follow at once; each costs 0, 1, .., k - 1 COST."""
    planned = [j * COST, *(COST * (i % k) for i in range(steps - 1))]
    fresh = [COST * (i % k) for i in range(steps)]
    return sum(DISCOUNT**i * (f - p) for i, (f, p) in enumerate(zip(fresh, planned, strict=True)))


@pytest.mark.parametrize("k", [1, 3, 4])
def test_realised_advantages_equal_the_closed_form(k):
    pairs = list(calibration.pairs(Agent(), Clock(), [1, 2], lambda plan: k, DISCOUNT, horizon=7, num_pairs=30))
    assert len(pairs) == 30 and [p["episode"] for p in pairs] == [1] * 15 + [2] * 15
    positions = set()
    for pair in pairs:
        time, j = pair["time"], pair["position"] - 1
        # A moment where the plan was executed to its end is one where its next step could have been.
        assert j == (time % k or k) and 1 <= j < H
        positions.add(j)
        expected = realised(j, k, min(7, STEPS - time))
        assert pair["realised"] == [pytest.approx(expected)] * 2
        assert pair["confidence"] == pytest.approx(1 - 0.2 * j)
        assert pair["predicted"] == pytest.approx(100 * j + (time - j) + time / 1000, rel=1e-6)
    assert positions == set(range(1, min(k, H - 1) + 1))
    assert [row["realised_2"] for row in calibration.csv_rows(pairs)] == [pair["realised"][1] for pair in pairs]


def test_an_environment_that_cannot_be_branched_is_refused():
    with pytest.raises(UsageError, match="cannot be branched"):
        list(calibration.pairs(Agent(), Forgetful(), [1], lambda plan: 2, DISCOUNT, 5, 10))


def test_fewer_pairs_than_episodes_are_spread_over_as_many():
    pairs = list(calibration.pairs(Agent(), Clock(), range(20), lambda plan: 2, DISCOUNT, horizon=2, num_pairs=10))
    assert [pair["episode"] for pair in pairs] == list(range(1, 11))


def test_what_is_not_finite_is_not_compared():
    class Broken(Clock):
        def step(self, action):
            obs, _, *rest = super().step(action)
            return obs, float("nan") if self.time == 7 else 0.0, *rest

    class Wild(Agent):
        def predict_advantage(self, reached):
            return torch.full((len(reached.obs),), float("inf"))

    for agent, env, cause in ((Agent(), Broken(), "reward"), (Wild(), Clock(), "predicted advantage")):
        with pytest.raises(RunError, match=f"{cause} is not finite"):
            list(calibration.pairs(agent, env, [1], lambda plan: 2, DISCOUNT, 5, 10))


def test_groups_of_one_pair_have_no_interval():
    rows = [{"predicted": float(i), "confidence": 0.1 * i, "realised": [0.0, i - 5.0]} for i in range(10)]
    result = calibration.report(rows)
    assert (result["interval"], result["group_interval"]) == ("95% bootstrap interval", "")
    assert result["predicted"]["groups"][0]["realised"] == {"mean": -2.5, "low": None, "high": None}
    assert "None" not in calibration.table(result) and "[" in calibration.table(result)
    figure = calibration.draw(result | {"title": "a", "horizon": 5})
    assert figure.axes[0].get_ylabel() == "realised advantage of continuing"


@pytest.mark.parametrize(
    "num_pairs, name",
    [
        (10, ""),
        (11, "95% t interval"),
        (90, "95% t interval"),
        (91, "95% t interval or 95% bootstrap interval"),
        (100, "95% bootstrap interval"),
    ],
)
def test_groups_name_the_intervals_of_all_their_sizes(num_pairs, name):
    rows = [{"predicted": float(i), "confidence": 0.1 * i, "realised": [0.0, i - 5.0]} for i in range(num_pairs)]
    assert calibration.report(rows)["group_interval"] == name


def test_report_against_counting():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200).round(1)
    rows = [
        {"predicted": p, "confidence": 0.5, "realised": [t + a, t + b]}
        for t, p, a, b in zip(truth, truth + rng.normal(size=200), *rng.normal(size=(2, 200)), strict=True)
    ]
    rows[3]["realised"][0] = 0.0  # neither gained nor lost
    result = calibration.report(rows)

    def auc(score, gain):
        pairs = [(s, t) for (s, g), (t, f) in itertools.product(zip(score, gain, strict=True), repeat=2) if g > 0 > f]
        return np.mean([(s > t) + 0.5 * (s == t) for s, t in pairs])

    halves = list(zip(*(row["realised"] for row in rows), strict=True))
    predicted = [row["predicted"] for row in rows]
    assert result["predicted"]["auc"] == pytest.approx(np.mean([auc(predicted, half) for half in halves]))
    assert result["auc_other_repeat"] == pytest.approx(np.mean([auc(*halves), auc(*halves[::-1])]))
    assert 0.6 < result["predicted"]["auc"] < 0.9 and result["predicted"]["spearman"] > 0.4
    assert result["confidence"]["auc"] == 0.5 and result["confidence"]["spearman"] is None
    groups = result["predicted"]["groups"]
    order = np.argsort(predicted, kind="stable")
    for group, index in zip(groups, order.reshape(10, 20), strict=True):
        means = [np.mean(rows[i]["realised"]) for i in index]
        assert group["realised"]["mean"] == pytest.approx(np.mean(means))
        assert min(means) < group["realised"]["low"] < np.mean(means) < group["realised"]["high"] < max(means)
        assert group["predicted"] == pytest.approx(np.mean([predicted[i] for i in index]))
    assert result["realised"]["mean"] == pytest.approx(np.mean(halves)) and result["num_pairs"] == 200


def test_the_auc_of_a_repeat_is_read_from_older_files():
    rows = [{"predicted": float(i), "confidence": 0.1 * i, "realised": [i - 5.0, i - 4.5]} for i in range(10)]
    result = calibration.report(rows) | {"title": "a", "horizon": 5}
    result["auc_ceiling"] = result.pop("auc_other_repeat")
    assert "other repeat 1.000" in calibration.draw(result).axes[0].get_title()


def test_too_few_pairs_are_refused():
    rows = [{"predicted": 0.0, "confidence": 0.5, "realised": [0.0, 0.0]}] * 9
    with pytest.raises(UsageError, match="have 9 pairs only"):
        calibration.report(rows)


def test_the_auc_is_none_where_no_pair_gained():
    rows = [{"predicted": float(i), "confidence": 0.1 * i, "realised": [0.0, 0.0]} for i in range(10)]
    result = calibration.report(rows)
    assert result["predicted"]["auc"] is None and "undefined" in calibration.table(result)
