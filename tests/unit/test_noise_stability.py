"""Stability against time, verdicts, and the memory plan."""

import math

import numpy as np
import pytest
from configurations import configuration
from scipy import optimize

from services.noise.memory import Windows, plan, resident
from services.noise.pixels import Pixels, Plane, pixels_of
from services.noise.products import Stability
from services.noise.stability import Levels, integration_starts, linear_trend, stability
from services.noise.verdicts import judge, lacking, overall
from shared.errors import EnvironmentFault, PermanentError

MIB = 1024**2


def test_trend_is_the_least_squares_line_with_its_error():
    rng = np.random.default_rng(1)
    times = 59680 + np.sort(rng.uniform(0, 1, 30))
    values = 3 + 7 * (times - 59680) + rng.normal(0, 0.4, 30)
    # Given an independent fit
    best, covariance = optimize.curve_fit(lambda t, a, b: a + b * (t - 59680.5), times, values)
    trend = linear_trend(times, values)
    assert trend.slope == pytest.approx(best[1], rel=1e-6)
    assert trend.slope_error == pytest.approx(math.sqrt(covariance[1, 1]), rel=1e-4)
    assert trend.scatter == pytest.approx(0.4, rel=0.3)


def test_trend_leaves_out_what_is_missing_and_needs_three_points():
    assert linear_trend([0, 1, 2, 3], [0, 2, math.nan, 6]).slope == pytest.approx(2)
    assert linear_trend([0, 1, 2], [0, 2, math.nan]) is None
    assert linear_trend([1, 1, 1], [0, 2, 3]) is None


def test_levels_are_medians_of_the_pixels_that_are_not_hit():
    # Given two amplifiers and a plane of which a third was hit
    rng = np.random.default_rng(2)
    signal = rng.normal(100, 5, (20, 12)).astype(np.float32)
    alive = np.ones((20, 12), bool)
    alive[:, ::3] = False
    signal[:, ::3] += 1e4
    everywhere = np.ones((20, 12), bool)
    pixels = Pixels(everywhere, everywhere, ~everywhere, [slice(0, 6), slice(6, 12)])
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
    found = stability(
        [59680 + n / 24 for n in range(5)], ["a"] * 5, 10.0, levels, [1.0] * 5, [0.1] * 5, [9.0] * 5
    )
    again = Stability.model_validate_json(found.model_dump_json())
    assert again.amplifier_ramp_per_second[0].slope == pytest.approx(2)
    assert again.amplifier_ramp_per_second[1].slope == pytest.approx(0)
    assert again.amplifier_pedestal_per_hour[1].slope == pytest.approx(3, rel=1e-6)
    assert again.dark_rate_per_hour.slope == 0
    assert math.isnan(again.median_dn[0][0])


def test_integrations_start_evenly():
    assert integration_starts(10.0, 16.0, 3) == [10.0, 12.0, 14.0]


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (15.9, 0.1, "within (15.90 ± 0.10, expected 15.77 ± 0.94)"),
        (18.77, 0.1, "3.2 sigma above expected (18.77 ± 0.10, expected 15.77 ± 0.94)"),
        (12.77, 0.1, "3.2 sigma below expected (12.77 ± 0.10, expected 15.77 ± 0.94)"),
        (15.9, 4.0, "not enough data (15.9 ± 4.0, expected 15.77 ± 0.94)"),
        (math.nan, 0.1, "not enough data"),
    ],
)
def test_verdict_in_words(value, error, verdict):
    assert judge(value, error, 15.77, 0.94).verdict == verdict


def test_overall_verdict_names_each_figure():
    line = overall(
        {
            "CDS noise": judge(15.9, 0.1, 15.77, 0.94),
            "temporal noise": lacking("few"),
            "jumps": judge(15.8, 0.1, 15.77, 0.94),
        }
    )
    assert line == "CDS noise, jumps within; temporal noise not enough data"


@pytest.mark.parametrize("ramps", [10, 40, 100, 200])
def test_plan_keeps_the_bound_whatever_the_number_of_ramps(ramps):
    full = configuration(2048, 2048, 108)
    for bound in (4096, 1024):
        windows = plan(full, ramps, bound * MIB, 200 * MIB)
        window = windows.rows * 2048 * (17 * ramps + windows.groups * (10 * ramps + 8))
        assert 200 * MIB + 165 * 2048**2 + window < bound * MIB
        assert 1 <= windows.groups <= 108
    # and what is read at once is worth a request
    assert plan(full, 10, 2048 * MIB, 200 * MIB).rows * 2048 * 4 >= MIB


def test_plan_of_a_small_subarray_is_one_window():
    assert plan(configuration(64, 64, 6), 10, 64 * MIB, 300 * MIB) == Windows(64, 6)
    assert resident() > 10 * MIB


def test_plan_says_how_much_memory_it_needs():
    with pytest.raises(EnvironmentFault, match=r"needs 9\d\d MiB .* may use 500 MiB: raise --max-memory"):
        plan(configuration(2048, 2048, 20), 10, 500 * MIB, 200 * MIB)


def test_pixels_are_sorted_by_mask_and_border():
    # Given a full-width stripe at the detector's lower edge, one science and one reference pixel masked
    key = configuration(8, 2048, substrt1=1, substrt2=1, noutputs=4)
    pixeldq = np.zeros((8, 2048), np.uint32)
    pixeldq[0, 0] = pixeldq[5, 100] = 1
    pixels = pixels_of(key, pixeldq, "x")
    assert pixels.sky.sum() == 4 * 2040
    assert pixels.active.sum() == 4 * 2040 - 1
    assert pixels.reference.sum() == 8 * 2048 - 4 * 2040 - 1
    assert len(pixels.amplifiers) == 4


def test_nothing_usable_is_refused_in_one_line():
    with pytest.raises(PermanentError, match="PIXELDQ marks every science pixel DO_NOT_USE") as refused:
        pixels_of(configuration(8, 8), np.ones((8, 8), np.uint32), "exposure.fits")
    assert "\n" not in str(refused.value)
