"""The combine kernel against astropy's sigma_clip, and the hits against jwst_reffiles' own maps."""

import warnings

import numpy as np
import pytest
from astropy.stats import sigma_clip
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jwst_reffiles.utils import dq_flags

from services.darkref.combine import drop_after_hit, sigma_clipped_mean
from services.darkref.modes import combiner
from shared.errors import PermanentError


def _astropy(samples, sigma=3.0):
    """Mean, population std and number kept, in float64, and the last bounds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clipped, low, high = sigma_clip(
            samples.astype(np.float64), sigma=sigma, axis=0, masked=False, return_bounds=True
        )
        mean, std = np.nanmean(clipped, axis=0), np.nanstd(clipped, axis=0)
    return np.nan_to_num(mean), np.nan_to_num(std), np.isfinite(clipped).sum(axis=0), low, high


def _assert_as_astropy(samples, sigma=3.0):
    mean, std, kept, _, _ = _astropy(samples, sigma)
    ours = sigma_clipped_mean(samples, sigma)
    valid = samples[np.isfinite(samples)]
    scale = np.abs(valid).max() if valid.size else 0.0
    np.testing.assert_array_equal(ours.kept, kept)
    np.testing.assert_array_equal(ours.used, np.isfinite(samples).sum(axis=0))
    # Our results are rounded once, to float32; the mean of values that cancel is exact to float64.
    np.testing.assert_allclose(ours.mean, mean, rtol=1e-6, atol=1e-13 * scale)
    np.testing.assert_allclose(ours.std, std, rtol=1e-6, atol=1e-7 * np.sqrt(scale) * 1e-3 + 1e-12 * scale)


@pytest.mark.parametrize("n", [*range(1, 34), 47, 60, 64, 65, 200])
def test_equals_astropy_for_every_number_of_integrations(n):
    # Given noise with outliers, hits and a pixel without any value
    rng = np.random.default_rng(n)
    samples = rng.normal(10, 5, (n, 2, 9, 11)).astype(np.float32)
    samples[rng.random(samples.shape) < 0.08] += 200
    samples[rng.random(samples.shape) < 0.05] -= 60
    samples[rng.random(samples.shape) < 0.1] = np.nan
    samples[rng.random(samples.shape) < 0.01] = np.inf
    samples[:, 1, 3, 4] = np.nan
    # When, Then
    _assert_as_astropy(samples)


# A few values of which many are equal (ties, constants), and any float32 that a detector could give.
_few = st.sampled_from([0.0, -0.0, 1.0, 1.5, -7.25, 100.0, 65535.0, 1e-3, np.nan, np.inf, -np.inf])
_any = st.floats(-1e5, 1e5, width=32)


@settings(max_examples=250, deadline=None)
@given(
    st.integers(1, 60).flatmap(lambda n: hnp.arrays(np.float32, (n, 1, 1, 5), elements=st.one_of(_few, _any)))
)
def test_equals_astropy_for_any_values(samples):
    # Given values none of which lies on a bound to the last bit (order of summation decides there)
    low, high = _astropy(samples)[3:]
    with np.errstate(invalid="ignore"):
        finite = np.where(np.isfinite(samples), samples, np.nan).astype(np.float64)
        margin = 1e-9 * (1 + np.abs(finite) + np.abs(low) + np.abs(high))
        on_bound = (np.minimum(np.abs(finite - low), np.abs(finite - high)) < margin) & (low != high)
    assume(not on_bound.any())
    # When, Then
    _assert_as_astropy(samples)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(-1e5, 1e5, width=32))
def test_a_constant_has_its_own_mean_and_no_scatter(n, value):
    ours = sigma_clipped_mean(np.full((n, 1, 1, 3), value, np.float32))
    np.testing.assert_array_equal(ours.mean, np.float32(value))
    np.testing.assert_array_equal(ours.std, 0)
    assert (ours.kept == n).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.randoms(use_true_random=False))
def test_the_order_of_exposures_does_not_matter(n, random):
    rng = np.random.default_rng(random.getrandbits(32))
    samples = rng.normal(0, 5, (n, 2, 3, 4)).astype(np.float32)
    samples[rng.random(samples.shape) < 0.1] = np.nan
    shuffled = samples[rng.permutation(n)]
    for one, other in zip(
        vars(sigma_clipped_mean(samples)).values(), vars(sigma_clipped_mean(shuffled)).values(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_value_that_comes_back_within_the_last_bounds_counts_again():
    # Given places where a later, shifted median takes a value in that an earlier round took out
    rng = np.random.default_rng(5)
    samples = rng.normal(0, 5, (23, 1, 40, 40)).astype(np.float32)
    nested = samples.astype(np.float64)
    for _ in range(5):
        off = np.abs(nested - np.nanmedian(nested, axis=0)) > 1.5 * np.nanstd(nested, axis=0)
        nested[off] = np.nan
    # When
    ours = sigma_clipped_mean(samples, 1.5)
    # Then
    assert (ours.kept > np.isfinite(nested).sum(axis=0)).any()
    _assert_as_astropy(samples, 1.5)


def test_no_measurement_gives_zero_and_zero():
    ours = sigma_clipped_mean(np.full((4, 2, 3, 5), np.nan, np.float32))
    assert not ours.mean.any()
    assert not ours.std.any()
    assert not ours.used.any()
    assert not ours.kept.any()


@pytest.mark.parametrize("sigma", [1.5, 2.0, 5.0])
def test_other_widths_of_the_clip(sigma):
    rng = np.random.default_rng(17)
    samples = rng.normal(0, 5, (23, 1, 20, 20)).astype(np.float32)
    samples[rng.random(samples.shape) < 0.1] += 40
    _assert_as_astropy(samples, sigma)


def _drop_in_windows(data, groupdq, step):
    ngroups, ny, nx = data.shape
    weights = np.arange(ngroups) - (ngroups - 1) / 2
    samples, hit, moment = data.copy(), np.zeros((ny, nx), bool), np.zeros((ny, nx))
    for start in range(0, ngroups, step):
        part = slice(start, start + step)
        drop_after_hit(samples[part], groupdq[part], hit, moment, weights[part])
    return samples, hit, moment


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, (6, 4, 5), elements=st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 32, 255])))
def test_groups_from_the_first_jump_on_are_dropped(groupdq):
    # Given flags of which only bit 4 is a jump, at any group, first and last too
    data = np.arange(groupdq.size, dtype=np.float32).reshape(groupdq.shape)
    first = dq_flags.collapse_cr_map(dq_flags.flag_map(groupdq[None], "JUMP_DET"))[0]
    # When
    samples, hit, _ = _drop_in_windows(data, groupdq, 6)
    # Then it is jwst_reffiles' own first hit from which nothing is left
    after = np.arange(6)[:, None, None] >= first
    assert np.isnan(samples[after]).all()
    np.testing.assert_array_equal(samples[~after], data[~after])
    np.testing.assert_array_equal(hit, first < 6)


@pytest.mark.parametrize("step", [1, 2, 4, 5])
def test_the_hit_is_carried_from_window_to_window(step):
    rng = np.random.default_rng(2)
    data = rng.normal(size=(6, 7, 9)).astype(np.float32)
    groupdq = (rng.random(data.shape) < 0.1).astype(np.uint8) * 4
    for one, other in zip(
        _drop_in_windows(data, groupdq, 6), _drop_in_windows(data, groupdq, step), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_the_moment_gives_the_slope_of_an_unhit_integration():
    rng = np.random.default_rng(4)
    data = rng.normal(size=(9, 3, 4)).astype(np.float32)
    _, hit, moment = _drop_in_windows(data, np.zeros(data.shape, np.uint8), 9)
    expected = np.polyfit(np.arange(9), data.reshape(9, -1).astype(np.float64), 1)[0].reshape(3, 4)
    assert not hit.any()
    np.testing.assert_allclose(moment / 60, expected, rtol=1e-10, atol=1e-12)


def test_flight_mode_is_refused_in_one_line_that_says_what_to_do():
    with pytest.raises(PermanentError, match="--mode reference") as caught:
        combiner("flight")
    assert "\n" not in str(caught.value)
