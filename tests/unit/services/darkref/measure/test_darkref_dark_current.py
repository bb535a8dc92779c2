"""The dark current and its error against known truth: hot pixels, faint hits, correlated noise."""

import math
from functools import partial

import numpy as np
import pytest
from scipy import stats

from services.darkref.measure.dark_current import (
    DarkCurrent,
    blocks_error,
    compare_dark_current,
    frames_error,
    measure_dark_current,
    usable_pixels,
)
from services.darkref.measure.planes import MeanRamp
from shared.statistics.verdicts import Value, VerdictState

GAIN, GROUP_TIME, RATE = 1.84, 4.2, 30.0
# DN per group of one e- per 1000 s.
PER_KS = GROUP_TIME / GAIN / 1000
ONE_AMPLIFIER = [slice(0, 120)]


def _maps(rng, integrations, noise, shape=(120, 120), rate=RATE, drift=0.0, rows=0.0):
    """Slopes of each integration in DN per group; noise, drift (whole frame) and rows in e-/1000 s."""
    maps = rng.normal(rate, noise, (integrations, *shape))
    maps += rng.normal(0, drift, (integrations, 1, 1)) + rng.normal(0, rows, (integrations, shape[0], 1))
    return (maps * PER_KS).astype(np.float32)


def _measure(maps, science=None, amplifiers=ONE_AMPLIFIER, slope=None, offsets=(0.0, 0.0)):
    """Measure maps of slopes; `offsets` (DN) are what each frame of the mean ramp has too much."""
    science = np.ones(maps.shape[1:], bool) if science is None else science
    mean = np.nanmean(maps, axis=0).astype(np.float32) if slope is None else slope
    valid = np.isfinite(maps).sum(axis=0)
    return measure_dark_current(
        MeanRamp(
            slope=mean,
            integration_slope=maps.__getitem__,
            integrations=len(maps),
            sci=lambda group: np.add(mean * group, np.float32(offsets[group])),
            err=lambda group: np.zeros_like(mean),
            n_valid=lambda group: valid,
            groups=len(offsets),
            science=science,
            amplifiers=amplifiers,
            gain=GAIN,
            group_time=GROUP_TIME,
        )
    )


def test_a_plain_detector_is_measured_to_its_pixels_noise():
    maps = _maps(np.random.default_rng(1), 10, noise=100)
    result = _measure(maps)
    floor = 100 / math.sqrt(10) / 120
    assert abs(result.value - RATE) < 3 * result.error
    assert floor < result.error < 4 * floor
    assert result.by_integration == pytest.approx([RATE] * 10, abs=5 * 1.25 * 100 / 120)
    assert result.image == pytest.approx(maps.mean(axis=0) / PER_KS, rel=1e-4, abs=1e-3)


def test_the_rate_of_an_amplifier_has_the_error_of_its_own_drifts():
    # Given sets of two amplifiers, of which only the second drifts from integration to integration
    amplifiers = [slice(0, 60), slice(60, 120)]
    pulls, errors = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        maps = _maps(rng, 16, noise=60)
        maps[:, :, 60:] += (rng.normal(0, 20, (16, 1, 1)) * PER_KS).astype(np.float32)
        # When
        result = _measure(maps, amplifiers=amplifiers)
        errors.append(result.amplifier_errors)
        pulls.append((np.array(result.by_amplifier) - RATE) / result.amplifier_errors)
    # Then the errors are those of each amplifier: 60 e- of 16 x 7200 pixels, and 20 e- of 16 integrations
    quiet, drifting = np.median(errors, axis=0)
    assert 1.2 * 60 / math.sqrt(16 * 7200) < quiet < 1
    assert drifting == pytest.approx(20 / math.sqrt(16), rel=0.2)
    # and cover the truth: Student's distribution of 15 degrees of freedom in the one that drifts (1.04 by 68
    # per cent of it), less in the other, whose error is the largest of several estimates
    widths = np.std(pulls, axis=0)
    assert widths[1] == pytest.approx(1.04, abs=3 * 1.04 / math.sqrt(2 * 60))
    assert 0.5 < widths[0] < 1.04


def test_an_amplifier_without_a_usable_pixel_has_no_rate():
    maps = _maps(np.random.default_rng(3), 4, noise=60)
    science = np.ones((120, 120), bool)
    science[:, :60] = False
    result = _measure(maps, science, amplifiers=[slice(0, 60), slice(60, 120)])
    assert math.isnan(result.by_amplifier[0])
    assert math.isnan(result.amplifier_errors[0])
    assert result.amplifier_errors[1] == pytest.approx(result.error, rel=0.5)


def test_hot_pixels_and_reference_pixels_are_out():
    # Given 2 per cent of hot pixels, and a border that reads something else
    rng = np.random.default_rng(2)
    maps = _maps(rng, 6, noise=60)
    hot = rng.random((120, 120)) < 0.02
    maps[:, hot] += 3000 * PER_KS
    science = np.zeros((120, 120), bool)
    science[4:-4, 4:-4] = True
    maps[:, ~science] -= 500 * PER_KS
    # When
    result = _measure(maps, science)
    # Then
    assert result.hot_pixels == np.count_nonzero(hot & science)
    assert abs(result.value - RATE) < 3 * result.error


def test_a_pedestal_step_of_the_mean_ramp_is_not_called_hot():
    # Given pixels whose mean ramp steps where an integration drops out, and others that are hot
    maps = _maps(np.random.default_rng(13), 6, noise=60)
    maps[:, :4] += 3000 * PER_KS
    mean = maps.mean(axis=0)
    mean[-4:] += 3000 * PER_KS
    maps[2, -4:] = np.nan
    # and one that was hit in every integration, of which nothing can be said
    mean[60, 60] += 3000 * PER_KS
    maps[:, 60, 60] = np.nan
    # When
    result = _measure(maps, slope=mean)
    # Then
    assert result.hot_pixels == 4 * 120
    assert abs(result.value - RATE) < 3 * result.error


def test_faint_undetected_hits_and_warm_pixels_stay_within_the_error():
    # Given one pixel in twenty with a few electrons too many, far below any clip
    rng = np.random.default_rng(3)
    maps = _maps(rng, 10, noise=40, shape=(300, 300))
    maps[:, rng.random((300, 300)) < 0.05] += 40 * PER_KS
    # When
    result = _measure(maps, amplifiers=[slice(0, 300)])
    # Then the mean of all is off by 2, the answer by less, and it says so
    assert abs(result.value - RATE) < 2
    assert abs(result.value - RATE) < 3 * result.error


def test_errors_are_honest_for_drifts_that_all_pixels_share():
    # Given many sets whose integrations drift as a whole
    pulls = []
    for seed in range(120):
        maps = _maps(np.random.default_rng(seed), 6, noise=30, shape=(24, 24), drift=8)
        result = _measure(maps, amplifiers=[slice(0, 24)])
        pulls.append((result.value - RATE) / result.error)
    # Then their distances from the truth are what the errors say
    assert 0.6 < np.std(pulls) < 1.25
    assert np.mean(np.abs(pulls) < 3) > 0.97


def test_frames_that_move_as_a_whole_are_in_the_error_however_well_integrations_agree():
    # Given many mean ramps whose frames have offsets that no pixel's noise explains
    rng = np.random.default_rng(11)
    ngroups, sigma = 12, 0.4
    time = np.arange(ngroups) - (ngroups - 1) / 2
    maps = _maps(rng, 4, noise=1, shape=(40, 40))
    pulls = []
    for _ in range(150):
        offsets = rng.normal(0, sigma, ngroups)
        drift = float(np.sum(time * offsets) / np.sum(time**2))
        result = _measure(
            maps + np.float32(drift), amplifiers=[slice(0, 40)], offsets=offsets - drift * np.arange(ngroups)
        )
        pulls.append((result.value - RATE) / result.error)
    # Then
    assert 0.7 < np.std(pulls) < 1.15
    assert np.mean(np.abs(pulls) < 3) > 0.97


def test_the_frames_error_is_that_of_an_independent_fit():
    # Given offsets that every pixel shares: the error of a straight line through them
    rng = np.random.default_rng(12)
    offsets = rng.normal(0, 1, 9)
    frames = [partial(np.full, (10, 10), value) for value in offsets]
    covariance = np.polyfit(np.arange(9), offsets, 1, cov=True)[1]
    student = stats.t.ppf(stats.norm.cdf(1), 7)
    assert frames_error(frames, np.ones((10, 10), bool)) == pytest.approx(
        student * math.sqrt(covariance[0, 0]), rel=1e-9
    )
    assert frames_error(frames[:2], np.ones((10, 10), bool)) == 0
    assert frames_error(frames, np.zeros((10, 10), bool)) == 0


def test_one_integration_takes_its_error_from_blocks_of_pixels():
    # Given 1/f noise that moves whole rows, and nothing to compare the integration with
    pulls, naive = [], []
    for seed in range(120):
        maps = _maps(np.random.default_rng(seed), 1, noise=20, shape=(64, 64), rows=20)
        result = _measure(maps, amplifiers=[slice(0, 64)])
        pulls.append((result.value - RATE) / result.error)
        naive.append((result.value - RATE) / (1.25 * np.std(maps / PER_KS) / 64))
    # Then pixels alone would have promised far too much
    assert np.std(naive) > 3
    assert np.std(pulls) < 1.25


def test_blocks_of_independent_noise_give_the_error_of_independent_noise():
    rng = np.random.default_rng(8)
    image = rng.normal(0, 10, (256, 256)).astype(np.float32)
    amplifiers = [slice(n, n + 64) for n in range(0, 256, 64)]
    error = blocks_error(image, np.ones((256, 256), bool), amplifiers)
    assert 10 / 256 * 0.8 < error < 10 / 256 * 1.2533 * 2.5


def test_few_integrations_that_agree_by_chance_do_not_promise_more_than_students_distribution():
    # Given two integrations
    maps = np.stack([np.full((8, 8), 29.0), np.full((8, 8), 31.0)]).astype(np.float32) * np.float32(PER_KS)
    # When
    result = _measure(maps, amplifiers=[slice(0, 8)])
    # Then
    assert result.error == pytest.approx(
        stats.t.ppf(stats.norm.cdf(1), 1) * math.sqrt(2) / math.sqrt(2), rel=1e-3
    )


def test_an_integration_that_was_hit_everywhere_has_no_dark_current_of_its_own():
    maps = _maps(np.random.default_rng(4), 3, noise=10)
    whole = maps.mean(axis=0)
    maps[1] = np.nan
    result = _measure(maps, slope=whole)
    assert math.isnan(result.by_integration[1])
    assert math.isfinite(result.by_integration[0])
    assert math.isfinite(result.error)


def test_amplifiers_are_measured_apart():
    maps = _maps(np.random.default_rng(5), 4, noise=10)
    maps[:, :, 60:] += 20 * PER_KS
    result = _measure(maps, amplifiers=[slice(0, 60), slice(60, 120)])
    assert result.by_amplifier == pytest.approx([30, 50], abs=1)


def test_no_usable_pixel_is_no_number():
    maps = np.full((2, 8, 8), np.nan, np.float32)
    result = _measure(maps, slope=maps[0])
    assert math.isnan(result.value)
    assert compare_dark_current(result, Value(27, 5)).state == VerdictState.NOT_ENOUGH


def test_pixels_that_are_all_equal_are_all_used():
    good, above = usable_pixels(np.full((8, 8), 3.0, np.float32), np.ones((8, 8), bool))
    assert good.all()
    assert not above.any()


@pytest.mark.parametrize(
    ("value", "error", "expected", "state"),
    [
        (27.04, 1.0, Value(27, 5), "within"),
        (36.0, 1.0, Value(27, 5), "within"),
        (47.0, 0.1, Value(27, 5), "above"),
        (12.0, 0.1, Value(27, 5), "below"),
        (1.0, 12.0, Value(1.9, 1.1), "not enough data"),
        (200.0, 12.0, Value(1.9, 1.1), "above"),
        (math.nan, math.nan, Value(1.9, 1.1), "not enough data"),
    ],
)
def test_verdicts(value, error, expected, state):
    current = DarkCurrent(value, error, [], [], 0, np.zeros((1, 1), np.float32))
    assert compare_dark_current(current, expected).state == state
