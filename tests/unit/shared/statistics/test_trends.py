"""Whether a series is steady: drift, outliers and their errors, against closed forms and drawn series."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from shared.statistics.trends import (
    DRIFT_SIGMA,
    OUTLIER_SIGMA,
    SeriesPoint,
    StabilityState,
    assess_series,
    chance_of,
    drift,
    linear_trend,
    outlier_sigmas,
)

START = 59700.0


def points(times, values, errors=None, weights=None):
    errors = [None] * len(times) if errors is None else errors
    weights = [1.0] * len(times) if weights is None else weights
    return [
        SeriesPoint(name=f"jw{n:02d}", mjd=t, value=v, error=e, weight=w)
        for n, (t, v, e, w) in enumerate(zip(times, values, errors, weights, strict=True))
    ]


def drawn(seed, n=12, slope=0.0, factor=1.0):
    """A series over 20 days of points of unequal errors, which scatter by `factor` times what these say."""
    random = np.random.default_rng(seed)
    times = START + np.sort(random.uniform(0, 20, n))
    errors = random.uniform(0.5, 1.5, n)
    return times, 27 + slope * (times - START) + factor * errors * random.normal(size=n), errors


def test_trend_is_the_least_squares_line_with_its_error():
    rng = np.random.default_rng(1)
    times = 59680 + np.sort(rng.uniform(0, 1, 30))
    values = 3 + 7 * (times - 59680) + rng.normal(0, 0.4, 30)
    # Given an independent fit
    best, covariance = optimize.curve_fit(lambda t, a, b: a + b * (t - 59680.5), times, values)
    trend = linear_trend(times, values)
    assert trend.slope == pytest.approx(best[1], rel=1e-6)
    assert trend.slope_error == pytest.approx(math.sqrt(covariance[1, 1]), rel=1e-4)
    assert trend.scatter == pytest.approx(0.4, rel=0.3)


def test_trend_leaves_out_what_is_missing_and_needs_three_points():
    assert linear_trend([0, 1, 2, 3], [0, 2, math.nan, 6]).slope == pytest.approx(2)
    assert linear_trend([0, 1, 2], [0, 2, math.nan]) is None
    assert linear_trend([1, 1, 1], [0, 2, 3]) is None


def test_the_line_is_the_weighted_least_squares_line_with_its_error():
    # Given a series and an independent fit
    times, values, errors = drawn(1, 25, slope=0.4, factor=2.0)
    best, covariance = optimize.curve_fit(
        lambda t, a, b: a + b * (t - START), times, values, sigma=errors, absolute_sigma=False
    )
    # When
    line = drift(times, values, errors, stated=True)
    # Then slope and level agree, and the error is the scatter's with Student's factor
    student = stats.t.ppf(stats.norm.cdf(1), 23)
    assert line.per_day == pytest.approx(best[1], rel=1e-6)
    assert line.level == pytest.approx(best[0] + best[1] * (line.mjd - START), rel=1e-6)
    assert line.per_day_error == pytest.approx(math.sqrt(covariance[1, 1]) * student, rel=1e-5)
    assert line.reduced_chi2 > 1


def test_significance_is_that_of_student_where_errors_are_not_stated():
    times, values, _ = drawn(2, 6, slope=0.5)
    line = drift(times, values, np.ones(6), stated=False)
    known = stats.linregress(times - START, values)
    assert chance_of(line.sigma) == pytest.approx(known.pvalue, rel=1e-6)
    assert line.reduced_chi2 is None


def test_stated_errors_that_are_larger_than_the_scatter_count():
    times, values = START + np.arange(5.0), 27 + 0.1 * np.arange(5.0)
    line = drift(times, values, np.full(5, 1.0), stated=True)
    by_errors = 1 / math.sqrt(10)
    assert line.per_day_error == pytest.approx(by_errors)
    assert line.sigma == pytest.approx(0.1 / by_errors)


@pytest.mark.parametrize("factor", [1.0, 3.0])
@pytest.mark.parametrize("stated", [True, False])
def test_the_errors_of_a_drift_are_what_they_say(factor, stated):
    # Given 500 series that drift, whose errors are right, or three times too small
    pulls = []
    for seed in range(500):
        times, values, errors = drawn(seed, 20, slope=0.3, factor=factor)
        line = drift(times, values, errors, stated)
        pulls.append((line.per_day - 0.3) / line.per_day_error)
    # Then the truth lies within one sigma as often as it should, to the noise of 500 series
    assert abs(np.mean(pulls)) < 0.15
    assert 0.85 < np.std(pulls) < 1.1
    assert 0.62 < np.mean(np.abs(pulls) < 1) < 0.78


@pytest.mark.parametrize("n", [5, 20])
@pytest.mark.parametrize("stated", [True, False])
def test_a_steady_series_is_seldom_called_anything_else(n, stated):
    # Given 500 steady series of which the errors are right, or where nobody says them
    drifts = outliers = 0
    for seed in range(500):
        times, values, errors = drawn(1000 + seed, n)
        if not stated:
            values = 27 + (values - 27) / errors
        test = assess_series(points(times, values, errors if stated else None), "e-")
        drifts += test.state == StabilityState.DRIFTS
        outliers += bool(test.outliers)
    # Then no more false alarms at 3 sigma than 500 * 0.0027 make likely (1 in 10000 draws has more)
    assert drifts <= stats.binom.isf(1e-4, 500, chance_of(DRIFT_SIGMA))
    assert outliers <= 500 * 0.02


def test_a_planted_drift_is_found_with_its_numbers():
    random = np.random.default_rng(3)
    times = START + np.arange(12.0)
    values = 27 + 0.31 * np.arange(12.0) + random.normal(0, 0.5, 12)
    test = assess_series(points(times, values, [0.5] * 12), "e-/1000 s")
    assert test.state == StabilityState.DRIFTS
    assert test.drift.per_day == pytest.approx(0.31, abs=3 * test.drift.per_day_error)
    assert (test.points, test.span_days) == (12, 11.0)


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("slope", [0.0, 2.0])
def test_planted_outliers_are_named_and_do_not_make_a_drift(stated, slope):
    # Given a series in which the last two points are 15 sigma off, to one side
    random = np.random.default_rng(4)
    times = START + np.arange(20.0)
    values = 13.25 + slope * np.arange(20.0) + random.normal(0, 1, 20)
    values[-2:] += 15
    # When
    test = assess_series(points(times, values, [1.0] * 20 if stated else None), "e-", matters=4.0)
    # Then
    assert [outlier.name for outlier in test.outliers] == ["jw18", "jw19"]
    assert all(each.sigma > OUTLIER_SIGMA for each in test.outliers)
    assert test.drift.per_day == pytest.approx(slope, abs=0.15)
    assert test.state == (StabilityState.DRIFTS if slope else StabilityState.STEADY)


@pytest.mark.parametrize("n", [4, 12])
@pytest.mark.parametrize("stated", [True, False])
def test_a_drift_as_large_as_could_be_seen_is_seen_half_of_the_time(n, stated):
    # Given steady series of 12 minutes, and what each says it could have seen
    found = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        times = START + np.linspace(0, 0.2 / 24, n)
        values = 27 + random.normal(0, 5, n)
        errors = [5.0] * n if stated else None
        test = assess_series(points(times, values, errors), "e-/ks")
        # When they drift by that much
        drifting = values + test.drift.visible_per_day * (times - START)
        found += assess_series(points(times, drifting, errors), "e-/ks").state is StabilityState.DRIFTS
    # Then half of them are called so
    assert 0.38 < found / 300 < 0.62


def test_a_series_that_could_not_have_shown_a_drift_is_never_steady():
    # Given six rates in 12 minutes, of 5 e-/ks each: a slope of +- 30 e-/ks an hour
    times = START + np.linspace(0, 0.2 / 24, 6)
    values = 27 + np.array([2.0, -3.0, 4.0, -5.0, 1.0, 1.0])
    test = assess_series(points(times, values, [5.0] * 6), "e-/ks", matters=5.0)
    # Then the series says what could have been seen, and that it is more than matters
    assert test.state is StabilityState.NOT_ENOUGH
    by_errors = 5 / math.sqrt(float(np.sum((times - times.mean()) ** 2)))
    assert test.drift.visible_per_day >= 3 * by_errors
    assert test.visible_change == pytest.approx(test.drift.visible_per_day * 0.2 / 24)
    assert test.visible_change > 15 > test.matters == 5
    # While in a longer series the same points are steady, where a change by 30 is all that matters
    assert assess_series(points(times, values, [5.0] * 6), "e-/ks", 40.0).state is StabilityState.STEADY
    # And a relative change by a tenth always matters
    level = assess_series(points(times, values + 1e4, [5.0] * 6), "e-/ks", 5.0)
    assert (level.state, level.matters) == (StabilityState.STEADY, pytest.approx(1002.7, abs=3))


def test_an_exposure_lit_by_a_lamp_is_an_outlier():
    # Given eight exposures with the errors that 1/f noise gives them, one of which saw a lamp
    values = np.array([-24.0, 31.0, 68.0, 9933.0, 12.0, 55.0, -5.0, 20.0])
    errors = [30.0, 30.0, 30.0, 58.0, 30.0, 30.0, 30.0, 30.0]
    test = assess_series(points(START + np.arange(8) / 100, values, errors), "e-/ks", 5.0)
    assert [outlier.name for outlier in test.outliers] == ["jw03"]
    assert abs(test.drift.level) < 100


def test_few_points_that_bear_their_errors_out_show_an_outlier():
    # Given six points that scatter by less than their errors, where Student's t alone could say nothing
    values = np.array([13.0, 13.1, 12.9, 14.5, 13.05, 12.95])
    [outlier] = assess_series(points(START + np.arange(6), values, [0.2] * 6), "e-").outliers
    assert outlier.name == "jw03"
    assert not assess_series(points(START + np.arange(6), values), "e-").outliers


def test_a_point_that_is_off_by_less_than_its_own_error_is_none():
    values = 13 + 0.001 * np.array([1, -1, 1, -1, 1, -1, 1, -1, 30])
    assert not assess_series(points(START + np.arange(9), values, [0.1] * 9), "e-").outliers


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_points_are_not_enough_data(n):
    test = assess_series(points(START + np.arange(n), np.ones(n)), "e-")
    assert (test.state, test.drift) == (StabilityState.NOT_ENOUGH, None)
    assert test.points == n


def test_points_at_one_time_say_nothing_of_a_drift():
    test = assess_series(points([START] * 4, [1.0, 2.0, 3.0, 4.0]), "e-")
    assert (test.state, test.points, test.span_days) == (StabilityState.NOT_ENOUGH, 4, 0.0)


def test_what_has_no_value_is_left_out():
    values = [27.0, math.nan, 28.0, math.inf, 27.5]
    test = assess_series(points(START + np.arange(5), values), "e-")
    assert test.points == 3


def test_one_missing_error_makes_weights_count():
    # Given points of very different weight, one without an error
    times, values = START + np.arange(4.0), np.array([27.0, 27.1, 27.2, 50.0])
    weights = [100.0, 100.0, 100.0, 1e-6]
    test = assess_series(points(times, values, [0.1, 0.1, 0.1, None], weights), "e-")
    assert test.drift.per_day == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize(("span", "unit"), [(0.1, "an hour"), (30.0, "a day"), (1000.0, "a year")])
def test_a_slope_is_given_in_a_unit_that_the_data_span(span, unit):
    times = START + np.linspace(0, span, 6)
    assert f" {unit} " in assess_series(points(times, [1.0, 1.2, 0.9, 1.1, 1.0, 1.05]), "e-").verdict


def test_values_without_any_scatter_are_steady():
    test = assess_series(points(START + np.arange(10.0), [13.25] * 10), "e-")
    assert (test.state, test.outliers) == (StabilityState.STEADY, [])
    assert test.drift.sigma == 0


def test_a_line_without_scatter_is_as_sure_as_numbers_can_say():
    test = assess_series(points(START + np.arange(10.0), np.arange(10.0)), "e-")
    assert test.state == StabilityState.DRIFTS
    assert math.isfinite(test.drift.sigma)


def test_a_long_series_takes_the_robust_line_from_a_part_of_it():
    random = np.random.default_rng(5)
    times = START + np.arange(2500) * 0.1
    values = 27 + random.normal(0, 1, 2500)
    values[777] += 12
    sigmas = outlier_sigmas(times, values, np.ones(2500), stated=True)
    assert np.argmax(sigmas) == 777
    assert sigmas[777] > 9


series = st.integers(5, 14).flatmap(
    lambda n: st.tuples(
        # Whole hours, none twice: the times of a real series do not agree to the last digit either.
        st.lists(st.integers(0, 2400), min_size=n, max_size=n, unique=True),
        st.lists(st.floats(-100, 100).map(lambda v: round(v, 3)), min_size=n, max_size=n),
        st.lists(st.floats(0.1, 3).map(lambda v: round(v, 3)), min_size=n, max_size=n),
    )
)


@settings(max_examples=60, deadline=None)
@given(series, st.integers(-5000, 5000), st.booleans())
def test_the_origin_of_time_does_not_count(drawn_series, days, stated):
    hours, values, errors = drawn_series
    times, errors = START + np.array(hours) / 24, np.array(errors)
    here, there = drift(times, values, errors, stated), drift(times + days, values, errors, stated)
    scale = max(np.abs(values)) + 1
    assert there.per_day == pytest.approx(here.per_day, rel=1e-6, abs=1e-7 * scale)
    assert there.per_day_error == pytest.approx(here.per_day_error, rel=1e-6, abs=1e-7 * scale)
    assert there.mjd - days == pytest.approx(here.mjd, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(series, st.sampled_from([1e-3, 0.5, 1024.0, -1.0]), st.booleans())
def test_the_unit_does_not_count(drawn_series, factor, stated):
    hours, values, errors = drawn_series
    times = START + np.array(hours) / 24
    values, errors = np.array(values), np.array(errors)
    here = drift(times, values, errors, stated)
    there = drift(times, values * factor, errors * abs(factor), stated)
    assert there.per_day == pytest.approx(here.per_day * factor, rel=1e-6, abs=1e-9 * abs(factor))
    assert there.per_day_error == pytest.approx(here.per_day_error * abs(factor), rel=1e-6)
    assert there.sigma == pytest.approx(here.sigma, rel=1e-4, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(series, st.randoms(use_true_random=False))
def test_the_order_of_the_points_does_not_count(drawn_series, random):
    hours, values, errors = drawn_series
    ordered = points(START + np.array(hours) / 24, values, errors)
    mixed = list(ordered)
    random.shuffle(mixed)
    assert assess_series(mixed, "e-") == assess_series(ordered, "e-")


def test_an_outlier_does_not_hide_behind_its_own_error():
    # Given a lamp in one exposure of eight, with a stated error 200 times that of the others
    values = [21.0, -24.0, 35.0, 9933.0, 68.0, 12.0, 44.0, 3.0]
    errors = [0.25] * 8
    errors[3] = 58.0
    test = assess_series(points(START + 0.01 * np.arange(8), values, errors), "e-/ks")
    # Then it is named, and the line is that of the others
    assert [outlier.name for outlier in test.outliers] == ["jw03"]
    assert -24 < test.drift.level < 68
