"""cheetah_run with pushes: where the torso is pitched one way, random forces hit it now and then.

`python train.py --env PushedCheetah-v0 --windows committed` trains on it.
"""

from envs.dm_control import DMControlEnv

PUSH_PROBABILITY = 0.2  # per step
FORCE = 1000.0  # N, for one control step of 0.01 s; the cheetah weighs 14 kg


class PushedCheetah(DMControlEnv):
    """Pushes come while the pitch, an observation, is positive: in about half of the states of a gallop."""

    def __init__(self, render_mode=None):
        super().__init__("cheetah", "run", 84 if render_mode else None)

    def is_exposed(self):
        """Whether the next step may be pushed."""
        return bool(self._env.physics.named.data.qpos["rooty"][0] > 0)

    def step(self, action):
        """As cheetah_run's; a push is a force in a random direction of the plane that it runs in."""
        push = self._env.physics.named.data.xfrc_applied
        if self.is_exposed() and self.task_random.random_sample() < PUSH_PROBABILITY:
            push["torso", [0, 2]] = FORCE * self.task_random.uniform(-1, 1, 2)
        result = super().step(action)
        push["torso"] = 0
        return result
