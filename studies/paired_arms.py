"""The rule by which results/suite100k_dev decides defaults: paired differences between its arms.

The README.md of that folder has the rule; the table `suite_rule` of docs/results.md shows what follows from it.
"""

import itertools
import re
from typing import NamedTuple

import numpy as np

from analysis.curves import numbers, read_rows
from analysis.statistics import paired_difference
from studies.long_prefixes import read_biases

SUITE = "results/suite100k_dev"
BESIDE = f"{SUITE}/beside"  # rows for reading only
DEVELOPMENT = (
    "cheetah_run",
    "walker_run",
    "ball_in_cup_catch",
    "cartpole_swingup_sparse",
    "quadruped_run",
    "hopper_stand",
    "finger_spin",
    "pendulum_swingup",
)
SEEDS = (11, 12, 13)
STEPS = np.arange(10_000, 110_000, 10_000)  # of the evaluations
FEWER_STEPS = 80_000  # those of an arm that takes 1.25 times as long per step, at equal time
FAR_BEHIND = 100  # units of return
NUM_ERRORS = (2, 2, 1)  # standard errors that the readings after seeds 11, 12 and 13 ask for


class Difference(NamedTuple):
    """Return of one arm less that of another, over the tasks and seeds that both have."""

    mean: float  # after 100,000 steps
    error: float  # its standard error
    mean_of_all: float  # mean over the ten evaluations; for reading only
    with_fewer_steps: tuple  # mean and standard error, the first arm after FEWER_STEPS; for reading only
    pairs: set  # (task, seed)
    behind: list  # tasks on which every seed is behind by more than FAR_BEHIND after 100,000 steps

    def wins(self):
        """Whether the first arm is ahead by the rule; None between the readings."""
        for num_seeds, num_errors in enumerate(NUM_ERRORS, start=1):
            if self.pairs == set(itertools.product(DEVELOPMENT, SEEDS[:num_seeds])):
                return self.mean > num_errors * self.error and not self.behind
        return None


def finished_arms(root, folder=SUITE):
    """Returns of the evaluations of each finished run: {arm: {(task, seed): (10,)}}.

    Args:
        root: pathlib.Path of the repository.
        folder: of the runs, within it.

    Raises:
        ValueError: a run lacks an evaluation.
    """
    arms = {}
    for arm, run, directory in finished_runs(root / folder):
        path = str(directory / "eval.csv")
        rows = read_rows(path, ("step", "return"))
        if not np.array_equal(numbers(path, rows, "step"), STEPS):
            raise ValueError(f"{path} needs evaluations after each 10,000 of 100,000 steps")
        arms.setdefault(arm, {})[run] = numbers(path, rows, "return")
    return dict(sorted(arms.items()))


def measured_biases(root):
    """{value: its bias in units of return} of each run that has a bias.json: {arm: {(task, seed): biases}}."""
    arms = {}
    for arm, run, folder in finished_runs(root / SUITE):
        if (folder / "bias.json").exists():
            arms.setdefault(arm, {})[run] = read_biases(folder / "bias.json")
    return arms


def finished_runs(folder):
    """(arm, (task, seed), pathlib.Path) of each run in a folder that has one folder per finished run."""
    for path in sorted(folder.glob("*-s*")):
        task, arm, seed = re.fullmatch(r"(\w+)-(\w+)-s(\d+)", path.name).groups()
        yield arm, (task, int(seed)), path


def last_by_task(runs):
    """What {(task, seed): (10,)} holds after 100,000 steps: {task: list over seeds}."""
    result = {}
    for (task, _), values in runs.items():
        result.setdefault(task, []).append(values[-1])
    return result


def difference(new, old):
    """`Difference` of two arms.

    Args:
        new, old: {(task, seed): (10,) returns}.

    Raises:
        ValueError: fewer than two pairs.
    """
    gains = {run: new[run] - old[run] for run in new if run in old}
    if len(gains) < 2:
        raise ValueError("a standard error needs two pairs")
    behind = [task for task, last in last_by_task(gains).items() if max(last) < -FAR_BEHIND]
    values = np.array(list(gains.values()))  # (pairs, 10)
    last = _after(old, STEPS[-1])
    mean, error = paired_difference(_after(new, STEPS[-1]), last)
    fewer = paired_difference(_after(new, FEWER_STEPS), last)
    return Difference(mean, error, values.mean(), fewer, set(gains), behind)


def _after(runs, step):
    """What {run: (10,)} holds after a step: {run: return}."""
    return {run: values[step == STEPS].item() for run, values in runs.items()}
