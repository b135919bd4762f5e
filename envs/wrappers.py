"""Wrappers of environments."""

import gymnasium as gym


class ActionRepeat(gym.Wrapper):
    """Applies each action `repeat` times, or until the episode ends, and sums the rewards.

    Args:
        env: the environment.
        repeat: control steps per action, at least 1.
    """

    def __init__(self, env, repeat):
        super().__init__(env)
        self.repeat = repeat
        if "render_fps" in env.metadata:
            self.metadata = env.metadata | {"render_fps": env.metadata["render_fps"] / repeat}

    def step(self, action):
        """As `gymnasium.Env.step`, with the last observation and info and the sum of the rewards."""
        total = 0.0
        for _ in range(self.repeat):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += reward
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info
