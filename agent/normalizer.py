"""Running normalisation of observations."""

import numpy as np
import torch
from torch import nn

# Under the square root, as in SimBa (Lee et al. 2024, arXiv:2410.09754), Stable-Baselines3's VecNormalize and
# Gymnasium's NormalizeObservation. What moves by less than 1e-4 is taken for constant.
EPSILON = 1e-8
# In standard deviations, as in VecNormalize; the other two do not clip.
CLIP = 10.0


class ObservationNormalizer(nn.Module):
    """clip((o - mean) / sqrt(variance + EPSILON), -CLIP, CLIP), by the statistics of all observations counted so far.

    The statistics are accumulated by Welford's recurrence (Technometrics 4, 1962), on the CPU in float64: MPS has none.
    Before the first observation the normaliser only clips. After the first one, and in dimensions that never move, the
    variance is 0: the constant itself gives 0, another value almost always -CLIP or CLIP. Float32 rounds the mean, so
    outputs are off by up to 6e-8 |mean| / sqrt(variance). Standard deviations and differences above 8e37 give numbers
    within the bounds, and no more.

    Buffers, all updated in place, so that compiled code sees them:
        count (), mean (O,), m2 (O,): number, mean and sum of squared deviations from the mean, float64, on the CPU.
        shift (O,), scale (O,): mean and 1 / sqrt(variance + EPSILON) as `forward` takes them, float32, on the device.

    Args:
        obs_size: O.
        device: of the observations that are normalised.
    """

    def __init__(self, obs_size, device="cpu"):
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(obs_size, dtype=torch.float64))
        self.register_buffer("m2", torch.zeros(obs_size, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(obs_size, device=device))
        self.register_buffer("scale", torch.ones(obs_size, device=device))

    def update(self, obs):
        """Count one observation.

        Args:
            obs: (O,) array of finite float32 values.

        Raises:
            ValueError: it has another shape.
        """
        # numpy on the same memory: its operators cost less than torch's on arrays of this size.
        count, mean, m2 = self.count.numpy(), self.mean.numpy(), self.m2.numpy()
        obs = np.asarray(obs, np.float64)
        if obs.shape != mean.shape:
            raise ValueError(f"obs has shape {obs.shape} instead of {mean.shape}")
        count += 1
        deviation = obs - mean
        mean += deviation / count
        m2 += deviation * (obs - mean)
        scale = 1 / np.sqrt(m2 / count + EPSILON)
        # A subnormal number may count as 0, which times an overflow to infinity would not be a number.
        np.maximum(scale, np.finfo(np.float32).tiny, out=scale)
        self.shift.copy_(self.mean)
        self.scale.copy_(torch.from_numpy(scale))

    def forward(self, obs):
        """(..., O) -> normalised (..., O).

        Raises:
            ValueError: the last dimension has another size.
        """
        if obs.shape[-1] != len(self.shift):  # a size of 1 would be broadcast silently
            raise ValueError(f"observations have {obs.shape[-1]} numbers instead of {len(self.shift)}")
        return ((obs - self.shift) * self.scale).clamp(-CLIP, CLIP)
