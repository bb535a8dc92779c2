"""Robust sigma against astropy; what biases a median of sample variances, against drawn pixels."""

import math

import numpy as np
import pytest
from astropy.stats import mad_std
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from shared.statistics.medians import Workspace
from shared.statistics.robust import (
    DITHER_VARIANCE,
    MAD_ERROR,
    MEDIAN_ERROR,
    come_in_steps,
    cut_tail_shift,
    dither,
    hit_shift,
    median_and_sigma,
    median_deviation,
    median_variance_error,
    robust_sigma,
    scatter_shift,
    variance_median_factor,
)

PIXELS = 200_000


def shift(variances, count):
    """Relative distance of the median from that of alike pixels of variance 1."""
    return np.median(variances) / (stats.chi2.median(count - 1) / (count - 1)) - 1


@given(size=st.integers(1, 60_000), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_sigma_is_that_of_astropy(size, seed):
    # Given values of which some are unknown
    rng = np.random.default_rng(seed)
    values = rng.normal(3, 2, size)
    values[1:][rng.random(size - 1) < 0.1] = np.nan
    # Then median and sigma are those of numpy and astropy
    centre, sigma = median_and_sigma(values)
    assert centre == pytest.approx(np.nanmedian(values), rel=1e-12)
    assert sigma == pytest.approx(mad_std(values, ignore_nan=True), rel=1e-12)


@given(st.floats(-100, 100), st.floats(0.1, 50), st.floats(0, 0.05))
def test_median_and_sigma_follow_the_bulk_and_not_the_outliers(centre, width, hot):
    values = np.random.default_rng(3).normal(centre, width, 20_000)
    # Outliers to one side move a median by the normal distribution's own quantiles, and no further.
    values[: int(hot * values.size)] = centre + 1000 * width
    middle, sigma = median_and_sigma(values)
    assert middle == pytest.approx(centre + width * stats.norm.ppf(0.5 / (1 - hot)), abs=0.06 * width)
    assert sigma == pytest.approx(width, rel=0.06 + 1.5 * hot)


@pytest.mark.parametrize("centre", [0.0, 2.5])
def test_sigma_about_a_given_centre_counts_the_offset_as_noise(centre):
    values = np.random.default_rng(4).normal(1.0, 2.0, 10_001)
    about = np.concatenate([values, 2 * centre - values])
    assert robust_sigma(values, centre) == pytest.approx(mad_std(about), rel=1e-12)


def test_sigma_in_single_precision_is_that_of_numpys_single_precision():
    values = np.random.default_rng(5).normal(0, 3, 6_000).astype(np.float32)
    centre, sigma = median_and_sigma(values, dtype=np.float32)
    assert centre == np.median(values)
    assert sigma == pytest.approx(
        1.482602218505602 * np.median(np.abs(values - np.median(values))), rel=1e-15
    )
    assert median_deviation(values, 0.0, dtype=np.float32) == np.median(np.abs(values))


@pytest.mark.parametrize("size", [0, 1, 7, 5_000, 50_000])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_median_and_sigma_of_no_values_are_nan(size, dtype):
    values = np.full(size, np.nan, dtype)
    assert all(math.isnan(figure) for figure in median_and_sigma(values))
    if size:
        # A single value is the median, and has no width
        values[size // 2] = 4.5
        assert median_and_sigma(values) == (4.5, 0.0)


def test_errors_of_median_and_sigma_are_their_scatter_over_samples():
    samples = np.random.default_rng(6).normal(size=(2_000, 401))
    centres, sigmas = np.array([median_and_sigma(sample) for sample in samples]).T
    assert centres.std() * math.sqrt(401) == pytest.approx(MEDIAN_ERROR, rel=0.05)
    assert sigmas.std() * math.sqrt(401) == pytest.approx(MAD_ERROR, rel=0.05)


@settings(max_examples=15, deadline=None)
@given(count=st.integers(2, 500))
def test_median_of_a_sample_variance_is_scipys(count):
    factors = variance_median_factor(np.array([0, 1, count]))
    assert factors[2] == pytest.approx(stats.chi2.median(count - 1) / (count - 1))
    assert np.isnan(factors[:2]).all()


@settings(max_examples=15, deadline=None)
@given(count=st.integers(2, 40))
def test_error_of_a_median_of_variances_is_scipys(count):
    # 1 / (2 f) at the median, over the median
    middle = stats.chi2.median(count - 1)
    assert median_variance_error(count) == pytest.approx(1 / (2 * stats.chi2.pdf(middle, count - 1) * middle))


@pytest.mark.parametrize("count", [2, 3, 10])
def test_error_of_a_median_of_variances_is_its_scatter(count):
    rng = np.random.default_rng(count)
    medians = np.median(rng.normal(size=(400, 301, count)).var(axis=2, ddof=1), axis=1)
    relative = medians.std() / np.median(medians)
    assert median_variance_error(count) / np.sqrt(301) == pytest.approx(relative, rel=0.12)


@pytest.mark.parametrize("count", [5, 50])
def test_pixels_that_are_not_alike_move_the_median_down(count):
    # Given pixels whose noise scatters by 12 %, with a typical variance of 1
    rng = np.random.default_rng(count)
    own = np.exp(0.24 * rng.standard_normal(PIXELS))
    variances = own * rng.chisquare(count - 1, PIXELS) / (count - 1)
    # Then the shift is found from the variances alone
    error = median_variance_error(count) / np.sqrt(PIXELS)
    moved = scatter_shift(variances.astype(np.float32), count)
    assert moved > 0.003
    assert shift(variances, count) == pytest.approx(-moved, abs=3 * error)


def test_pixels_that_are_alike_or_have_no_noise_move_nothing():
    rng = np.random.default_rng(1)
    variances = rng.chisquare(9, PIXELS).astype(np.float32)
    assert scatter_shift(variances, 10) == pytest.approx(0, abs=5e-4)
    assert scatter_shift(np.zeros(5000, np.float32), 10) == 0


@pytest.mark.parametrize("count", [10, 30])
def test_noise_that_was_taken_for_jumps_moves_the_median_down(count):
    # Given values of which those beyond 3.3 sigma, a thousandth, are left out
    rng = np.random.default_rng(count)
    values = rng.standard_normal((PIXELS, count), dtype=np.float32)
    cut = np.where(np.abs(values) < 3.3, values, np.nan)
    left = np.isfinite(cut).sum(axis=1)
    factors = stats.chi2.median(np.arange(1, count)) / np.arange(1, count)
    variances = np.nanvar(cut, axis=1, ddof=1) / factors[left - 2]
    whole = np.median(values.var(axis=1, ddof=1)) / factors[-1]
    # Then the closed form knows by what
    fraction = 2 * special.ndtr(-3.3)
    moved = cut_tail_shift(count, fraction)
    assert moved > 2e-3
    assert np.median(variances) / whole - 1 == pytest.approx(-moved, rel=0.3)
    assert cut_tail_shift(count, 0.0) == 0


@pytest.mark.parametrize(("count", "charge"), [(5, 2.0), (5, 30.0), (30, 2.0)])
def test_unflagged_hits_move_the_median_up(count, charge):
    # Given values of which 0.4 % are hit
    rng = np.random.default_rng(count)
    values = rng.standard_normal((PIXELS, count), dtype=np.float32)
    hit = rng.random(values.shape) < 0.004
    whole = np.median(values.var(axis=1, ddof=1))
    # Then the closed form knows by what
    result = np.median((values + charge * hit).var(axis=1, ddof=1)) / whole - 1
    moved = hit_shift(count, np.array([charge, 0.0]), np.array([0.004, 0.1]))
    assert result == pytest.approx(moved, rel=0.12)


def test_values_in_steps_are_recognised_and_dithered_to_their_own_spread():
    # Given multiples of 0.3 on an offset that all share, some missing
    rng = np.random.default_rng(3)
    values = (0.3 * np.rint(rng.normal(0, 1.2, 200_000)) + 17.11).astype(np.float32)
    values[::50] = np.nan
    assert come_in_steps(values, 0.3)
    assert not come_in_steps(values, 0.7)
    assert not come_in_steps(rng.normal(0, 1.2, 10_000), 0.3)
    assert not come_in_steps(np.full(10, np.nan), 0.3)
    # When they are dithered
    known = values[np.isfinite(values)]
    centre, sigma = median_and_sigma(dither(known, 0.3, Workspace()))
    # Then median and sigma are those of the values, and of what was added, and no multiple of it
    wanted = math.sqrt(float(known.astype(float).var()) + DITHER_VARIANCE * 0.3**2)
    assert sigma == pytest.approx(wanted, rel=0.01)
    assert centre == pytest.approx(float(known.astype(float).mean()), abs=0.005)


@pytest.mark.parametrize("sigma", [1.5, 1.8, 2.25, 2.4, 3.0])
def test_sigma_of_rounded_values_is_theirs_wherever_the_median_deviation_falls(sigma):
    values = np.rint(np.random.default_rng(4).normal(0.3, sigma, 1_000_000)).astype(np.float32)
    _, dithered = median_and_sigma(dither(values, 1.0, Workspace()))
    assert dithered**2 - DITHER_VARIANCE == pytest.approx(sigma**2 + 1 / 12, rel=0.008)
