"""Ages of replayed rows whose weight fades: max(FADE^age, FLOOR)."""

import math

import numpy as np

FADE, FLOOR = 0.9999, 0.1


class FadingAges:
    """Draws ages 0, 1, ... with probability proportional to max(FADE^age, FLOOR), by the inverse of their sum."""

    def __init__(self):
        num_fading = math.ceil(math.log(FLOOR) / math.log(FADE))  # from this age on the weight is FLOOR
        self._sums = np.cumsum(FADE ** np.arange(num_fading))  # sums[a] = weights of the ages 0..a

    def draw(self, rng, size, count):
        """count ages below size, (count,) int64; rng is a numpy Generator."""
        sums = self._sums[:size]
        floored = max(0, size - len(sums))
        mass = rng.random(count) * (sums[-1] + FLOOR * floored)
        in_tail = len(sums) + ((mass - sums[-1]) / FLOOR).astype(np.int64)
        ages = np.where(mass < sums[-1], sums.searchsorted(mass, side="right"), in_tail)
        return np.minimum(ages, size - 1)  # rounding may reach size
