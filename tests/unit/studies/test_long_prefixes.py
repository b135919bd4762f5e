"""The rule about long prefixes, by hand."""

import json

import pytest

from studies import long_prefixes
from studies.long_prefixes import RUNS, Outcome, score


def outcome(name, bias, scores):
    return Outcome(name, {"q_5": bias}, dict(zip(RUNS, scores, strict=False)))


PLAIN = outcome("plain", [0.4, 0.2, 0.3, 0.3, 0.2, 0.4], [10, 20, 30, 40, 50, 60])


def test_gain_is_paired():
    change = outcome("executed", [0.0], [13, 21, 32])
    assert change.gain(PLAIN) == pytest.approx((2, 1 / 3**0.5))
    assert outcome("executed", [0.0], [13]).gain(PLAIN) is None


@pytest.mark.parametrize(
    "bias, gains, passes",
    [
        (0.149, [1, -1, 1, -1, 1, -1], True),
        (-0.149, [9] * 6, True),
        (0.151, [9] * 6, False),
        (-0.151, [9] * 6, False),
        (0.0, [-10, -10, -10, -10, -10, -11], False),
        (0.0, [-10, 9, -10, 9, -10, 9], True),
    ],
)
def test_rule(bias, gains, passes):
    scores = [score + gain for score, gain in zip(PLAIN.scores.values(), gains, strict=True)]
    assert outcome("executed", [bias] * 6, scores).passes(PLAIN) is passes


def test_nothing_is_decided_before_all_runs_have_ended():
    assert outcome("executed", [0.0] * 5, [90] * 5).passes(PLAIN) is None
    assert PLAIN.passes(outcome("plain", [0.0] * 5, [90] * 5)) is None


def write_eval(folder, returns):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{10_000 * (i + 1)},{value}" for i, value in enumerate(returns)]
    (folder / "eval.csv").write_text("\n".join(["step,return", *rows, ""]))
    return str(folder / "eval.csv")


def test_score_at_equal_time(tmp_path):
    path = write_eval(tmp_path, [0, 100, 200, 300, 400])
    assert score(path, cost=1.0) == pytest.approx(300) == score(path, cost=1.05)
    assert score(path, cost=1.25) == pytest.approx((140 + 220 + 300) / 3)  # after 24,000, 32,000 and 40,000 steps


def test_files(tmp_path):
    for name, (task, seed), bias in (("plain", RUNS[0], 0.3), ("plain", RUNS[4], 0.5), ("executed", RUNS[0], 0.1)):
        folder = tmp_path / long_prefixes.FOLDER / f"{task}-{name}-s{seed}"
        write_eval(folder, [0, 0, 30, 30, 30])
        (folder / "bias.json").write_text(json.dumps({"values": [{"name": "q_5", "bias": bias}]}))
    plain, executed = long_prefixes.outcomes(tmp_path)
    assert (plain.name, executed.name) == ("plain", "executed")
    assert plain.mean_bias("q_5") == pytest.approx(0.4) and plain.scores == {RUNS[0]: 30, RUNS[4]: 30}
    assert executed.bias == {"q_5": [0.1]}
