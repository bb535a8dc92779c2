"""Variance of pixels against numpy's, in both precisions."""

import numpy as np
import pytest

from shared.statistics.welford import PixelVariance


@pytest.mark.parametrize(("dtype", "precision"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_variance_is_that_of_numpy_over_the_values_that_were_used(dtype, precision):
    # Given planes on a level of their own, and pixels that miss some of them
    rng = np.random.default_rng(1)
    values = rng.normal(3.0, 2.0, (12, 5, 8)).astype(np.float32)
    use = rng.random(values.shape) < 0.7
    variance = PixelVariance((5, 8), dtype)
    for plane, used in zip(values, use, strict=True):
        variance.add(plane, used)
    # Then count and variance are those of the values that are left
    masked = np.ma.array(values.astype(float), mask=~use)
    assert np.array_equal(variance.count, use.sum(axis=0))
    wanted = masked.var(axis=0, ddof=1).filled(np.nan)
    np.testing.assert_allclose(variance.variance(), wanted, rtol=precision)
    np.testing.assert_allclose(variance.variance(slice(1, 3)), wanted[1:3], rtol=precision)


def test_columns_and_centre_choose_what_is_added():
    variance = PixelVariance((2, 4))
    everywhere = np.ones((2, 4), bool)
    for value in (10.0, 12.0, 17.0):
        variance.add(np.full((2, 4), value), everywhere, slice(0, 2), centre=value - 1.0)
        variance.add(np.full((2, 4), value), everywhere, slice(2, 4))
    assert variance.variance()[:, :2] == pytest.approx(0.0)
    assert variance.variance()[:, 2:] == pytest.approx(np.var([10.0, 12.0, 17.0], ddof=1))


def test_noise_of_a_hot_pixel_is_not_lost_in_its_level():
    variance = PixelVariance((1,))
    for value in 1e9 + np.array([1.0, 2.0, 3.0]):
        variance.add(np.array([value]), np.array([True]))
    assert variance.variance() == pytest.approx(1.0)


def test_fewer_than_two_values_have_no_variance():
    variance = PixelVariance((2,))
    variance.add(np.array([1.0, 2.0]), np.array([True, False]))
    assert np.isnan(variance.variance()).all()
