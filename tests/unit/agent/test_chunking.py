import numpy as np
import pytest
import torch

from agent.chunking import ChunkExecutor, Plan, by_confidence, epsilon_commit, executed_length


@pytest.mark.parametrize(
    "confidences, threshold, k",
    [
        ([1.0], 0.5, 1),
        ([1.0, 0.9, 0.8, 0.7], 0.5, 4),
        ([1.0, 0.9, 0.4, 0.9], 0.5, 2),
        ([1.0, 0.4, 0.9, 0.9], 0.5, 1),
        ([0.0, 0.9, 0.9, 0.1], 0.5, 3),  # the first confidence does not count
        ([1.0, 0.5, 0.5, 0.5], 0.5, 4),  # at the threshold: not below it
        ([1.0, 0.0, 0.0, 0.0], 0.0, 4),
        ([1.0, 0.999, 0.999, 0.999], 1.0, 1),
        ([1.0, 1.0, 1.0, 0.999], 1.0, 3),
        ([1.0, np.nan, 1.0, 1.0], 0.5, 1),
    ],
)
def test_effective_length(confidences, threshold, k):
    assert executed_length(np.array(confidences), threshold) == k
    assert executed_length(torch.tensor(confidences), threshold) == k
    both = torch.tensor([confidences, confidences])
    assert executed_length(both, threshold).tolist() == [k, k]


class CountingPlanner:
    """Plan n has actions 10 n + 1, 10 n + 2, ... and the nth of the given confidences."""

    def __init__(self, *confidences):
        self.confidences, self.observations = confidences, []

    def __call__(self, obs):
        confidences = np.array(self.confidences[len(self.observations) % len(self.confidences)])
        self.observations.append(obs)
        actions = 10 * len(self.observations) + np.arange(1, len(confidences) + 1)
        return Plan(actions[:, None], confidences)


def test_executor_replans_when_the_committed_prefix_is_used_up():
    planner = CountingPlanner([1, 0.9, 0.9], [1, 0.1, 0.9], [1, 0.9, 0.1])
    executor = ChunkExecutor(planner, by_confidence(0.5))
    actions, left = [], []
    for t in range(7):
        actions.append(int(executor(t)[0]))
        left.append(executor.rest[:, 0].tolist())
    assert actions == [11, 12, 13, 21, 31, 32, 41]
    assert left == [[12, 13], [13], [], [], [32], [], [42, 43]]
    assert planner.observations == [0, 3, 4, 6]
    assert executor.lengths == [3, 1, 2, 3]
    assert [c.tolist() for c in executor.confidences[:2]] == [[1, 0.9, 0.9], [1, 0.1, 0.9]]


def test_reset_drops_the_rest_of_the_plan():
    planner = CountingPlanner([1, 1, 1])
    executor = ChunkExecutor(planner, by_confidence(0.5))
    executor(0)
    executor.reset()
    assert int(executor(5)[0]) == 21
    assert planner.observations == [0, 5] and executor.lengths == [3]


def test_commit_epsilon_executes_whole_plans_now_and_then():
    planner = CountingPlanner([1, 0, 0, 0])
    executor = ChunkExecutor(planner, epsilon_commit(by_confidence(0.5), 0.25, np.random.default_rng(0)))
    for t in range(8000):
        executor(t)
    lengths = np.array(executor.lengths)
    assert set(lengths) == {1, 4}
    assert np.mean(lengths == 4) == pytest.approx(0.25, abs=0.02)
