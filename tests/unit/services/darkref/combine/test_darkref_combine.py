"""The combine kernel against astropy's sigma_clip, and the hits against jwst_reffiles' own maps."""

import itertools
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from astropy.stats import sigma_clip
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jwst_reffiles.utils import dq_flags

from services.darkref.combine.methods import mode_named, sigma_clipped_mean
from services.darkref.combine.windows import BandState, Combined, group_positions
from services.darkref.kernels.blocks import BLOCK
from shared.errors import PermanentError
from shared.nircam.dq import GroupFlag
from support.darkref_flight_kernel import first_bad_groups, window_of


@dataclass
class Result:
    """What the kernel makes of samples, in native numbers; `line` and `moment` are its running sums."""

    mean: np.ndarray
    std: np.ndarray
    n_valid: np.ndarray
    kept: int
    unmeasured: int
    moment: np.ndarray
    line: np.ndarray


def _first_hits(groupdq, step=None, dtype=np.uint8):
    """First hits of (integrations, groups, pixels), found in windows of `step` groups."""
    return first_bad_groups(groupdq, step, dtype, GroupFlag.JUMP_DET)


def _combine(samples, sigma=3.0, groupdq=None, step=None, parts=None, dtype=np.uint8):
    """Combine (integrations, groups, rows, x) as a job does: in windows of groups and parts of pixels."""
    n, ngroups = samples.shape[:2]
    flat = np.ascontiguousarray(samples.reshape(n, ngroups, -1), ">f4")
    pixels = flat.shape[2]
    groupdq = np.zeros(flat.shape, np.uint8) if groupdq is None else groupdq.reshape(flat.shape)
    first = _first_hits(groupdq, step, dtype)
    state = BandState(first, group_positions(ngroups), np.zeros((n, pixels)), np.zeros((5, pixels)))
    mean, std = np.full((2, ngroups, pixels), 7, np.uint32)
    n_valid = np.full((ngroups, pixels), 7, np.uint16)
    tally = np.zeros(3, np.int64)
    for start in range(0, ngroups, step or ngroups):
        groups = slice(start, start + (step or ngroups))
        window = window_of(flat[:, groups], start)
        into = Combined(mean[groups], std[groups], n_valid[groups])
        for part in parts or [slice(0, pixels)]:
            tally += sigma_clipped_mean(window, state, sigma, part, into)
    assert tally[0] == n_valid.sum()
    shape = samples.shape[1:]
    floats = [bits.view(">f4").astype(np.float32).reshape(shape) for bits in (mean, std)]
    return Result(*floats, n_valid.reshape(shape), int(tally[1]), int(tally[2]), state.moment, state.line)


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
    ours = _combine(samples, sigma)
    valid = samples[np.isfinite(samples)]
    scale = np.abs(valid).max() if valid.size else 0.0
    assert ours.kept == kept.sum()
    assert ours.unmeasured == np.count_nonzero(~np.isfinite(samples).any(axis=0))
    np.testing.assert_array_equal(ours.n_valid, np.isfinite(samples).sum(axis=0))
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
    st.integers(1, 200).flatmap(
        lambda n: hnp.arrays(np.float32, (n, 1, 1, 5), elements=st.one_of(_few, _any), fill=_few)
    )
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
@given(st.integers(1, 200), st.floats(-1e5, 1e5, width=32))
def test_a_constant_has_its_own_mean_and_no_scatter(n, value):
    ours = _combine(np.full((n, 1, 1, 3), value, np.float32))
    np.testing.assert_array_equal(ours.mean, np.float32(value))
    np.testing.assert_array_equal(ours.std, 0)
    assert ours.kept == 3 * n


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(0, 2**32 - 1), st.sampled_from([-1e4, 50.0, 3e4]))
def test_one_outlier_is_what_astropy_makes_of_it(n, seed, outlier):
    samples = np.random.default_rng(seed).normal(0, 5, (n, 1, 1, 3)).astype(np.float32)
    samples[seed % n, ..., 1] += np.float32(outlier)
    _assert_as_astropy(samples)


def _assert_same(one, other):
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_the_order_of_exposures_does_not_matter(n, seed):
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 5, (n, 2, 3, 4)).astype(np.float32)
    samples[rng.random(samples.shape) < 0.1] = np.nan
    order = rng.permutation(n)
    ours, shuffled = _combine(samples), _combine(samples[order])
    shuffled.moment[order] = shuffled.moment.copy()
    _assert_same(ours, shuffled)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 7),
    st.integers(1, 3 * BLOCK),
    st.lists(st.integers(1, 3 * BLOCK), max_size=5),
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(0, 2**32 - 1),
)
def test_windows_and_parts_of_any_size_give_the_same_to_the_last_bit(n, step, pixels, cuts, dtype, seed):
    # Given ramps of an odd number of pixels, with hits
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 5, (n, 7, 1, pixels)).astype(np.float32)
    samples[rng.random(samples.shape) < 0.05] = np.nan
    groupdq = (rng.random(samples.shape) < 0.05).astype(np.uint8) * GroupFlag.JUMP_DET.mask
    edges = sorted({0, pixels, *(cut for cut in cuts if cut < pixels)})
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    # When, Then
    whole = _combine(samples, groupdq=groupdq)
    _assert_same(whole, _combine(samples, groupdq=groupdq, step=step, parts=parts[::-1], dtype=dtype))


def test_a_value_that_comes_back_within_the_last_bounds_counts_again():
    # Given places where a later, shifted median takes a value in that an earlier round took out
    rng = np.random.default_rng(5)
    samples = rng.normal(0, 5, (23, 1, 40, 40)).astype(np.float32)
    nested = samples.astype(np.float64)
    for _ in range(5):
        off = np.abs(nested - np.nanmedian(nested, axis=0)) > 1.5 * np.nanstd(nested, axis=0)
        nested[off] = np.nan
    # When
    ours = _combine(samples, 1.5)
    # Then
    assert ours.kept > np.isfinite(nested).sum()
    _assert_as_astropy(samples, 1.5)


def test_no_measurement_gives_zero_and_zero():
    ours = _combine(np.full((4, 2, 3, 5), np.nan, np.float32))
    assert not ours.mean.any()
    assert not ours.std.any()
    assert not ours.n_valid.any()
    assert (ours.kept, ours.unmeasured) == (0, 30)


@pytest.mark.parametrize("sigma", [1.5, 2.0, 5.0])
def test_other_widths_of_the_clip(sigma):
    rng = np.random.default_rng(17)
    samples = rng.normal(0, 5, (23, 1, 20, 20)).astype(np.float32)
    samples[rng.random(samples.shape) < 0.1] += 40
    _assert_as_astropy(samples, sigma)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.uint8, (2, 6, 4, 5), elements=st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 32, 255])),
    st.integers(1, 6),
    st.sampled_from([np.uint8, np.uint16]),
)
def test_groups_from_the_first_jump_on_are_dropped(groupdq, step, dtype):
    # Given flags of which only bit 4 is a jump, at any group, first and last too
    data = np.arange(groupdq.size, dtype=np.float32).reshape(groupdq.shape)
    wanted = dq_flags.collapse_cr_map(dq_flags.flag_map(groupdq, "JUMP_DET")).reshape(2, -1)
    # When
    first = _first_hits(groupdq.reshape(2, 6, -1), step, dtype)
    # Then it is jwst_reffiles' own first hit
    np.testing.assert_array_equal(np.minimum(first, 6), wanted)
    # and from it on nothing is used
    before = np.arange(6)[:, None] < wanted[:, None]
    ours = _combine(data, groupdq=groupdq, step=step, dtype=dtype)
    np.testing.assert_array_equal(ours.n_valid.reshape(6, -1), before.sum(axis=0))
    kept = np.where(before, data.reshape(2, 6, -1), 0).sum(axis=0) / np.maximum(before.sum(axis=0), 1)
    np.testing.assert_allclose(ours.mean.reshape(6, -1), kept, rtol=1e-6)


def test_more_groups_than_a_byte_counts():
    groupdq = np.zeros((1, 300, 1, 2), np.uint8)
    groupdq[0, 280, 0, 1] = GroupFlag.JUMP_DET
    ours = _combine(np.ones(groupdq.shape, np.float32), groupdq=groupdq, step=7, dtype=np.uint16)
    assert ours.n_valid.reshape(300, 2).sum(axis=0).tolist() == [300, 280]


def test_the_sums_give_the_slopes_of_the_integrations_and_of_the_mean_ramp():
    rng = np.random.default_rng(4)
    data = rng.normal(size=(3, 9, 3, 4)).astype(np.float32)
    groupdq = np.zeros(data.shape, np.uint8)
    groupdq[:, 6:, 0, 0] = GroupFlag.JUMP_DET
    ours = _combine(data, groupdq=groupdq)
    flat = data.reshape(3, 9, -1).astype(np.float64)
    for one, moment in zip(flat, ours.moment, strict=True):
        expected = np.polyfit(np.arange(9), one, 1)[0]
        np.testing.assert_allclose(moment[1:] / 60, expected[1:], rtol=1e-10, atol=1e-12)
    n, g, gg, y, gy = ours.line
    mean = ours.mean.reshape(9, -1).astype(np.float64)
    expected = np.polyfit(np.arange(9), mean, 1)[0]
    expected[0] = np.polyfit(np.arange(6), mean[:6, 0], 1)[0]
    np.testing.assert_allclose((n * gy - g * y) / (n * gg - g * g), expected, rtol=1e-8, atol=1e-10)


def test_notebook_mode_keeps_the_name_that_product_keys_hold():
    assert mode_named("notebook").name == mode_named("reference").name == "reference"


def test_a_mode_that_is_not_built_is_refused_in_one_line_that_says_what_to_do():
    with pytest.raises(PermanentError) as caught:
        mode_named("median")
    assert "\n" not in str(caught.value)
