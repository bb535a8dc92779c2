"""The numbers of flight mode's clip, by a Monte Carlo that goes through the kernel itself."""

import numpy as np
import pytest

from services.darkref.combine import small_samples
from services.darkref.combine.small_samples import (
    LEAST_FOR_STD,
    MAD_CORRECTION,
    SIGMA_PER_MAD,
    VARIANCE_FACTOR,
    WIDTH,
)
from support.darkref_flight_kernel import combine, gaussian

SAMPLES = 200_000


@pytest.mark.parametrize("n", sorted(MAD_CORRECTION))
def test_the_scaled_mad_of_a_gaussian_sample_is_its_sigma(n):
    values = np.random.default_rng(n).standard_normal((SAMPLES, n))
    mad = np.median(np.abs(values - np.median(values, axis=1, keepdims=True)), axis=1)
    assert SIGMA_PER_MAD * MAD_CORRECTION[n] * mad.mean() == pytest.approx(1, abs=0.012)


@pytest.mark.parametrize("n", sorted(WIDTH))
def test_a_gaussian_sample_loses_one_per_cent_on_average(n):
    lost, _, _ = gaussian(n, SAMPLES, seed=n)
    assert 0.0095 < lost < 0.0105


@pytest.mark.parametrize("n", sorted({3, 5, 10, 12, 16, 22, 30, 50, 100} | set(VARIANCE_FACTOR)))
def test_the_error_is_the_scatter_of_the_mean(n):
    # Given N Gaussian values, some of which the clip takes
    samples = min(SAMPLES, 20_000_000 // n)
    # When
    _, variance, stated = gaussian(n, samples, seed=100 + n)
    # Then (the Monte Carlo's own error is 0.3 per cent, 0.45 at N = 200)
    assert stated == pytest.approx(variance, rel=0.02)


@pytest.mark.parametrize("n", range(3, LEAST_FOR_STD))
@pytest.mark.parametrize("outlier", [-3e4, 3e4])
def test_one_gross_outlier_is_rejected_whatever_n(n, outlier):
    # Given values of 7 DN of noise, one of which is off
    data = np.random.default_rng(n).normal(0, 7, (n, 2, 500)).astype(np.float32)
    data[:, 0] = 0
    data[n // 2, 1] += np.float32(outlier)
    # When
    ours = combine(data)
    # Then
    assert np.abs(ours.mean[1]).max() < 7 * 4


@pytest.mark.parametrize("n", [5, 6, 10, 15])
def test_a_minority_of_outliers_is_rejected(n):
    data = np.random.default_rng(n).normal(0, 7, (n, 2, 500)).astype(np.float32)
    data[:, 0] = 0
    data[: (n - 1) // 2, 1] += np.float32(2e4)
    assert np.abs(combine(data).mean[1]).max() < 7 * 5


@pytest.mark.parametrize("n", [3, 5, 10, 15])
def test_equal_whole_numbers_do_not_condemn_their_neighbours(n):
    # Given values rounded to whole DN of which most agree
    data = np.zeros((n, 2, 1), np.float32)
    data[:, 1] = 12
    data[0, 1] = 13
    # When, Then one that is a DN off stays, and one that is far off goes
    assert combine(data).kept == 2 * n
    data[0, 1] = 12 + 24.6
    ours = combine(data)
    assert ours.kept == 2 * n - 1
    assert (ours.mean[1], ours.error[1]) == (12, 0)


def test_two_values_are_never_clipped():
    data = np.zeros((2, 2, 1), np.float32)
    data[1, 1] = 1e5
    ours = combine(data)
    assert ours.mean[1] == 5e4
    assert ours.error[1] == pytest.approx(5e4)


def test_between_the_tabulated_n_the_factor_goes_on_smoothly():
    factors = small_samples.variance_factors(300)
    assert (factors[:3] == 1).all()
    assert all(factors[n] == pytest.approx(VARIANCE_FACTOR[n]) for n in VARIANCE_FACTOR)
    assert (np.diff(factors[16:]) >= 0).all()
    assert factors[300] == VARIANCE_FACTOR[200]
