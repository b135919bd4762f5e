"""How a plan becomes single actions: effective length and executor."""

from typing import NamedTuple

import numpy as np


class Plan(NamedTuple):
    """h actions and how sure the actor is of executing each one blind."""

    actions: np.ndarray  # (h, A)
    confidences: np.ndarray  # (h,), the first is 1


def effective_length(confidences, threshold):
    """k = 1 + the number of consecutive i = 2, 3, ... with c_i >= threshold.

    Args:
        confidences: (..., h), a numpy array or a torch tensor.
        threshold: the first action is executed whatever its confidence; 0 gives h.

    Returns:
        k in 1..h, integer, (...).
    """
    return 1 + (confidences[..., 1:] >= threshold).cumprod(-1).sum(-1)


class ChunkExecutor:
    """Executes the committed prefix of a plan, then plans again.

    Call `reset()` at the start of an episode, then the executor once a step with the observation. Since the
    last reset, `lengths` holds the effective length of each plan, `confidences` the (h,) confidences of each.

    Args:
        plan: obs (O,) -> Plan.
        threshold: see `effective_length`.
        commit_epsilon: probability that a plan is executed to its end whatever the confidences.
        rng: numpy Generator that decides on that; needed where commit_epsilon > 0.
    """

    def __init__(self, plan, threshold, commit_epsilon=0.0, rng=None):
        self.plan, self.threshold = plan, threshold
        self.commit_epsilon, self.rng = commit_epsilon, rng
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
            if self.commit_epsilon and self.rng.random() < self.commit_epsilon:
                self.steps_left = len(plan.actions)
            else:
                self.steps_left = int(effective_length(plan.confidences, self.threshold))
            self._queue = iter(plan.actions)
            self.lengths.append(self.steps_left)
            self.confidences.append(plan.confidences)
        return next(self._queue)
