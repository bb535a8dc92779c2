"""kTC noise, the noise of reference pixels, and the errors of medians of variances."""

import numpy as np
import pytest
from scipy import stats

from services.noise.jumps.flagged_steps import FlaggedSteps
from services.noise.planes import Plane, exposure_pixels
from services.noise.read_noise.cds import ReferencePairs
from services.noise.read_noise.ktc import FirstGroups, ktc_refusal
from support.configurations import configuration


def first_groups(ramps, pixels, alive=None):
    result = FirstGroups(ramps.shape[-2:])
    alive = np.ones(ramps.shape, bool) if alive is None else alive
    for integration, ramp in enumerate(ramps):
        for group, signal in enumerate(ramp):
            result.add(
                Plane(
                    integration,
                    group,
                    signal,
                    np.uint8(~alive[integration, group]),
                    ~alive[integration, group],
                    alive[integration, group],
                ),
                pixels,
            )
    return result


def drawn(shape, rng, ktc=20.0, read=5.0, drift=0.0):
    integrations, _, ny, nx = shape
    ramps = rng.normal(0, read, shape) + rng.normal(0, ktc, (integrations, 1, ny, nx))
    return (ramps + rng.normal(1000, drift, (integrations, 1, 1, 1))).astype(np.float32)


@pytest.mark.parametrize("integrations", [3, 5, 12])
@pytest.mark.parametrize("outputs", [1, 4])
def test_reset_noise_comes_back_whatever_the_number_of_integrations(integrations, outputs):
    # Given resets of 20 DN, reads of 5 and a detector whose level drifts by 50
    key = configuration(40, 128, noutputs=outputs)
    pixels = exposure_pixels(key, np.zeros((40, 128), np.uint32), "x")
    rng = np.random.default_rng(integrations)
    result = first_groups(drawn((integrations, 2, 40, 128), rng, drift=50.0), pixels)
    # When the reads' variance is taken off
    cds = np.full(outputs, 5 * 2**0.5)
    noise = result.reset_noise(pixels, cds, 0.01 * cds)
    # Then the resets' is left, within its error
    value, error = noise.detector
    assert len(noise.amplifiers) == outputs
    assert abs(value - 20) < 3 * error
    assert error < 0.05 * 20


def test_errors_are_those_of_the_scatter_between_sets():
    key = configuration(24, 64)
    pixels = exposure_pixels(key, np.zeros((24, 64), np.uint32), "x")
    off = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        result = first_groups(drawn((4, 1, 24, 64), rng), pixels)
        value, error = result.reset_noise(pixels, np.array([5 * 2**0.5]), np.array([0.01])).detector
        off.append((value - 20) / error)
    assert 0.85 < np.std(off) < 1.2
    assert abs(np.mean(off)) < 0.35


def test_hits_hot_pixels_and_masked_ones_do_not_count():
    # Given hot pixels, pixels that are flagged in group 0, and masked ones, all of them wild
    key = configuration(40, 64)
    mask = np.zeros((40, 64), np.uint32)
    mask[3] = 1
    pixels = exposure_pixels(key, mask, "x")
    rng = np.random.default_rng(2)
    ramps = drawn((6, 1, 40, 64), rng)
    alive = rng.random(ramps.shape) > 0.1
    ramps[~alive] = 1e6
    ramps[:, 0, 3] += rng.normal(0, 1e5, (6, 64))
    ramps[:, 0, 7, :20] += 5e4
    value, error = (
        first_groups(ramps, pixels, alive)
        .reset_noise(pixels, np.array([5 * 2**0.5]), np.array([0.01]))
        .detector
    )
    assert abs(value - 20) < 3 * error


def test_amplifier_without_reset_noise_is_not_seen():
    key = configuration(16, 16)
    pixels = exposure_pixels(key, np.zeros((16, 16), np.uint32), "x")
    rng = np.random.default_rng(3)
    result = first_groups(drawn((5, 1, 16, 16), rng, ktc=0.0), pixels)
    noise = result.reset_noise(pixels, np.array([8.0]), np.array([0.1]))
    assert np.isnan(noise.detector).all()


def test_too_few_integrations_have_no_reset_noise():
    assert ktc_refusal(3) is None
    assert ktc_refusal(2) is not None
    assert ktc_refusal(1) is not None


def test_hits_before_the_first_group_are_taken_off_by_what_is_flagged_later():
    # Given resets of 20 DN, and hits of 300 DN on 2 % of the pixels from group to group and before group 0
    key = configuration(160, 160)
    pixels = exposure_pixels(key, np.zeros((160, 160), np.uint32), "x")
    rng = np.random.default_rng(7)
    hit = rng.random((10, 6, 160, 160)) < 0.02
    ramps = drawn(hit.shape, rng) + np.cumsum(hit * np.float32(300), axis=1, dtype=np.float32)
    result, flagged = FirstGroups((160, 160)), FlaggedSteps()
    for integration, ramp in enumerate(ramps):
        alive = np.ones((160, 160), bool)
        for group, signal in enumerate(ramp):
            jumps = hit[integration, group] & (group > 0)
            alive = alive & ~jumps
            plane = Plane(integration, group, signal, np.uint8(jumps * 4), jumps, alive)
            result.add(plane, pixels)
            flagged.add(plane, pixels)
    cds, cds_error = np.array([5 * 2**0.5]), np.array([0.01])
    # When kTC noise is taken with and without looking at the flags
    plain, _ = result.reset_noise(pixels, cds, cds_error).detector
    value, error = result.reset_noise(pixels, cds, cds_error, flagged, 1.0).detector
    # Then it is too high without them, and right within its error with them
    assert plain - 20 > 0.5
    assert abs(value - 20) < 3 * error
    assert error < 0.02 * 20


def test_reference_pixels_have_a_figure_of_their_own():
    # Given a corner of the detector whose border reads with 4 DN, the rest with 9
    key = configuration(96, 96, substrt1=1, substrt2=1)
    mask = np.zeros((96, 96), np.uint32)
    mask[0, :10] = 1
    pixels = exposure_pixels(key, mask, "x")
    rng = np.random.default_rng(5)
    sigma = np.where(pixels.sky, 9.0, 4.0)
    ramps = (rng.normal(size=(3, 9, 96, 96)) * sigma).astype(np.float32)
    ramps[:, :, 0, :10] = rng.normal(0, 1e4, (3, 9, 10))
    alive = np.ones((96, 96), bool)
    pairs = ReferencePairs()
    for integration, ramp in enumerate(ramps):
        for group, signal in enumerate(ramp):
            pairs.add(Plane(integration, group, signal, np.uint8(~alive), ~alive, alive), pixels)
    value, error = pairs.noise()
    # Then it is the median over the border of numpy's variance, over chi-squared's median
    difference = (ramps[:, 1:8:2] - ramps[:, 0:8:2]).reshape(12, 96, 96)[:, pixels.reference]
    variance = difference.astype(float).var(axis=0, ddof=1) / (stats.chi2.median(11) / 11)
    assert value == pytest.approx(np.sqrt(np.median(variance)), rel=1e-5)
    assert abs(value - 4 * 2**0.5) < 3 * error


def test_without_reference_pixels_there_is_no_figure():
    key = configuration(8, 8)
    pixels = exposure_pixels(key, np.zeros((8, 8), np.uint32), "x")
    pairs = ReferencePairs()
    assert np.isnan(pairs.noise()).all()
    alive = np.ones((8, 8), bool)
    for group in range(4):
        pairs.add(Plane(0, group, np.zeros((8, 8), np.float32), np.uint8(~alive), ~alive, alive), pixels)
    assert np.isnan(pairs.noise()).all()
