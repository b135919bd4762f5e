"""Environments that break in a known way at a known step: Faulty-<fault>-v0."""

import gymnasium as gym
import numpy as np

EPISODE = 30
BROKEN_STEP = 75


class Faulty(gym.Env):
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)

    def __init__(self, fault, render_mode=None):
        self.fault, self.num_steps = fault, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=3).astype(np.float32), {}

    def step(self, action):
        self.num_steps += 1
        obs, reward = self.np_random.normal(size=3).astype(np.float32), float(action.sum())
        if self.num_steps >= BROKEN_STEP:
            if self.fault == "reward":
                reward = float("nan")
            elif self.fault == "observation":
                obs[1] = np.inf
            elif self.fault == "loss":
                reward = 3e38  # the sum of two is more than float32 holds
        return obs, reward, False, self.num_steps % EPISODE == 0, {}


for fault in ("reward", "observation", "loss"):
    gym.register(f"Faulty-{fault}-v0", Faulty, kwargs={"fault": fault})
