"""Times to the first reward, and the log-rank test against scipy's."""

import numpy as np
import pytest
from scipy.stats import CensoredData, logrank

from studies import first_reward
from studies.first_reward import log_rank, time_to_reward


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


@pytest.fixture
def arms():
    """Random times of all runs of `raw` and its baseline."""
    rng = np.random.default_rng(0)
    times = rng.integers(10_000, 150_000, (2, len(first_reward.TASKS), len(first_reward.SEEDS)))
    runs = [(task, seed) for task in first_reward.TASKS for seed in first_reward.SEEDS]
    found = [[(int(time), time < 100_000) for time in group] for group in times.reshape(2, -1)]
    return {arm: dict(zip(runs, group, strict=True)) for arm, group in zip(("raw", "best"), found, strict=True)}


def test_tasks_are_strata(arms):
    by_task = [
        [[runs[task, seed] for seed in first_reward.SEEDS] for runs in (arms["raw"], arms["best"])]
        for task in first_reward.TASKS
    ]
    assert first_reward.sooner(arms, "raw") == pytest.approx(log_rank(by_task))
    together = log_rank([[sum(group, []) for group in zip(*by_task, strict=True)]])
    assert first_reward.sooner(arms, "raw") != pytest.approx(together)


def test_the_rule_asks_for_sooner_and_for_a_third_of_five_percent():
    results = ((2.5, 0.012), (-2.5, 0.012), (2.3, 0.021), (2.4, 0.0166), (2.39, 0.0168))
    assert [first_reward.is_ahead(*result) for result in results] == [True, False, False, True, False]


def test_there_is_no_test_before_all_runs_have_ended(arms):
    assert first_reward.sooner(arms, "cool") is None
    for arm in arms:
        for run in arms[arm]:
            rest = {other: time for other, time in arms[arm].items() if other != run}
            assert first_reward.sooner({**arms, arm: rest}, "raw") is None


def test_runs_of_both_folders(tmp_path):
    for folder, step in (
        (f"{first_reward.FOLDER}/hopper_stand-raw-s31", 3000),
        ("results/suite100k_dev/hopper_stand-best-s11", 7000),
        ("results/suite100k_dev/walker_run-best-s11", 7000),
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "train.csv").write_text(f"step,return\n{step},101\n")
    assert first_reward.found_times(tmp_path) == {
        "raw": {("hopper_stand", 31): (3000, True)},
        "best": {("hopper_stand", 11): (7000, True)},
    }
