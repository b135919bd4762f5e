"""Pendulum in episodes of 40 steps that take 0.4 s on any machine: time enough to break in on a run."""

import time

import gymnasium as gym
from gymnasium.envs.classic_control import PendulumEnv


class Slow(PendulumEnv):
    def step(self, action):
        time.sleep(0.01)
        return super().step(action)


gym.register("Slow-v0", Slow, max_episode_steps=40)
