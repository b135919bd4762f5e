"""cheetah_run with pushes: random forces hit the torso in some steps while it is pitched one way.

`python train.py --env PushedCheetah-v0 --windows committed` trains on it.
"""

from envs.dm_control import DMControlEnv

PUSH_PROBABILITY = 0.2  # per step
FORCE = 1000.0  # N, for one control step of 0.01 s; the cheetah weighs 14 kg


class PushedCheetah(DMControlEnv):
    """Pushes hit only while the pitch, which is observed, is positive: in about half of the states of a gallop."""

    def __init__(self, render_mode=None):
        super().__init__("cheetah", "run", 84 if render_mode else None)

    def is_exposed(self):
        """Whether a push can hit in the next step."""
        return bool(self._env.physics.named.data.qpos["rooty"][0] > 0)

    def step(self, action):
        """As `DMControlEnv.step`. A push is a random force in the plane of the run, up to FORCE along each axis."""
        push = self._env.physics.named.data.xfrc_applied
        if self.is_exposed() and self.task_random.random_sample() < PUSH_PROBABILITY:
            push["torso", [0, 2]] = FORCE * self.task_random.uniform(-1, 1, 2)
        result = super().step(action)
        push["torso"] = 0
        return result
