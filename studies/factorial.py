"""Main effects of the factorial of results/suite100k_dev, whose README.md has the design and the rule.

The table `factorial_effects` of docs/results.md shows them.
"""

import csv
import math
from typing import NamedTuple

import numpy as np

from analysis.curves import numbers, read_rows

SUITE = "results/suite100k_dev"
SCORED = (30_000, 40_000, 50_000)  # steps of the evaluations whose mean is the score of a run
HALF_ENTROPY = {"cheetah_run": "-3", "walker_run": "-3", "cartpole_swingup_sparse": "-0.5", "quadruped_run": "-6"}
PINK = "pink noise"
# What the flags of a run at level + contain.
PLUS = {
    "`--discount` 0.995": lambda task: "--discount 0.995",
    "`--target_entropy` $-A/2$": lambda task: f"--target_entropy {HALF_ENTROPY[task]} ",
    "`--init_temperature` 0.01": lambda task: "--init_temperature 0.01",
    "learning rates 1e-3": lambda task: "--actor_lr 1e-3",
    "`--critic_tau` 0.01": lambda task: "--critic_tau 0.01",
    PINK: lambda task: "--exploration_noise pink",
    "fading replay weight": lambda task: "--replay_weight fading",
    "temperature loss by step": lambda task: "--temperature_weighting step",
}


class Effect(NamedTuple):
    """Mean score at + minus mean score at -, in units of return."""

    name: str
    value: float
    error: float  # standard error
    by_task: dict  # {task: value}

    def enters(self):
        """Whether level + enters the best combination, by the rule in results/suite100k_dev/README.md."""
        if self.name == PINK:  # less code
            return self.value > -self.error
        return self.value > self.error and min(self.by_task.values()) >= -100


def finished_cells(root):
    """(task, levels (8,) of -1 and 1, score) of each cell of factorial.csv whose run has finished.

    Args:
        root: pathlib.Path of the repository.
    """
    cells = []
    with open(root / SUITE / "factorial.csv", newline="") as file:
        for row in csv.DictReader(file):
            path = root / SUITE / "factorial" / f"c{int(row['cell']):02d}" / "eval.csv"
            if path.exists():
                levels = [1 if plus(row["task"]) in row["flags"] else -1 for plus in PLUS.values()]
                cells.append((row["task"], levels, score(str(path))))
    return cells


def score(path, cost=1.0):
    """Mean return of the evaluations after the `SCORED` steps.

    Args:
        path: eval.csv of a run.
        cost: relative time of a step; the steps are divided by it, and returns are linear between evaluations.

    Raises:
        ValueError: one of the evaluations after the `SCORED` steps is missing.
    """
    rows = read_rows(path, ("step", "return"))
    steps, returns = numbers(path, rows, "step"), numbers(path, rows, "return")
    if np.isin(steps, SCORED).sum() != len(SCORED):
        raise ValueError(f"{path} lacks an evaluation of {SCORED}")
    return np.interp(np.array(SCORED) / cost, steps, returns).mean()


def effects(cells):
    """An `Effect` per factor, by least squares with a mean per task and a coefficient per factor.

    With as many cells at + as at - on each task that is the difference of their means.

    Args:
        cells: of `finished_cells`.

    Raises:
        ValueError: too few cells.
    """
    tasks = sorted({task for task, _, _ in cells})
    task, levels, scores = (np.array(column) for column in zip(*cells, strict=True))  # (N,), (N, 8), (N,)
    x = np.concatenate([np.equal.outer(task, tasks), levels], axis=1).astype(float)  # (N, tasks + 8)
    freedom = len(x) - x.shape[1]
    if freedom < 1 or np.linalg.matrix_rank(x) < x.shape[1]:
        raise ValueError(f"{len(x)} cells do not identify the effects")
    coefficients = np.linalg.lstsq(x, scores)[0]
    variance = np.square(scores - x @ coefficients).sum() / freedom * np.linalg.inv(x.T @ x).diagonal()
    result = []
    for i, name in enumerate(PLUS):
        by_task = {}
        for each in tasks:
            at = levels[:, i] * (task == each)  # (N,), 0 on other tasks
            by_task[each] = scores[at == 1].mean() - scores[at == -1].mean()
        column = len(tasks) + i  # levels are 2 apart
        result.append(Effect(name, 2 * coefficients[column], 2 * math.sqrt(variance[column]), by_task))
    return result
