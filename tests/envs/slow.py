"""Pendulum that takes its time: 0.4 s per episode of 40 steps on any machine, or as long as a test wants."""

import time
from pathlib import Path

import gymnasium as gym
from gymnasium.envs.classic_control import PendulumEnv


class Slow(PendulumEnv):
    def step(self, action):
        time.sleep(0.01)
        return super().step(action)


gym.register("Slow-v0", Slow, max_episode_steps=40)


class Held(PendulumEnv):
    """Step 650, in the middle of the fourth episode, takes as long as the file "hold" exists."""

    num_steps = 0

    def step(self, action):
        self.num_steps += 1
        while self.num_steps == 650 and Path("hold").exists():
            Path("held").touch()
            time.sleep(0.01)
        return super().step(action)


gym.register("Held-v0", Held, max_episode_steps=200)  # as Pendulum-v1
