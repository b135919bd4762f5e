import numpy as np
import pytest

from agent.chunking import Plan
from envs import make_env
from rollout import evaluate
from tests.envs.scripted import episode_length, episode_return


class Planner:
    """Plans of 3 actions, the third of which is not trusted at 0.5."""

    def __init__(self):
        self.calls = []

    def plan(self, obs, sample):
        self.calls.append((int(obs[0]), sample))
        return Plan(np.full((3, 2), 0.25, np.float32), np.array([1.0, 0.9, 0.1]))


class Spy:
    """Remembers the seeds that an environment was reset with."""

    def __init__(self, env):
        self.env, self.seeds = env, []

    def reset(self, seed):
        self.seeds.append(seed)
        return self.env.reset(seed=seed)

    def __getattr__(self, name):
        return getattr(self.env, name)


def play(agent, step=1000, threshold=0.5):
    env = Spy(make_env("tests.envs.scripted:Scripted-v0"))
    row = evaluate(agent, env, step=step, seed=1, num_episodes=2, confidence_threshold=threshold)
    return row, env.seeds


@pytest.mark.parametrize("threshold, k", [(0.5, 2), (0.0, 3), (1.0, 1)])
def test_plans_are_executed_as_far_as_the_confidences_carry(threshold, k):
    agent = Planner()
    row, _ = play(agent, threshold=threshold)
    returns = [episode_return(1), episode_return(2)]
    assert row == {"step": 1000, "return": np.mean(returns), "k": k, "return_1": returns[0], "return_2": returns[1]}
    # The observation is the step: a new plan every k steps, and at the start of each episode; never sampled.
    expected = [t for episode in (1, 2) for t in range(0, episode_length(episode), k)]
    assert agent.calls == [(t, False) for t in expected]


def test_episodes_have_seeds_of_their_own():
    seeds = play(Planner())[1] + play(Planner(), step=2000)[1]
    assert len(set(seeds)) == 4
    assert play(Planner())[1] == seeds[:2]
