"""Levels of the amplifiers, and what changes from integration to integration of a set."""

import math

import numpy as np
import pytest

from services.noise.planes import ExposurePixels, Plane
from services.noise.stability.stability import Levels, integration_starts, level_rate, set_stability
from shared.products.noise import Stability

MIB = 1024**2


def test_levels_are_medians_of_the_pixels_that_are_not_hit():
    # Given two amplifiers and a plane of which a third was hit
    rng = np.random.default_rng(2)
    signal = rng.normal(100, 5, (20, 12)).astype(np.float32)
    alive = np.ones((20, 12), bool)
    alive[:, ::3] = False
    signal[:, ::3] += 1e4
    everywhere = np.ones((20, 12), bool)
    pixels = ExposurePixels(everywhere, everywhere, ~everywhere, [slice(0, 6), slice(6, 12)])
    levels = Levels()
    for group in range(2):
        levels.add(Plane(0, group, signal + group, np.uint8(~alive), ~alive, alive), pixels)
    assert levels.detector[0][1] == pytest.approx(np.median(signal[alive]) + 1, abs=2e-5)
    right = signal[:, 6:][alive[:, 6:]]
    assert levels.amplifiers[0][0][1] == pytest.approx(np.median(right), abs=2e-5)


def test_drift_of_each_amplifier_is_found_and_survives_json():
    # Given two amplifiers: one rises 2 DN/s within a ramp, the other's pedestal 3 DN an hour
    levels = Levels()
    for n in range(5):
        levels.amplifiers.append([[2.0 * 10 * g, 3.0 * n] for g in range(4)])
        levels.detector.append([math.nan] * 4)
    result = set_stability(
        [59680 + n / 24 for n in range(5)], ["a"] * 5, 10.0, levels, [1.0] * 5, [0.1] * 5, [9.0] * 5
    )
    again = Stability.model_validate_json(result.model_dump_json())
    assert again.amplifier_ramp_per_second[0].slope == pytest.approx(2)
    assert again.amplifier_ramp_per_second[1].slope == pytest.approx(0)
    assert again.amplifier_pedestal_per_hour[1].slope == pytest.approx(3, rel=1e-6)
    assert again.dark_rate_per_hour.slope == 0
    assert math.isnan(again.median_dn[0][0])


def test_integrations_start_evenly():
    assert integration_starts(10.0, 16.0, 3) == [10.0, 12.0, 14.0]


def test_rate_of_an_exposure_has_the_error_of_what_moves_all_its_pixels():
    # Given exposures of three integrations whose levels rise by 0.5 DN a group and move by 1/f noise
    rng = np.random.default_rng(6)
    frames, groups = 3 * 12, 12
    pulls = []
    for _ in range(300):
        spectrum = np.zeros(512, complex)
        spectrum[1:] = rng.standard_normal((2, 511)).T.copy().view(complex)[:, 0] / np.sqrt(np.arange(1, 512))
        offsets = np.fft.irfft(spectrum, 1023)[:frames].reshape(3, groups) * 100
        levels = Levels()
        levels.detector = (20 + 0.5 * np.arange(groups) + offsets).tolist()
        rate = level_rate(levels)
        pulls.append((rate.value - 0.5) / rate.error)
    assert abs(np.mean(pulls)) < 0.2
    assert 0.75 < np.std(pulls) < 1.3
    # And where a group is missing, it is left out
    levels.detector[0][5] = math.nan
    assert math.isfinite(level_rate(levels).error)
    levels.detector = [[1.0, 3.0]]
    assert level_rate(levels).value == pytest.approx(2.0)
    assert math.isnan(level_rate(levels).error)
    levels.detector = [[1.0]]
    assert math.isnan(level_rate(levels).value)
