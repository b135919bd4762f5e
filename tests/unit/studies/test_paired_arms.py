"""Paired differences: hand-computed, and the rule at each reading."""

import json

import numpy as np
import pytest

from analysis.statistics import paired_difference
from studies import paired_arms
from studies.paired_arms import DEVELOPMENT, Difference, difference

ROWS = "step,return\n" + "".join(f"{step},{step / 1000}\n" for step in range(10_000, 110_000, 10_000))


def returns(last, before=0.0):
    """Ten evaluations of one run."""
    return np.array([before] * 9 + [last])


def test_difference_by_hand():
    new = {
        ("a", 11): returns(10.0),
        ("a", 12): returns(20.0, before=10),
        ("b", 11): returns(6.0),
        ("c", 11): returns(9),
    }
    old = {("a", 11): returns(9.0), ("a", 12): returns(17.0), ("b", 11): returns(4.0), ("d", 11): returns(0)}
    result = difference(new, old)  # of 1, 3 and 2
    assert (result.mean, result.behind) == (2, [])
    assert result.pairs == {("a", 11), ("a", 12), ("b", 11)}
    assert result.error == pytest.approx(1 / 3**0.5)
    assert result.mean_of_all == pytest.approx((1 + 3 + 90 + 2) / 30)
    # The first after 80,000 steps: 0 - 9, 10 - 17 and 0 - 4.
    assert result.with_fewer_steps == pytest.approx((-20 / 3, (57 / 9 / 3) ** 0.5))


def test_a_task_is_behind_only_when_all_its_seeds_are():
    old = {("a", 11): returns(200.0), ("a", 12): returns(200.0), ("b", 11): returns(200.0), ("b", 12): returns(200.0)}
    new = {("a", 11): returns(99.0), ("a", 12): returns(0.0), ("b", 11): returns(0.0), ("b", 12): returns(100.0)}
    assert difference(new, old).behind == ["a"]


@pytest.mark.parametrize(
    "seeds, mean, behind, wins",
    [
        ([11, 12, 13], 10.1, [], True),
        ([11, 12, 13], 10.0, [], False),
        ([11, 12, 13], 10.1, ["a"], False),
        ([11, 12], 20.1, [], True),
        ([11, 12], 19.9, [], False),
        ([11], 20.1, [], True),
        ([11], 20.1, ["a"], False),
        ([11], -30.0, [], False),
        ([12], 90.0, [], None),
    ],
)
def test_rule(seeds, mean, behind, wins):
    pairs = {(task, seed) for task in DEVELOPMENT for seed in seeds}
    assert Difference(mean, 10.0, 0.0, (), pairs, behind).wins() is wins


def test_there_is_no_reading_before_every_task_has_the_seed():
    pairs = {(task, 11) for task in DEVELOPMENT}
    for missing in DEVELOPMENT:
        assert Difference(90.0, 10.0, 0.0, (), pairs - {(missing, 11)}, []).wins() is None
        assert Difference(90.0, 10.0, 0.0, (), pairs - {(missing, 11)} | {(missing, 12)}, []).wins() is None


def test_one_pair_has_no_error():
    with pytest.raises(ValueError, match="two pairs"):
        difference({("a", 11): returns(1)}, {("a", 11): returns(0)})


def test_files(tmp_path):
    for name in ("cheetah_run-best-s11", "hopper_stand-default-s12"):
        folder = tmp_path / paired_arms.SUITE / name
        folder.mkdir(parents=True)
        (folder / "eval.csv").write_text(ROWS)
    arms = paired_arms.finished_arms(tmp_path)
    assert list(arms) == ["best", "default"] and list(arms["default"]) == [("hopper_stand", 12)]
    assert (arms["best"]["cheetah_run", 11] == np.arange(10, 110, 10)).all()
    assert paired_arms.measured_biases(tmp_path) == {}
    values = [{"name": name, "bias": bias} for name, bias in (("q_1", 1.0), ("q_5", -2.5), ("v", 3.0))]
    (folder / "bias.json").write_text(json.dumps({"values": values}))
    assert paired_arms.measured_biases(tmp_path) == {
        "default": {("hopper_stand", 12): {"q_1": 1.0, "q_5": -2.5, "v": 3.0}}
    }
    (folder / "eval.csv").write_text(ROWS.replace("100000,100.0\n", ""))
    with pytest.raises(ValueError, match="eval.csv needs evaluations"):
        paired_arms.finished_arms(tmp_path)


def test_biases_are_paired():
    new, old = {("a", 11): 1.0, ("a", 12): 2.0, ("b", 11): 9.0}, {("a", 11): 3.0, ("a", 12): 2.0, ("c", 11): 0.0}
    assert paired_difference(new, old) == pytest.approx((-1, 1))
    assert paired_difference({("a", 11): 1.0}, old) is None
