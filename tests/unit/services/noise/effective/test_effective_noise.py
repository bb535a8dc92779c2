"""Slopes of n groups against numpy's polyfit, noise against closed forms, and the theory curve."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from services.noise.effective.effective_noise import (
    MINIMUM_PER_PIXEL,
    SampleSpread,
    combine_amplifiers,
    median_over_ramps,
    rise_step,
    spatial_error,
    table_point,
    temporal_error,
    temporal_refusal,
)
from services.noise.effective.slopes import RampSums, SlopePlanes, variances_over_ramps
from services.noise.effective.spatial import SlopeSpread
from services.noise.effective.theory import theory_noise, theory_variance
from services.noise.planes import ExposurePixels, Plane, exposure_pixels
from shared.nircam.detectors import EXPECTED
from shared.nircam.dq import BAD_GROUP_FLAGS
from shared.statistics.medians import median
from shared.statistics.robust import corrected_variance, median_and_sigma
from support.configurations import configuration


def polyfit_slopes(signal, n):
    """Slopes of the first n groups; signal (groups, y, x)."""
    flat = signal[:n].reshape(n, -1).astype(float)
    return np.polyfit(np.arange(n), flat, 1)[0].reshape(signal.shape[1:])


@given(
    groups=st.integers(2, 12),
    level=st.floats(-1e3, 5e4),
    rate=st.floats(-5, 500),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=40)
def test_slopes_of_every_number_of_groups_are_polyfits(groups, level, rate, seed):
    # Given ramps on any pedestal, float32 as jwst has them
    rng = np.random.default_rng(seed)
    signal = rng.normal(0, 8, (groups, 3, 5)) + level + rate * np.arange(groups)[:, None, None]
    signal = signal.astype(np.float32)
    # When two of them go through the running sums one after the other
    columns = [slice(0, 2), slice(2, 5)]
    planes = SlopePlanes((3, 5), columns)
    slopes, some = [], []
    use = rng.random(signal.shape) < 0.8
    for ramp in (signal[::-1].copy(), signal):
        slopes, some = [], []
        for group, plane in enumerate(ramp):
            slopes.append([part.copy() for part in planes.add(group, plane, use[group])])
            some.append(planes.of(np.array([14, 0, 7])))
    # Then the slope of each number of groups is polyfit's, amplifier by amplifier, for pixels in use
    for n in range(2, groups + 1):
        fits = polyfit_slopes(signal, n)
        near = {"rtol": 1e-6, "atol": 1e-6 * np.abs(fits).max()}
        wanted = np.where(use[n - 1], fits, np.nan)
        for found, one in zip(slopes[n - 1], columns, strict=True):
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, wanted[:, one].ravel(), **near)
        # and of a few pixels for all of them
        np.testing.assert_allclose(some[n - 1], fits.ravel()[[14, 0, 7]], **near)


@pytest.mark.parametrize("size", [3, 40])
def test_spatial_noise_is_that_of_the_slopes_of_unflagged_active_pixels(size):
    # Given two ramps of a subarray with two outputs, reference pixels, bad ones and hits
    rng = np.random.default_rng(size)
    signal = (rng.normal(0, 5, (2, 4, size, 2 * size)) + 1e4).astype(np.float32)
    alive = np.logical_and.accumulate(rng.random(signal.shape) < 0.97, axis=1)
    sky = np.zeros((size, 2 * size), bool)
    sky[1:-1] = True
    good = rng.random(sky.shape) < 0.9
    columns = [slice(0, size), slice(size, 2 * size)]
    pixels = ExposurePixels(sky, sky & good, ~sky & good, columns)
    flags = np.zeros(sky.shape, np.uint8)
    # When
    spread = SlopeSpread()
    for ramp in range(2):
        for group in range(4):
            plane = Plane(ramp, group, signal[ramp, group], flags, flags > 0, alive[ramp, group])
            spread.add(plane, pixels)
    # Then there is a figure of every number of groups and output, where it has pixels enough
    for ramp in range(2):
        for n in range(2, 5):
            slopes, use = polyfit_slopes(signal[ramp], n), alive[ramp, n - 1]
            for output, one in enumerate(columns):
                result = spread.medians[ramp][n - 2][output], spread.sigmas[ramp][n - 2][output]
                wanted = _median_and_mad(slopes[:, one][(use & pixels.active)[:, one]])
                np.testing.assert_allclose(result, wanted, rtol=2e-6)
            wanted = _median_and_mad(slopes[use & pixels.reference])[1]
            np.testing.assert_allclose(spread.reference_sigmas[ramp][n - 2], wanted, rtol=2e-6)


def _median_and_mad(values):
    if values.size < 10:
        return math.nan, math.nan
    centre = np.median(values)
    return centre, np.median(np.abs(values - centre)) / stats.norm.ppf(0.75)


def _variances(ramps, quality, usable=None, step=None, parts=None, minimum=2, factors=None):
    """Variance of the slopes of the first n groups over ramps (ramps, groups, pixels), for n from 2 on."""
    count, groups, pixels = ramps.shape
    sums = RampSums(
        np.zeros((count, pixels)),
        np.zeros((count, pixels)),
        np.ones((count, pixels), bool) if usable is None else usable.copy(),
    )
    result = np.empty((groups, pixels), np.float32)
    factors = np.ones(count + 1) if factors is None else factors
    for start in range(0, groups, step or groups):
        part = slice(start, start + (step or groups))
        stored = np.ascontiguousarray(ramps[:, part], ">f4").view(np.uint32)
        flags = np.ascontiguousarray(quality[:, part])
        for some in parts or [slice(0, pixels)]:
            variances_over_ramps(stored, flags, start, sums, factors, minimum, some, result[part])
    return result[1:]


def _by_polyfit(ramps, good, minimum):
    """The same by a fit of every number of groups of every ramp, as slow as it is plain."""
    count, groups, pixels = ramps.shape
    wanted = np.full((groups - 1, pixels), np.nan)
    for n in range(2, groups + 1):
        for pixel in range(pixels):
            fits = [
                np.polyfit(np.arange(n), ramps[ramp, :n, pixel].astype(float), 1)[0]
                for ramp in range(count)
                if good[ramp, :n, pixel].all()
            ]
            if len(fits) >= minimum:
                wanted[n - 2, pixel] = np.var(fits, ddof=1)
    return wanted


def test_variance_over_ramps_is_that_of_polyfits_of_unflagged_ramps():
    # Given ramps of hot and quiet pixels of which some are flagged from some group on, or not finite
    rng = np.random.default_rng(3)
    ramps = rng.normal(0, 5, (9, 8, 24)) + rng.uniform(0, 3000, 24) * np.arange(8)[:, None]
    ramps = ramps.astype(np.float32)
    quality = rng.choice([0, 0, 0, 0, 8, 16, 1, 2, 4, 32], ramps.shape, p=[0.2] * 4 + [0.1] * 2 + [0] * 4)
    quality[rng.random(ramps.shape) < 0.03] = 4
    ramps[rng.random(ramps.shape) < 0.01] = np.nan
    ramps[rng.random(ramps.shape) < 0.01] = np.inf
    usable = np.ones((9, 24), bool)
    usable[:, 3] = False
    usable[4, 5] = False
    good = (quality & BAD_GROUP_FLAGS.mask == 0) & np.isfinite(ramps) & usable[:, None]
    # When, Then
    for minimum in (2, 5):
        result = _variances(ramps, quality.astype(np.uint8), usable, minimum=minimum)
        np.testing.assert_allclose(result, _by_polyfit(ramps, good, minimum), rtol=2e-6)


@given(
    count=st.integers(1, 12),
    groups=st.integers(2, 9),
    pixels=st.integers(1, 1200),
    step=st.integers(1, 9),
    cut=st.integers(1, 1200),
    kind=st.sampled_from(["noise", "constant", "ties", "masked", "outlier", "not finite"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=60)
def test_variances_of_any_window_and_part_are_the_same_to_the_last_bit(
    count, groups, pixels, step, cut, kind, seed
):
    # Given ramps of any kind
    rng = np.random.default_rng(seed)
    ramps = rng.normal(0, 5, (count, groups, pixels)).astype(np.float32)
    quality = (rng.random(ramps.shape) < 0.05).astype(np.uint8) * 4
    if kind == "constant":
        ramps[:] = 7.25
    elif kind == "ties":
        ramps = np.round(ramps)
    elif kind == "masked":
        quality[:] = 1
    elif kind == "outlier":
        ramps[0, groups // 2] = 1e6
    elif kind == "not finite":
        ramps[rng.random(ramps.shape) < 0.2] = rng.choice([np.nan, np.inf, -np.inf])
    # When
    whole = _variances(ramps, quality)
    parts = [slice(min(cut, pixels), pixels), slice(0, min(cut, pixels))]
    # Then
    np.testing.assert_array_equal(whole, _variances(ramps, quality, step=step, parts=parts))
    some = rng.integers(0, pixels, 2)
    good = (quality & BAD_GROUP_FLAGS.mask == 0) & np.isfinite(ramps)
    wanted = _by_polyfit(ramps[..., some], good[..., some], 2)
    np.testing.assert_allclose(whole[:, some], wanted, rtol=1e-5, atol=1e-12)


def test_a_variance_is_divided_by_the_factor_of_its_number_of_ramps():
    ramps = np.random.default_rng(8).normal(0, 5, (6, 4, 5)).astype(np.float32)
    quality = np.zeros(ramps.shape, np.uint8)
    quality[2, 2:, 1] = 2
    plain = _variances(ramps, quality)
    factors = np.array([9, 9, 9, 9, 9, 4.0, 2.0])
    divided = np.full(plain.shape, 2.0)
    divided[1:, 1] = 4.0
    np.testing.assert_allclose(_variances(ramps, quality, factors=factors), plain / divided, rtol=1e-6)


def test_white_noise_has_the_closed_form_slope_error():
    # Given pure white noise of known width
    rng = np.random.default_rng(4)
    sigma, groups = 7.0, 16
    signal = rng.normal(0, sigma, (groups, 300, 300))
    planes = SlopePlanes((300, 300), [slice(0, 300)])
    everywhere = np.ones((300, 300), bool)
    # Then sigma(slope_n) = sigma sqrt(12 / (n (n^2 - 1))) at every n
    for group, plane in enumerate(signal):
        (slopes,) = planes.add(group, plane, everywhere)
        n = group + 1
        if n > 1:
            measured = median_and_sigma(slopes)[1]
            assert measured == pytest.approx(sigma * math.sqrt(12 / (n * (n**2 - 1))), rel=0.02)


@pytest.mark.parametrize("ramps", [10, 12, 30])
def test_temporal_noise_is_unbiased_at_any_number_of_ramps(ramps):
    # Given unit noise in so many ramps
    values = np.random.default_rng(ramps).normal(size=(ramps, 200_000))
    # When the median of the sample variances is corrected
    counts = np.full(values.shape[1], ramps)
    corrected = corrected_variance(values.var(axis=0, ddof=1), counts, MINIMUM_PER_PIXEL)
    # Then it is the variance; uncorrected with ddof 0 at 10 ramps the noise is low by 0.91
    assert median(corrected) == pytest.approx(1, abs=0.006)
    if ramps == 10:
        assert math.sqrt(np.median(values.var(axis=0))) == pytest.approx(0.91, abs=0.005)


def test_temporal_noise_is_unbiased_where_pixels_have_different_numbers_of_ramps():
    rng = np.random.default_rng(11)
    values = rng.normal(size=(12, 300_000))
    values[rng.random(values.shape) < 0.25] = np.nan
    counts = np.isfinite(values).sum(axis=0)
    keep = counts > 1
    variance = np.nanvar(values[:, keep], axis=0, ddof=1)
    corrected = corrected_variance(variance, counts[keep], MINIMUM_PER_PIXEL)
    assert np.nanmedian(corrected) == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(np.isfinite(corrected), counts[keep] >= MINIMUM_PER_PIXEL)


def test_temporal_noise_needs_ten_ramps():
    assert temporal_refusal(10) is None
    assert temporal_refusal(9) is not None
    assert temporal_refusal(1) is not None


SW = EXPECTED["SW"]
BARE = dataclasses.replace(SW, theory_dark=0.0, theory_p0=0.0, theory_p1=0.0, theory_read_noise=10.0)


def test_theory_of_read_noise_alone_is_that_of_white_noise():
    for n in (2, 7, 93):
        # sigma(slope_n) (n-1) with sigma = rn / sqrt(m)
        wanted = 10 / math.sqrt(4) * math.sqrt(12 / (n * (n**2 - 1))) * (n - 1)
        assert theory_noise(n, 4, 100.0, 1.0, BARE) == pytest.approx(wanted)
    assert theory_noise(2, 1, 10.0, 10.0, BARE) == pytest.approx(10 * math.sqrt(2))


@given(n=st.integers(2, 40), m=st.integers(1, 10), skipped=st.integers(0, 20))
def test_theory_of_photons_alone_is_that_of_a_line_through_a_random_walk(n, m, skipped):
    # Given a Poisson process with one electron per frame, and the weight of every frame in the rise of the
    # line through n groups of m averaged frames
    light = dataclasses.replace(BARE, theory_read_noise=0.0, theory_dark=1.0)
    x = np.arange(n) - (n - 1) / 2
    weights = np.zeros((n, m + skipped))
    weights[:, :m] = (x / np.sum(x**2) * (n - 1) / m)[:, None]
    # When the steps from frame to frame, each of which all later frames contain, are added in quadrature
    walk = np.cumsum(weights.ravel()[::-1])[::-1][1:]
    # Then that is the variance
    seconds = (n - 1.0) * (m + skipped)
    assert theory_variance(n, m, seconds, 1.0, light) == pytest.approx(np.sum(walk**2), abs=1e-9)


def test_theory_has_the_excess_of_the_channel():
    excess = dataclasses.replace(BARE, theory_read_noise=0.0, theory_p0=2.0, theory_p1=3.0)
    assert theory_variance(5, 4, 10.0, 1.0, excess) == pytest.approx(12 * 4 / 6 * 4 - 3 / 2)


@pytest.mark.parametrize(
    ("frame", "groups", "readpatt", "at"),
    [
        (10.73677, 108, "RAPID", 94),  # NRC-09's long full-frame darks: 93 frame times are 998.5 s
        (10.73677, 93, "RAPID", 93),  # 987.8 s
        (10.73677, 80, "RAPID", None),
        (4.18584, 108, "RAPID", None),  # SUB640 ends after 448 s
        (214.7354, 6, "DEEP8", None),  # 1074 s, but of averaged groups
    ],
)
def test_the_table_is_held_only_against_ramps_of_its_length(frame, groups, readpatt, at):
    seconds = [n * frame for n in range(1, groups)]
    result = table_point(seconds, readpatt)
    assert (None if result is None else result + 2) == at


def test_amplifiers_combine_as_root_mean_square_and_an_empty_one_takes_no_part():
    combined = combine_amplifiers(np.array([[3.0, 4.0], [3.0, np.nan], [np.nan, np.nan]]))
    np.testing.assert_allclose(combined, [math.sqrt(12.5), 3.0, np.nan])
    sigmas = np.array([[[1.0]], [[np.nan]], [[2.0]], [[9.0]]])
    assert median_over_ramps(sigmas).tolist() == [[2.0]]


@pytest.mark.parametrize("drift", [0.0, 0.5])
def test_stated_errors_are_the_scatter_of_realisations(drift):
    # Given many sets of 12 ramps of 600 pixels, whose ramps drift as a whole or do not
    rng = np.random.default_rng(5)
    temporal, temporal_errors, spatial, spatial_errors = [], [], [], []
    for _ in range(120):
        ramps = rng.normal(size=(12, 600)) + drift * rng.normal(size=(12, 1))
        both = np.array([median_and_sigma(ramp) for ramp in ramps])
        spread = SampleSpread(both[:, :1], both[:, 1:])
        counts = np.full(600, 12)
        sigma = math.sqrt(median(corrected_variance(ramps.var(axis=0, ddof=1), counts, 5)))
        temporal.append(sigma)
        temporal_errors.append(temporal_error(sigma, spread.variances(about_own_median=False), 600 * 11))
        spatial.append(float(median_over_ramps(spread.sigmas)[0]))
        spatial_errors.append(spatial_error(spread.sigmas, 600))
    # Then the truth lies within three of the stated errors, which are no more than twice too large
    truth = math.hypot(1, drift)
    assert np.mean(np.abs(np.array(temporal) - truth) < 3 * np.array(temporal_errors)) > 0.95
    assert np.mean(temporal_errors) < 2 * np.std(temporal)
    assert np.mean(np.abs(np.array(spatial) - 1) < 3 * np.array(spatial_errors)) > 0.98
    assert np.mean(spatial_errors) < 2 * np.std(spatial)


@pytest.mark.parametrize("groups", [2, 3, 4, 5, 6, 9])
def test_slopes_of_whole_numbers_come_in_steps(groups):
    signal = np.round(np.random.default_rng(6).normal(0, 5, (groups, 50, 50)))
    steps = polyfit_slopes(signal, groups) * (groups - 1) / rise_step(groups)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    # And in no wider ones
    assert np.gcd.reduce(np.rint(steps).astype(int).ravel()) == 1


@pytest.mark.parametrize("nframes", [1, 2, 8])
@pytest.mark.parametrize("groups", [2, 3, 5, 10])
def test_spatial_noise_is_not_that_of_the_steps_of_whole_numbers(nframes, groups):
    # Given ramps whose frames, read noise of 4.5 DN, were averaged on board and stored as whole DN
    key = configuration(96, 96, ngroups=groups)
    rng = np.random.default_rng(10 * groups + nframes)
    sigma = 4.5 / math.sqrt(nframes)
    signal = np.round(rng.normal(1000, sigma, (12, groups, 96, 96)) + rng.random((12, 1, 96, 96)))
    spread = SlopeSpread()
    pixels = exposure_pixels(key, np.zeros((96, 96), np.uint32), "x")
    alive = np.ones((96, 96), bool)
    for ramp in range(12):
        for group in range(groups):
            plane = signal[ramp, group].astype(np.float32)
            spread.add(Plane(ramp, group, plane, np.uint8(~alive), ~alive, alive), pixels)
    # Then their spatial noise is that of the reads and of their rounding, within its error
    at = np.arange(groups) - (groups - 1) / 2
    truth = math.sqrt((sigma**2 + 1 / 12) / np.sum(at**2))
    sigmas = np.array(spread.sigmas)[:, -1]
    measured = float(median_over_ramps(sigmas)[0])
    error = spatial_error(sigmas, int(pixels.active.sum()))
    assert abs(measured - truth) < 3.5 * error
    assert error < 0.01 * truth
    # And so is the median, which would be a whole number of steps
    medians = np.array(spread.medians)[:, -1, 0]
    assert medians.std() < 1.5 * 1.2533 * truth / 96
