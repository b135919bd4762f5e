"""When runs find reward: the log-rank test of results/rare_reward, whose README.md has the protocol.

The table `first_reward` of docs/results.md shows what follows from it.
"""

import math

import numpy as np

from analysis.curves import numbers, read_rows
from studies import paired_arms

FOLDER = "results/rare_reward"
TASKS = ("pendulum_swingup", "hopper_stand", "cartpole_swingup_sparse")
SEEDS = (*paired_arms.SEEDS, *range(31, 38))
IDEAS = {  # {arm: (its baseline, seeds of both)}
    "best": ("normalised", paired_arms.SEEDS),
    "cool": ("best", SEEDS),
    "raw": ("best", SEEDS),
}
LEVEL = 0.05 / len(IDEAS)  # of a test, two-sided
FOUND = 100  # return of a training episode
CENSORED = 100_000  # steps


def found_times(root):
    """`time_to_reward` of each finished run on TASKS: {arm: {(task, seed): (step, found)}}.

    Args:
        root: pathlib.Path of the repository.
    """
    arms = {}
    for suite in (paired_arms.SUITE, FOLDER):
        for arm, (task, seed), folder in paired_arms.finished_runs(root / suite):
            if task in TASKS:
                arms.setdefault(arm, {})[task, seed] = time_to_reward(str(folder / "train.csv"))
    return arms


def time_to_reward(path):
    """(step, found): end of the first training episode with a return above FOUND, or (CENSORED, False).

    Args:
        path: train.csv of a run.

    Raises:
        UsageError: the file has no rows.
        ValueError: the run has ended before CENSORED steps and without such an episode.
    """
    rows = read_rows(path, ("step", "return"))
    steps = numbers(path, rows, "step")
    found = (numbers(path, rows, "return") > FOUND) & (steps <= CENSORED)
    if found.any():
        return int(steps[found.argmax()]), True
    if steps[-1] < CENSORED:
        raise ValueError(f"{path} ends before {CENSORED} steps and before a return above {FOUND}")
    return CENSORED, False


def log_rank(strata):
    """Stratified log-rank test of two groups (Mantel 1966): whose events come sooner?

    Args:
        strata: list of (first, second), each a list of (time, found): one pair of groups per stratum.

    Returns:
        (z, p): z above 0 if the first group's events come sooner; p is two-sided. None if no event tells them apart.
    """
    excess = variance = 0.0
    for first, second in strata:
        times, found = np.array([*first, *second], float).T  # (N,), (N,)
        is_first = np.arange(len(times)) < len(first)
        for time in np.unique(times[found == 1]):
            at_risk, events = times >= time, (times == time) & (found == 1)
            n, n_first, d = at_risk.sum(), (at_risk & is_first).sum(), events.sum()
            share = n_first / n
            excess += (events & is_first).sum() - d * share
            if n > 1:
                variance += d * share * (1 - share) * (n - d) / (n - 1)
    if variance == 0:
        return None
    z = excess / math.sqrt(variance)
    return z, math.erfc(abs(z) / math.sqrt(2))


def sooner(arms, idea):
    """`log_rank` of an arm of IDEAS and its baseline, stratified by task; None before all their runs have ended.

    Args:
        arms: as of `found_times`.
        idea: a name in IDEAS.
    """
    baseline, seeds = IDEAS[idea]
    pair = arms.get(idea, {}), arms.get(baseline, {})
    if not all((task, seed) in runs for runs in pair for task in TASKS for seed in seeds):
        return None
    return log_rank([[[runs[task, seed] for seed in seeds] for runs in pair] for task in TASKS])


def is_ahead(z, p):
    """Whether an idea with this result of `sooner` is ahead of its baseline."""
    return z > 0 and p < LEVEL
