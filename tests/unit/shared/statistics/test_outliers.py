"""Values that stand apart from a small sample, against Grubbs' closed form and drawn samples."""

import numpy as np
import pytest
from scipy import stats

from shared.statistics.outliers import FALSE_ALARM, extreme_values


@pytest.mark.parametrize("count", [5, 8, 20])
def test_of_one_value_it_is_grubbs_test(count):
    # Given samples whose farthest value lies just inside and just outside of the critical value of Grubbs
    t = stats.t.isf(FALSE_ALARM / (2 * count), count - 2)
    critical = (count - 1) / np.sqrt(count) * np.sqrt(t**2 / (count - 2 + t**2))
    values = np.random.default_rng(count).normal(size=count)

    def grubbs(away):
        sample = values.copy()
        sample[0] = values[1:].mean() + away
        return abs(sample[0] - sample.mean()) / sample.std(ddof=1), sample

    outcomes = set()
    for away in np.geomspace(0.1, 1000, 200) * values[1:].std(ddof=1):
        ratio, sample = grubbs(away)
        assert (0 in extreme_values(sample)) == (ratio > critical)
        outcomes.add(ratio > critical)
    assert outcomes == {True, False}


def test_good_sets_are_left_as_they_are():
    # Given 3000 Gaussian sets of eight; FALSE_ALARM is 0.001, of which chance makes 13 at most
    random = np.random.default_rng(5)
    apart = sum(bool(extreme_values(random.normal(size=8))) for _ in range(3000))
    assert apart <= 13


def test_two_accidents_do_not_hide_each_other():
    values = np.random.default_rng(4).normal(size=10)
    values[[2, 7]] = 300.0, 310.0
    assert set(extreme_values(values)) == {2, 7}


def test_a_floor_keeps_values_that_agree_by_chance_from_condemning_the_last():
    values = np.array([1.0, 1.001, 0.999, 1.0005, 1.2])
    assert extreme_values(values) == [4]
    assert extreme_values(values, floor=0.05) == []


def test_of_four_values_nothing_can_be_told():
    assert extreme_values(np.array([1.0, 2.0, 3.0, 1e6])) == []
