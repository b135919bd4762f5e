"""Means, their intervals, and the names of the intervals.

Which interval is used depends on the number of values n:

    n >= 10         95% percentile bootstrap of the statistic
    n in 2..9       episodes, pairs of branches, paired gains: 95% interval of Student's t for the mean. It assumes
                    values that are roughly normal
                    seeds of a learning curve or of a sweep: the range of the seeds. It claims no coverage
    n = 1           none: NaN here, null in JSON

Few values are never bootstrapped: the 95% percentile interval of three values is their range.
"""

import math

import numpy as np

FEW = 10  # values; fewer are not bootstrapped


def interquartile_mean(values, axis=0):
    """Mean without the lowest and the highest quarter (Agarwal et al. 2021, arXiv:2108.13264)."""
    from scipy.stats import trim_mean

    return trim_mean(values, 0.25, axis)


STATISTICS = {"mean": np.mean, "iqm": interquartile_mean}


def standard_error(values):
    """Standard error of the mean of two or more values."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def paired_difference(new, old):
    """(mean, standard error) of the differences of {pair: value} over common pairs; None for fewer than two."""
    gains = [value - old[pair] for pair, value in new.items() if pair in old]
    return (float(np.mean(gains)), standard_error(gains)) if len(gains) > 1 else None


def mean_interval(values):
    """Mean of episodes, pairs or paired gains, with a 95% interval; the same numbers for the same values.

    Args:
        values: (n,).

    Returns:
        (mean, low, high): low and high are None for one value.
    """
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return mean, None, None
    if n >= FEW:
        low, high = _around(mean, *_bootstrap(values, np.mean))
        return mean, float(low), float(high)
    from scipy.stats import t

    half = float(t.ppf(0.975, n - 1)) * standard_error(values)
    return mean, mean - half, mean + half


def mean_interval_name(n):
    """The name of the interval of `mean_interval` for n values; empty for one."""
    if n == 1:
        return ""
    return "95% bootstrap interval" if n >= FEW else "95% t interval"


def seeds_interval(values, statistic="mean"):
    """A statistic over seeds, with the range of few seeds or the 95% bootstrap interval of many.

    Args:
        values: (seeds,) or (seeds, N).
        statistic: a name in STATISTICS.

    Returns:
        (value, low, high), each () or (N,): low and high are NaN for one seed.
    """
    values = np.asarray(values, float)
    function, n = STATISTICS[statistic], len(values)
    value = function(values, axis=0)
    if n == 1:
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
    interval = _bootstrap(values, function) if n >= FEW else (values.min(0), values.max(0))
    return value, *_around(value, *interval)


def seeds_interval_name(n):
    """The name of the interval of `seeds_interval` for n seeds; empty for one."""
    if n == 1:
        return ""
    return f"95% bootstrap interval over {n} seeds" if n >= FEW else f"range of {n} seeds"


def interval_text(low, high, digits=2):
    """An interval as printed; empty where there is none."""
    return "" if low is None else f"[{low:.{digits}f}, {high:.{digits}f}]"


def error_bars(value, low, high):
    """Lengths below and above value for matplotlib, (2, N): zero where there is no interval (None or NaN)."""
    value, low, high = (np.array(part, float) for part in (value, low, high))
    return np.nan_to_num([value - low, high - value])


def summary(returns, lengths):
    """The report of some episodes.

    Args:
        returns: of each episode.
        lengths: of each episode, the executed length k of each plan.

    Returns:
        dict: mean return with `mean_interval` (null for one episode), mean k over all plans, and both per episode.
    """
    mean, low, high = mean_interval(returns)
    return {
        "return": mean,
        "return_low": low,
        "return_high": high,
        "k": float(np.mean(np.concatenate(lengths))),
        "returns": returns,
        "ks": [float(np.mean(k)) for k in lengths],
    }


def _around(value, low, high):
    """(low, high) without the rounding that leaves value outside, as where all values are equal."""
    return np.minimum(low, value), np.maximum(high, value)


def _bootstrap(values, function):
    """(low, high) over axis 0, always with the same resamples."""
    from scipy.stats import bootstrap

    rng = np.random.default_rng(0)
    # In batches: all resamples of thousands of values at once would take gigabytes.
    result = bootstrap((values,), function, axis=0, vectorized=True, method="percentile", batch=100, rng=rng)
    return result.confidence_interval
