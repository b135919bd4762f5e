"""Intervals against arithmetic."""

import json
import math

import numpy as np
import pytest

from analysis import statistics
from analysis.statistics import FEW, mean_interval, seeds_interval, summary


def test_few_values_have_the_interval_of_student():
    mean, low, high = mean_interval([416.0, 476.0, 397.0])
    half = 4.302653 * np.std([416, 476, 397], ddof=1) / math.sqrt(3)  # t table, 2 degrees of freedom
    assert mean == pytest.approx(429.6667) and (low, high) == (pytest.approx(mean - half), pytest.approx(mean + half))
    assert low < 397 and high > 476  # not the range of the values


def test_t_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside = [low < 0 < high for _, low, high in (mean_interval(rng.normal(size=3)) for _ in range(2000))]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


def test_many_values_are_bootstrapped():
    values = np.arange(20.0)
    mean, low, high = mean_interval(values)
    error = 1.96 * values.std() / math.sqrt(20)
    assert mean == 9.5 and low == pytest.approx(9.5 - error, abs=0.15) and high == pytest.approx(9.5 + error, abs=0.15)
    assert mean_interval(values) == (mean, low, high)


def test_equal_values_have_an_interval_of_no_width():
    for n in (2, FEW):
        assert mean_interval([3.0] * n) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("value, n", [(492.49496360785895, 20), (0.1, 3)])
def test_no_error_bar_of_equal_values_is_negative(value, n):
    """Rounded, the mean of 3 times 0.1 is more than 0.1, and means of resamples differ from that of the values."""
    for interval in (mean_interval([value] * n), seeds_interval([value] * n), seeds_interval([[value]] * n)):
        assert (statistics.error_bars(*interval) >= 0).all()


def test_one_value_has_no_interval():
    assert mean_interval([104.65]) == (104.65, None, None)
    assert json.loads(json.dumps(summary([104.65], [[1, 3]]), allow_nan=False)) == {
        "return": 104.65, "return_low": None, "return_high": None, "k": 2, "returns": [104.65], "ks": [2]
    }  # fmt: skip
    assert statistics.interval_text(None, None) == "" and statistics.interval_text(1, 2) == "[1.00, 2.00]"


def test_few_seeds_have_their_range():
    value, low, high = seeds_interval([[1.0, 10.0], [2.0, 40.0], [6.0, 10.0]])
    assert (value.tolist(), low.tolist(), high.tolist()) == ([3, 20], [1, 10], [6, 40])
    value, low, high = seeds_interval([[1.0, 5.0]])
    assert value.tolist() == [1, 5] and np.isnan([low, high]).all()


def test_many_seeds_are_bootstrapped():
    values = np.random.default_rng(0).normal(size=(FEW, 2))
    value, low, high = seeds_interval(values, "iqm")
    assert (values.min(0) < low).all() and (low < value).all() and (value < high).all() and (high < values.max(0)).all()
    assert value == pytest.approx(statistics.interquartile_mean(values))


def test_names_of_intervals():
    names = [statistics.mean_interval_name(n) for n in (1, 9, 10)]
    assert names == ["", "95% t interval", "95% bootstrap interval"]
    names = [statistics.seeds_interval_name(n) for n in (1, 3, 10)]
    assert names == ["", "range of 3 seeds", "95% bootstrap interval over 10 seeds"]


def test_error_bars_of_what_has_none_are_zero():
    assert statistics.error_bars([5, 7], [4, None], [7, None]).tolist() == [[1, 0], [2, 0]]
