import gymnasium as gym
import numpy as np
import pytest

from agent.chunking import Plan
from envs import make_env
from errors import RunError
from rollout import check_finite, evaluate, play_each
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


def test_episodes_come_as_they_are_played():
    env = Spy(make_env("tests.envs.scripted:Scripted-v0"))
    episodes = play_each(Planner(), env, [5, 6], lambda plan: 2)
    assert next(episodes) == (episode_return(1), [2, 2, 2, 2]) and env.seeds == [5]
    assert next(episodes) == (episode_return(2), [2, 2]) and env.seeds == [5, 6]


class Broken(gym.Wrapper):
    """In its second episode, one thing that step 3 gives is wrong."""

    def __init__(self, name, value):
        super().__init__(make_env("tests.envs.scripted:Scripted-v0"))
        self.broken, self.time, self.episode = {name: value}, 0, 0

    def reset(self, **kwargs):
        self.time, self.episode = 0, self.episode + 1
        obs, info = self.env.reset(**kwargs)
        return self.now("first observation", obs, 0), info

    def step(self, action):
        self.time += 1
        obs, reward, *rest = self.env.step(action)
        return self.now("observation", obs, 3), self.now("reward", reward, 3), *rest

    def now(self, name, value, time):
        return self.broken.get(name, value) if (self.episode, self.time) == (2, time) else value


NAN = np.array([0, np.nan, 0], np.float32)


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("first observation", NAN, "episode 2, step 0: the environment's observation is not finite: [ 0. nan 0.]"),
        ("observation", NAN, "episode 2, step 3: the environment's observation is not finite: [ 0. nan 0.]"),
        ("reward", float("inf"), "episode 2, step 3: the environment's reward is not finite: inf"),
        ("reward", None, "episode 2, step 3: the environment's reward is not finite: None"),
    ],
)
def test_what_is_not_finite_is_not_played(name, value, sentence):
    with pytest.raises(RunError) as caught:
        list(play_each(Planner(), Broken(name, value), [1, 2, 3], lambda plan: 3))
    assert str(caught.value) == sentence
    with pytest.raises(RunError) as caught:
        evaluate(Planner(), Broken(name, value), step=70, seed=1, num_episodes=3, confidence_threshold=0)
    assert str(caught.value) == f"evaluation at step 70: {sentence}"


def test_a_long_observation_is_one_line():
    obs = np.full(100, np.nan)
    with pytest.raises(RunError, match=r"^here: it is not finite: \[nan nan .*nan\]$"):
        check_finite(obs, "it", "here")


def test_an_action_that_is_not_finite_is_not_executed():
    class Diverged(Planner):
        def plan(self, obs, sample):
            return Plan(np.full((3, 2), np.nan if obs[0] == 2 else 0, np.float32), np.ones(3))

    with pytest.raises(RunError, match=r"episode 1, step 3: the policy's action is not finite: \[nan nan\]"):
        list(play_each(Diverged(), make_env("tests.envs.scripted:Scripted-v0"), [1], lambda plan: 2))


def test_rewards_whose_sum_is_not_finite():
    class Huge(gym.Wrapper):
        def step(self, action):
            obs, _, *rest = self.env.step(action)
            return obs, 1.7e308, *rest

    with pytest.raises(RunError, match="episode 1, step 7: the return is not finite: inf"):
        list(play_each(Planner(), Huge(make_env("tests.envs.scripted:Scripted-v0")), [1], lambda plan: 2))


def test_only_the_frames_of_the_video_are_rendered(tmp_path):
    """Rendering takes longer than the steps: 100 steps per second, 25 frames per second, the first episode alone."""
    env, rendered = make_env("tests.envs.scripted:Scripted-v0", render_size=64), []
    env.unwrapped.metadata = env.unwrapped.metadata | {"render_fps": 100}
    render = env.unwrapped.render
    env.unwrapped.render = lambda: rendered.append(1) or render()
    evaluate(Planner(), env, step=0, seed=1, num_episodes=3, confidence_threshold=0, video_path=str(tmp_path / "a.mp4"))
    assert len(rendered) == len(range(0, episode_length(1), 4))
