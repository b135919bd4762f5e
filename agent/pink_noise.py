"""Pink exploration noise: one sequence per episode, of which each plan takes its part."""

import math

import numpy as np

BLOCK = 1000  # steps per sequence, at most; an episode of DM Control has as many


def pink_series(num_steps, num_series, rng):
    """Independent stationary Gaussian series with power 1 / f and variance 1 at each step.

    By the algorithm of Timmer and Koenig (Astronomy and Astrophysics 300, 1995): independent normal Fourier
    coefficients, transformed back. The mean of a series has the power of the lowest frequency, and counts in the
    variance. Up to that factor these are the series of the package colorednoise, which Eberhard et al. use.

    Args:
        num_steps: at least 2.
        num_series: how many.
        rng: numpy Generator.

    Returns:
        (num_steps, num_series), float32.
    """
    frequency = np.fft.rfftfreq(num_steps)  # (F,)
    frequency[0] = frequency[1]
    amplitude = frequency**-0.5
    real, imaginary = rng.standard_normal((2, num_series, len(frequency)))
    spectrum = amplitude * (real + 1j * imaginary)  # (num_series, F)
    # A real series has no imaginary part at frequency 0 and, if num_steps is even, at the highest; there is one such
    # coefficient, of all others two.
    single = [0, -1] if num_steps % 2 == 0 else [0]
    spectrum[:, single] = math.sqrt(2) * spectrum[:, single].real
    count = np.full(len(frequency), 2)
    count[single] = 1
    std = math.sqrt(2 * (count * amplitude**2).sum()) / num_steps
    return (np.fft.irfft(spectrum, num_steps) / std).T.astype(np.float32)


class PinkNoise:
    """The noise of one episode after the other (Eberhard et al. 2023, ICLR, "Pink Noise Is All You Need").

    A plan made at step t of an episode takes the numbers t..t+h-1 of the episode's sequence. So exploration is coherent
    across plans, whatever their executed lengths. Call `reset()` at the start of an episode.

    Args:
        max_episode_steps: limit of an episode, or infinity. Episodes above `BLOCK` steps get further sequences.
        chunk_size, action_size: h, A.
        rng: numpy Generator.
    """

    def __init__(self, max_episode_steps, chunk_size, action_size, rng):
        self.chunk_size, self.action_size, self.rng = chunk_size, action_size, rng
        self.num_steps = min(max_episode_steps, BLOCK) + chunk_size

    def reset(self):
        """Draw the sequence of the next episode."""
        self._values = self._draw()

    def at(self, step):
        """The noise of a plan made after so many steps of the episode, (h, A)."""
        while len(self._values) < step + self.chunk_size:
            self._values = np.concatenate([self._values, self._draw()])
        return self._values[step : step + self.chunk_size]

    def _draw(self):
        return pink_series(self.num_steps, self.action_size, self.rng)
