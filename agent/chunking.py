"""How a plan becomes single actions: executed length, commit rules and executor.

A commit rule is a function Plan -> k, how many of the plan's h actions to execute before planning again.
"""

from typing import NamedTuple

import numpy as np


class Plan(NamedTuple):
    """h actions and how sure the actor is of executing each one without looking again."""

    actions: np.ndarray  # (h, A)
    confidences: np.ndarray  # (h,), the first is 1


def executed_length(confidences, threshold):
    """k = 1 + the number of consecutive i = 2, 3, ... with c_i >= threshold.

    Args:
        confidences: (..., h), a numpy array or a torch tensor.
        threshold: the first action is executed whatever its confidence; 0 gives h.

    Returns:
        k in 1..h, integer, (...).
    """
    return 1 + (confidences[..., 1:] >= threshold).cumprod(-1).sum(-1)


def by_confidence(threshold):
    """The commit rule Plan -> its executed length k at a confidence threshold."""
    return lambda plan: int(executed_length(plan.confidences, threshold))


def epsilon_commit(commit_rule, epsilon, rng):
    """As commit_rule, but with probability epsilon, drawn from rng (a numpy Generator), the whole plan."""
    return lambda plan: len(plan.actions) if rng.random() < epsilon else commit_rule(plan)


class ChunkExecutor:
    """Executes the committed prefix of a plan, then plans again.

    Call `reset()` at the start of an episode, then the executor once per step with the observation. Since the
    last reset, `lengths` holds the executed length k of each plan, `confidences` the (h,) confidences of each.

    Args:
        plan: obs (O,) -> Plan.
        commit_rule: Plan -> how many of its actions to execute, 1..h.
    """

    def __init__(self, plan, commit_rule):
        self.plan, self.commit_rule = plan, commit_rule
        self.reset()

    def reset(self):
        """Forget the rest of the plan and the statistics of the episode."""
        self._queue = iter(())
        self.steps_left = 0
        self.lengths, self.confidences = [], []

    def __call__(self, obs):
        """obs (O,) -> action (A,). Sets `steps_left`: the committed steps from this one on, at least 1."""
        self.steps_left -= 1
        if self.steps_left < 1:
            plan = self.plan(obs)
            self.steps_left = self.commit_rule(plan)
            self._queue = iter(plan.actions)
            self.lengths.append(self.steps_left)
            self.confidences.append(plan.confidences)
        return next(self._queue)
