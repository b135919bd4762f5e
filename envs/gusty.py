"""An environment where it is known when a plan can be executed at no cost.

A point follows a target that moves as a sine. Random gusts hit the point in the first half of each period. In the
second half there are none, so continuing a plan is as good as replanning until the next gust can come.
`python train.py --env Gusty-v0 --windows committed` trains on it.
"""

import gymnasium as gym
import numpy as np

PERIOD = 40  # steps; gusts can hit in steps 0..19 of each period
SPEED = 1.0  # of the point at action 1, per step
GUST = 1.0  # displacement
GUST_PROBABILITY = 0.6  # per step of the first half


def observation(x, phase):
    """(4,): target - x, x, sine and cosine of the phase, which counts steps."""
    angle = 2 * np.pi * phase / PERIOD
    return np.array([np.sin(angle) - x, x, np.sin(angle), np.cos(angle)], np.float32)


class Gusty(gym.Env):
    """The reward is 1 - |target - x| after the move and before the gust, which is +-GUST."""

    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    metadata = {"render_modes": []}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        """Start at a random phase, with the point on the target; returns observation (4,), {}."""
        super().reset(seed=seed)
        self.phase = int(self.np_random.integers(PERIOD))
        self.x = np.sin(2 * np.pi * self.phase / PERIOD)
        return observation(self.x, self.phase), {}

    def is_gusty(self):
        """Whether a gust can hit the point in the next step."""
        return self.phase % PERIOD < PERIOD // 2

    def step(self, action):
        """Move by SPEED * action, (1,) in [-1, 1]. Never terminates."""
        self.x += SPEED * float(action[0])
        is_gusty = self.is_gusty()
        self.phase += 1
        reward = 1 - abs(np.sin(2 * np.pi * self.phase / PERIOD) - self.x)
        if is_gusty and self.np_random.random() < GUST_PROBABILITY:
            self.x += GUST * self.np_random.choice((-1, 1))
        self.x = float(np.clip(self.x, -2, 2))
        return observation(self.x, self.phase), reward, False, False, {}
