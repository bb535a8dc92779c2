"""What moves a median of sample variances, against drawn pixels; and its error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from services.noise.median_bias import cut_tail_shift, hit_shift, median_variance_error, scatter_shift

PIXELS = 200_000


def shift(variances, count):
    """Relative distance of the median from that of alike pixels of variance 1."""
    return np.median(variances) / (stats.chi2.median(count - 1) / (count - 1)) - 1


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
    found = np.median((values + charge * hit).var(axis=1, ddof=1)) / whole - 1
    moved = hit_shift(count, np.array([charge, 0.0]), np.array([0.004, 0.1]))
    assert found == pytest.approx(moved, rel=0.12)
