"""An environment where it is known when executing blind costs nothing.

A point follows a target that moves on a circle's sine. In the first half of each turn random gusts hit the point; in
the second half nothing does, so a plan made there is as good as looking again, until the next gust can come.
`python train.py --env Gusty-v0 --windows committed` trains on it.
"""

import gymnasium as gym
import numpy as np

PERIOD = 40  # steps per turn; gusts come in steps 0..19 of it
SPEED = 1.0  # of the point, per step
GUST = 1.0
GUST_PROBABILITY = 0.6


def observation(x, phase):
    """(4,): error, position, and where in the turn we are; phase counts steps."""
    angle = 2 * np.pi * phase / PERIOD
    return np.array([np.sin(angle) - x, x, np.sin(angle), np.cos(angle)], np.float32)


class Gusty(gym.Env):
    """Reward 1 - |target - x| after the move; gusts of +-GUST hit after the reward is given."""

    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    metadata = {"render_modes": []}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        """A new turn, begun at a random phase, with the point on the target."""
        super().reset(seed=seed)
        self.phase = int(self.np_random.integers(PERIOD))
        self.x = np.sin(2 * np.pi * self.phase / PERIOD)
        return observation(self.x, self.phase), {}

    def is_gusty(self):
        """Whether a gust can hit in the next step."""
        return self.phase % PERIOD < PERIOD // 2

    def step(self, action):
        """Move by SPEED * action; no end but the time limit."""
        self.x += SPEED * float(action[0])
        is_gusty = self.is_gusty()
        self.phase += 1
        reward = 1 - abs(np.sin(2 * np.pi * self.phase / PERIOD) - self.x)
        if is_gusty and self.np_random.random() < GUST_PROBABILITY:
            self.x += GUST * self.np_random.choice((-1, 1))
        self.x = float(np.clip(self.x, -2, 2))
        return observation(self.x, self.phase), reward, False, False, {}
