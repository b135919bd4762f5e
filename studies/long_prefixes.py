"""The rule of results/long_prefixes, whose README.md has the protocol: bias of long prefixes, and return.

The table `long_prefixes_rule` of docs/results.md shows what follows from it.
"""

import json
from typing import NamedTuple

import numpy as np

from analysis.statistics import paired_difference
from studies import factorial

FOLDER = "results/long_prefixes"
PLAIN, CHANGES = "plain", ("bootstrap_one", "executed", "four_critics")
RUNS = tuple((task, seed) for task in ("walker_run", "cheetah_run") for seed in (21, 22, 23))
# CPU time of a step over that of plain, measured for four_critics (README.md there); above 1.05 a run is scored at
# equal time. The operations of the others are those of plain.
COST = {PLAIN: 1.0, "bootstrap_one": 1.0, "executed": 1.0, "four_critics": 1.5}


class Outcome(NamedTuple):
    """One change, over the runs that have finished with it."""

    name: str
    bias: dict  # {value: its bias in each run}, of q_1..q_h and v
    scores: dict  # {(task, seed): score}

    def mean_bias(self, value):
        """Mean over runs."""
        return float(np.mean(self.bias[value]))

    def gain(self, plain):
        """(mean, standard error) of the paired differences of scores; None for fewer than two pairs."""
        return paired_difference(self.scores, plain.scores)

    def passes(self, plain):
        """Whether the rule keeps it; None before all runs of both have ended."""
        if not len(self.scores) == len(plain.scores) == len(RUNS):
            return None
        mean, error = self.gain(plain)
        is_halved = abs(self.mean_bias("q_5")) <= abs(plain.mean_bias("q_5")) / 2
        return is_halved and mean >= -error


def score(path, cost):
    """`factorial.score` at equal time if a step costs more than 1.05 times one of plain."""
    return float(factorial.score(path, cost if cost > 1.05 else 1))


def read_biases(path):
    """{value: its bias} of a bias.json of evaluate.py, a pathlib.Path: of q_1..q_h and v, in units of return."""
    return {value["name"]: value["bias"] for value in json.loads(path.read_text(encoding="utf-8"))["values"]}


def outcomes(root):
    """`Outcome` of plain and of each change that has a finished run.

    Args:
        root: pathlib.Path of the repository.
    """
    result = []
    for name in (PLAIN, *CHANGES):
        bias, scores = {}, {}
        for task, seed in RUNS:
            folder = root / FOLDER / f"{task}-{name}-s{seed}"
            if not folder.exists():
                continue
            for value, number in read_biases(folder / "bias.json").items():
                bias.setdefault(value, []).append(number)
            scores[task, seed] = score(str(folder / "eval.csv"), COST[name])
        if scores:
            result.append(Outcome(name, bias, scores))
    return result
