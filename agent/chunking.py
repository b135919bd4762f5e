"""From plans to single actions: executed length, commit rules, executor.

A commit rule is a function Plan -> k, how many of the plan's h actions to execute before planning again.
"""

from typing import NamedTuple

import numpy as np


class Plan(NamedTuple):
    """The actions of a chunk, and the confidence of each."""

    actions: np.ndarray  # (h, A), in [-1, 1]
    confidences: np.ndarray  # (h,), in [0, 1], the first is 1


def executed_length(confidences, threshold):
    """k = 1 + the number of consecutive i = 2, 3, ... with c_i >= threshold.

    Args:
        confidences: (..., h), a numpy array or a torch tensor.
        threshold: in [0, 1]; 0 gives k = h. The first action is always executed.

    Returns:
        k in 1..h, integer, (...).
    """
    return 1 + (confidences[..., 1:] >= threshold).cumprod(-1).sum(-1)


def by_confidence(threshold):
    """The commit rule that executes a plan up to its first confidence below threshold."""
    return lambda plan: int(executed_length(plan.confidences, threshold))


def epsilon_commit(commit_rule, epsilon, rng):
    """A commit rule: the whole plan with probability epsilon, else commit_rule. rng is a numpy Generator."""
    return lambda plan: len(plan.actions) if rng.random() < epsilon else commit_rule(plan)


class ChunkExecutor:
    """Executes the first k actions of a plan, then plans again.

    Call `reset()` at the start of an episode, then the executor once per step with the observation.

    Args:
        plan: function obs (O,) -> Plan.
        commit_rule: function Plan -> k in 1..h.

    Attributes:
        rest: (n, A), actions of the current plan that will be executed after the latest one.
        lengths: executed length k of each plan since the last reset.
        confidences: confidences (h,) of each plan since the last reset.
    """

    def __init__(self, plan, commit_rule):
        self.plan, self.commit_rule = plan, commit_rule
        self.reset()

    def reset(self):
        """Discard the current plan, `lengths` and `confidences`."""
        self.rest = ()
        self.lengths, self.confidences = [], []

    def __call__(self, obs):
        """obs (O,) -> action (A,)."""
        if not len(self.rest):
            plan = self.plan(obs)
            k = self.commit_rule(plan)
            self.rest = plan.actions[:k]
            self.lengths.append(k)
            self.confidences.append(plan.confidences)
        action, self.rest = self.rest[0], self.rest[1:]
        return action
