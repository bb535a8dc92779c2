"""The settling after the reset: fitted where it is there, and in no rate."""

import math

import numpy as np
import pytest
from scipy import optimize

from services.darkref.measure.bad_pixels import PixelScatter, Thresholds, flag_pixels
from services.darkref.measure.dark_current import measure_dark_current
from services.darkref.measure.planes import MeanRamp
from services.darkref.measure.reset_settling import Settling, find_settling, fit_settling, without_settling
from shared.nircam.dq import PixelFlag

GAIN, GROUP_TIME, RATE = 1.84, 10.73677, 32.6
TAU_S = 20.0


def _mean_ramp(seed, amplitude, groups=20, count=5, side=48, rates=None, stop=None, frame=0.6):
    """Average ramps of `RATE` (e- per 1000 s) that settle by `amplitude` e-, each pixel by its own share.

    Pixels read with 10 e-, and whole frames move by `frame` e-. `stop` is the first group that no integration
    of a pixel has, 2D (y, x).
    """
    rng = np.random.default_rng(seed)
    shape = (side, side)
    time = GROUP_TIME * np.arange(groups)
    rates = np.full(shape, RATE) if rates is None else rates
    share = amplitude * (1 + 0.2 * rng.normal(size=shape))
    electrons = rates / 1000 * time[:, None, None] - share * np.exp(-time / TAU_S)[:, None, None]
    ramps = electrons + rng.normal(0, 10, (count, groups, *shape))
    ramps += rng.normal(0, frame, (count, groups, 1, 1))
    ramps = (ramps - ramps[:, :1]) / GAIN
    position = np.arange(groups) - (groups - 1) / 2
    slopes = np.tensordot(position, ramps, (0, 1)) / np.sum(position**2)
    sci = ramps.mean(axis=0)
    slope = slopes.mean(axis=0)
    n_valid = np.full((groups, *shape), count, np.uint16)
    for y, x in [] if stop is None else np.argwhere(stop < groups):
        at = stop[y, x]
        n_valid[at:, y, x] = sci[at:, y, x] = 0
        slope[y, x] = np.polyfit(np.arange(at), sci[:at, y, x], 1)[0]
        slopes[:, y, x] = np.nan
    planes = [np.asarray(cube, np.float32) for cube in (slopes, sci, ramps.std(axis=0) / math.sqrt(count))]
    return MeanRamp(
        slope=slope.astype(np.float32),
        integration_slope=planes[0].__getitem__,
        integrations=count,
        sci=lambda group: planes[1][group].copy(),
        err=planes[2].__getitem__,
        n_valid=n_valid.__getitem__,
        groups=groups,
        science=np.ones(shape, bool),
        amplifiers=[slice(0, side // 2), slice(side // 2, side)],
        gain=GAIN,
        group_time=GROUP_TIME,
    )


def test_a_settling_of_20_electrons_is_fitted_and_in_no_rate():
    # Given ramps of 215 s that rise by 20 e- after the reset, besides the dark current
    ramp = _mean_ramp(1, 20.0, side=120, frame=0.1)
    plain = measure_dark_current(ramp)
    # When
    settling = find_settling(ramp)
    result = measure_dark_current(ramp, settling)
    # Then it was twice the truth, and is now the truth, in the rates of integrations and amplifiers as well
    assert plain.value > 2 * RATE
    assert isinstance(settling, Settling)
    assert settling.amplitude * GAIN == pytest.approx(-20, abs=1.5)
    assert settling.tau * GROUP_TIME == pytest.approx(TAU_S, rel=0.1)
    assert abs(result.value - RATE) < 3 * result.error
    assert result.error < 4
    assert result.by_integration == pytest.approx([RATE] * 5, abs=6)
    assert result.by_amplifier == pytest.approx([RATE] * 2, abs=6)
    assert np.median(result.image) == pytest.approx(result.value, abs=0.1)
    assert result.settling == settling


@pytest.mark.parametrize(("amplitude", "groups"), [(0.0, 20), (0.0, 60), (20.0, 20), (20.0, 60), (-8.0, 20)])
def test_pulls_of_the_dark_current_are_those_of_a_gaussian_with_and_without_settling(amplitude, groups):
    # Given many sets
    pulls, scatter = [], []
    for seed in range(50):
        ramp = _mean_ramp(1000 + seed, amplitude, groups, side=32)
        result = measure_dark_current(ramp, find_settling(ramp))
        pulls.append((result.value - RATE) / result.error)
        scatter.append(result.value - RATE)
    # Then the mean is 0 within 3 sigma, and one sigma is one sigma
    assert abs(np.mean(scatter)) < 3 * np.std(scatter) / math.sqrt(50)
    assert 0.65 < np.std(pulls) < 1.3
    assert np.mean(np.abs(pulls) < 3) > 0.97


def test_straight_ramps_have_no_settling():
    # Given noise of whole frames only
    rng = np.random.default_rng(3)
    count = sum(fit_settling(np.arange(20) * 0.3 + rng.normal(0, 0.2, 20)) is not None for _ in range(400))
    # Then one in a thousand would be wrong by chance
    assert count <= 4


def test_the_fit_is_that_of_an_independent_one():
    # Given a ramp with noise
    rng = np.random.default_rng(4)
    group = np.arange(30)
    medians = 0.2 * group - 12 * np.exp(-group / 2.5) + rng.normal(0, 0.1, 30)
    # When
    settling = fit_settling(medians)
    # Then
    (_, slope, amplitude, tau), covariance = optimize.curve_fit(
        lambda g, a, b, c, t: a + b * g + c * np.exp(-g / t), group, medians, p0=(0, 0.2, -10, 2)
    )
    assert settling.amplitude == pytest.approx(amplitude, rel=2e-3)
    assert settling.tau == pytest.approx(tau, rel=2e-3)
    removed = settling.slopes(30)[-1]
    assert removed == pytest.approx(np.polyfit(group, medians, 1)[0] - slope, rel=2e-3)
    # and its error holds what the exponential takes from the line, by 30 groups little
    straight = 0.1 / math.sqrt(np.sum((group - 14.5) ** 2))
    assert settling.slope_error == pytest.approx(math.sqrt(covariance[1, 1] - straight**2), rel=0.25)


def test_slopes_of_the_curve_are_those_of_straight_lines_through_its_first_groups():
    settling = Settling(amplitude=-7.0, tau=2.0, slope_error=0.0, chance=0.0)
    curve, slopes = settling.curve(12), settling.slopes(12)
    assert curve[0] == 0
    assert slopes[:2].tolist() == [0, 0]
    for n in range(2, 13):
        assert slopes[n] == pytest.approx(np.polyfit(np.arange(n), curve[:n], 1)[0], rel=1e-9)


def test_pixels_that_end_early_lose_the_settling_of_their_own_groups():
    # Given pixels that saturate
    stop = np.full((48, 48), 20)
    stop[5, :10] = np.arange(3, 13)
    ramp = _mean_ramp(5, 20.0, stop=stop, frame=0.1)
    settling = Settling(amplitude=-20 / GAIN, tau=TAU_S / GROUP_TIME, slope_error=0.0, chance=0.0)
    # When
    settled = without_settling(ramp, settling)
    # Then slopes are those of their settled groups, and what was not measured is still 0
    curve = settling.curve(20)
    for x in range(10):
        sci = [settled.sci(group)[5, x] for group in range(stop[5, x])]
        assert settled.slope[5, x] == pytest.approx(np.polyfit(np.arange(len(sci)), sci, 1)[0], abs=1e-4)
        assert settled.sci(19)[5, x] == 0
    np.testing.assert_allclose(settled.sci(3)[20], ramp.sci(3)[20] - curve[3], atol=1e-4)
    assert np.isnan(settled.integration_slope(0)[5, 0])


def test_settling_makes_no_pixel_hot_or_warm():
    # Given a detector that settles by 100 e-, which is 0.18 e-/s of a line, with pixels just below the limits
    rates = np.full((64, 64), RATE)
    rates[10] = 430.0
    rates[20] = 700.0
    ramp = _mean_ramp(6, 100.0, rates=rates, side=64)
    # When
    settling = find_settling(ramp)
    shape = ramp.science.shape
    usual = PixelScatter(np.ones(shape, np.float32), np.full(shape, 76, np.float32), np.zeros(shape, bool))
    plain, _ = flag_pixels(ramp, usual, Thresholds())
    quality, _ = flag_pixels(without_settling(ramp, settling), usual, Thresholds())
    # Then
    hot = PixelFlag.HOT.mask
    assert np.mean(plain[10] & hot != 0) > 0.5
    assert np.mean(quality[10] & hot != 0) < 0.1
    assert np.mean(quality[20] & hot != 0) > 0.9


@pytest.mark.parametrize("medians", [np.arange(7.0), np.full(20, np.nan), np.zeros(20), np.arange(20.0)])
def test_ramps_that_tell_nothing_have_no_settling(medians):
    assert fit_settling(medians) is None
