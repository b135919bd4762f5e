"""Published agents and this package's arms on the development tasks, after 100,000 simulator steps."""

from typing import NamedTuple

import numpy as np

from analysis.curves import read_rows
from storage.run_dir import read_flags
from studies import multiply_adds, paired_arms
from studies.paired_arms import DEVELOPMENT

PUBLISHED = "results/reference/published_100k.csv"
LABELS = {  # of the arms
    "best": "ours",
    "executed": "ours, executed prefixes",
    "normalised": "ours, earlier defaults, normalised",
    "default": "ours, earlier defaults",
    "plain": "ours, plain SAC",
}
CHEETAH = (17, 6)  # observation and action size, at which multiply-adds are counted


class Agent(NamedTuple):
    """One agent or arm."""

    name: str
    is_ours: bool
    updates: str  # per simulator step; a number, or one with a question mark
    multiply_adds: float | None  # per simulator step; None where the source gives no sizes
    returns: dict  # {task: mean return over seeds}

    def at_most_one_update(self):
        """Whether it makes at most one update per simulator step."""
        return float(self.updates.rstrip("?")) <= 1

    def mean(self, tasks=DEVELOPMENT, at_least=7):
        """Mean return over those of the tasks that it has; None if they are fewer than `at_least`."""
        found = [self.returns[task] for task in tasks if task in self.returns]
        return float(np.mean(found)) if len(found) >= at_least else None


def read_agents(root):
    """All `Agent`s.

    Args:
        root: pathlib.Path of the repository.
    """
    published, agents = {}, []
    for row in read_rows(str(root / PUBLISHED), ("algo", "env", "mean", "updates_per_sim_step")):
        published.setdefault((row["algo"], row["updates_per_sim_step"]), {})[row["env"]] = float(row["mean"])
    for (name, updates), returns in published.items():
        cost = multiply_adds.per_step(name, *CHEETAH) if name in multiply_adds.AGENTS else None
        agents.append(Agent(name, False, updates.removesuffix(".0"), cost, returns))
    for arm, runs in paired_arms.finished_arms(root).items():
        means = {task: float(np.mean(returns)) for task, returns in paired_arms.last_by_task(runs).items()}
        task, seed = next(iter(runs))
        flags = read_flags(str(root / paired_arms.SUITE / f"{task}-{arm}-s{seed}"))
        sizes = (flags[name] for name in ("chunk_size", "hidden_dim", "hidden_depth", "batch_size"))
        cost = flags["updates_per_step"] * multiply_adds.chunked_update(*CHEETAH, *sizes)
        agents.append(Agent(LABELS[arm], True, f"{flags['updates_per_step']:g}", cost, means))
    return agents
