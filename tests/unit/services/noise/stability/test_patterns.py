"""A level that cycles over integrations, and odd and even columns that differ, against what was planted."""

import numpy as np
import pytest

from services.noise.planes import ExposurePixels, Plane
from services.noise.stability.patterns import ColumnParity, level_cycle


def exposures(count, nints):
    return [f"jw{n // nints}" for n in range(count)]


@pytest.mark.parametrize("period", [2, 3, 4, 5])
@pytest.mark.parametrize("nints", [1, 20])
def test_a_bias_that_cycles_is_named_with_its_period(period, nints):
    # Given twenty integrations, every n-th of which starts 30 DN lower
    rng = np.random.default_rng(period)
    levels = 200 + rng.normal(0, 3, 20)
    levels[::period] -= 30
    cycle = level_cycle(levels.tolist(), exposures(20, nints))
    assert cycle is not None
    assert f" {period} integrations" in cycle.said
    assert " ".join("A" + "B" * (period - 1)) in cycle.said
    assert abs(cycle.value - 30) < 4 * cycle.error
    assert cycle.sigmas > 5


def test_steady_and_drifting_levels_do_not_cycle():
    found = 0
    for seed in range(500):
        rng = np.random.default_rng(seed)
        found += level_cycle((100 + rng.normal(0, 5, 12)).tolist(), exposures(12, 1)) is not None
    assert found <= 2
    drift = 100 + 2.0 * np.arange(12) + np.random.default_rng(1).normal(0, 5, 12)
    assert level_cycle(drift.tolist(), exposures(12, 1)) is None


def test_the_first_integration_of_each_exposure_is_a_transient_and_no_cycle():
    rng = np.random.default_rng(2)
    levels = 200 + rng.normal(0, 3, 20)
    levels[::4] -= 30
    assert level_cycle(levels.tolist(), exposures(20, 4)) is None
    assert level_cycle([1.0, 2.0], exposures(2, 1)) is None
    assert level_cycle([1.0, float("nan")] * 6, exposures(12, 1)) is None


def planes(offset, bad=None):
    """Group 0 of five ramps with 4 reference rows; columns 2, 4, 6, .. of the second output are shifted."""
    rng = np.random.default_rng(3)
    shape = (64, 128)
    sky = np.ones(shape, bool)
    sky[:4] = False
    fixed = rng.normal(0, 15, shape)
    pixels = ExposurePixels(sky, sky, ~sky, [slice(0, 64), slice(64, 128)])
    alive = np.ones(shape, bool)
    parity = ColumnParity()
    for ramp in range(5):
        signal = (100 + fixed + rng.normal(0, 15, shape)).astype(np.float32)
        signal[4:, 65::2] += offset
        if bad is not None:
            y, x = bad
            signal[y, x] += 500
        parity.add(Plane(ramp, 0, signal, np.uint8(~alive), ~alive, alive), pixels)
        parity.add(Plane(ramp, 1, signal + 1000, np.uint8(~alive), ~alive, alive), pixels)
    return parity, pixels


def test_columns_that_a_bad_reference_pixel_shifted_are_named_with_its_place():
    parity, pixels = planes(-12.0, bad=(2, 81))
    [pattern] = parity.found(pixels)
    assert "amplifier 2" in pattern.what
    assert abs(pattern.value + 12) < 4 * pattern.error
    assert pattern.sigmas > 5
    assert "columns 1, 3, 5" in pattern.said
    assert "x = 82, y = 3" in pattern.said


def test_columns_that_do_not_differ_are_not_named():
    parity, pixels = planes(0.0, bad=(2, 81))
    assert parity.found(pixels) == []
    assert ColumnParity().found(pixels) == []
