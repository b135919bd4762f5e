"""Times to the first reward, and the log-rank test against scipy's."""

import numpy as np
import pytest
from scipy.stats import CensoredData, logrank

from analysis import first_reward
from analysis.first_reward import log_rank, time_to_reward


def write(tmp_path, returns):
    path = tmp_path / "train.csv"
    rows = [f"{1000 * (i + 1)},{value}" for i, value in enumerate(returns)]
    path.write_text("\n".join(["step,return", *rows, ""]))
    return str(path)


def test_time_of_the_first_episode_above_100(tmp_path):
    assert time_to_reward(write(tmp_path, [0, 100, 100.5, 0, 900])) == (3000, True)


def test_a_run_without_reward_is_censored(tmp_path):
    assert time_to_reward(write(tmp_path, [0] * 100)) == (100_000, False)
    assert time_to_reward(write(tmp_path, [*[0] * 100, 900])) == (100_000, False)


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ends before 100000"):
        time_to_reward(write(tmp_path, [0] * 99))


@pytest.fixture
def groups():
    """Two groups with ties and censored times."""
    rng = np.random.default_rng(0)
    times = np.minimum(rng.integers(10, 140, (2, 12)) * [[1000], [700]], 100_000)
    return [[(int(time), time < 100_000) for time in group] for group in times]


def test_one_stratum_is_scipys(groups):
    censored = [
        CensoredData(uncensored=[t for t, found in group if found], right=[t for t, found in group if not found])
        for group in groups
    ]
    expected = logrank(*censored)
    z, p = log_rank([groups])
    assert abs(z) == pytest.approx(abs(expected.statistic)) and p == pytest.approx(expected.pvalue)
    assert z < 0  # the second group is sooner
    assert log_rank([groups[::-1]]) == pytest.approx((-z, p))


def test_strata_add_up(groups):
    z, _ = log_rank([groups])
    assert log_rank([groups] * 4)[0] == pytest.approx(2 * z)  # four times the excess, four times the variance
    assert log_rank([groups, groups[::-1]])[0] == pytest.approx(0)


def test_groups_without_events_cannot_be_compared():
    assert log_rank([([(100_000, False)], [(100_000, False)])]) is None


def test_only_runs_of_both_arms_are_compared(groups):
    idea, baseline = ({("hopper_stand", i): time for i, time in enumerate(group)} for group in groups)
    expected = log_rank([groups])
    others = {("pendulum_swingup", 1): (1, True), ("hopper_stand", 99): (1, True)}
    assert first_reward.sooner({**idea, **others}, baseline) == pytest.approx(expected)
    assert first_reward.sooner(idea, {**baseline, **others}) == pytest.approx(expected)
    assert first_reward.sooner(idea, {}) is None


def test_tasks_are_strata(groups):
    later = [[(time + 100_000, found) for time, found in group] for group in groups]
    arms = [
        {(task, i): time for task, group in zip(first_reward.TASKS, each, strict=False) for i, time in enumerate(group)}
        for each in zip(groups, later, strict=True)
    ]
    assert first_reward.sooner(*arms) == pytest.approx(log_rank([groups, later]))
    assert first_reward.sooner(*arms) != pytest.approx(
        log_rank([[[*a, *b] for a, b in zip(groups, later, strict=True)]])
    )


def test_runs_of_both_folders(tmp_path):
    for folder, step in (
        (f"{first_reward.FOLDER}/hopper_stand-raw-s31", 3000),
        ("results/suite100k_dev/hopper_stand-executed-s11", 7000),
        ("results/suite100k_dev/walker_run-executed-s11", 7000),
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "train.csv").write_text(f"step,return\n{step},101\n")
    assert first_reward.found_times(tmp_path) == {
        "raw": {("hopper_stand", 31): (3000, True)},
        "executed": {("hopper_stand", 11): (7000, True)},
    }
