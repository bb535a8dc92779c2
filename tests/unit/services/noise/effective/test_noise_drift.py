"""What whole ramps drift by: its part in the error of temporal noise, and how 1/f noise makes it."""

import math

import numpy as np
import pytest
from scipy import fft

from services.noise.effective.effective_noise import SampleSpread, common_drift, drift_ratio, temporal_error


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.3])
@pytest.mark.parametrize("groups", [2, 8, 20])
def test_a_line_of_many_groups_drifts_as_drawn_noise_does(groups, exponent):
    # Given 1/f noise of an exponent, averaged over frames of 64 samples
    rng = np.random.default_rng(1)
    samples, frames = 64, 4096
    k = np.arange(1, samples * frames // 2)
    at = np.arange(groups) - (groups - 1) / 2
    weights = at / np.sum(at**2) * (groups - 1)
    rises, steps = [], []
    for _ in range(8):
        spectrum = np.zeros(samples * frames // 2 + 1, complex)
        spectrum[1:-1] = (rng.standard_normal(k.size) + 1j * rng.standard_normal(k.size)) / k ** (
            exponent / 2
        )
        offsets = fft.irfft(spectrum, samples * frames).reshape(frames, samples).mean(axis=1)
        windows = np.lib.stride_tricks.sliding_window_view(offsets, groups)
        rises.append(np.var(windows @ weights))
        steps.append(np.var(np.diff(offsets)))
    # Then the rise of a line through so many frames varies by so much more than neighbours differ
    assert drift_ratio(groups, exponent) == pytest.approx(np.mean(rises) / np.mean(steps), rel=0.04)


def test_ramps_that_happen_to_lie_close_together_have_the_error_of_their_usual_drift():
    # Given sets of ten ramps of many pixels, a tenth of whose variance is the ramps' own offsets
    rng = np.random.default_rng(2)
    drift, inside = 0.1, []
    for _ in range(2000):
        medians = math.sqrt(drift) * rng.standard_normal((10, 1))
        spread = SampleSpread(medians, np.full((10, 1), math.sqrt(1 - drift)))
        sigma = math.sqrt(1 - drift + spread.drift)
        variances = spread.variances(about_own_median=False)
        error = temporal_error(sigma, variances, 10**6, max(spread.drift, drift))
        inside.append((abs(sigma - 1) < error, abs(sigma - 1) < 3 * error))
    # Then the truth lies within one and three errors as often as it should
    assert np.mean(inside, axis=0)[0] > 0.68
    assert np.mean(inside, axis=0)[1] > 0.99


def test_a_single_plane_has_no_drift():
    assert SampleSpread(np.ones((1, 2)), np.ones((1, 2))).drift == 0


def test_what_amplifiers_drift_by_together_does_not_average_out():
    rng = np.random.default_rng(4)
    common, each = rng.normal(0, 2, (4000, 1)), rng.normal(0, 3, (4000, 4))
    medians = common + each
    medians[7, 2] = np.nan
    assert common_drift(medians) == pytest.approx(4 + 9 / 4, rel=0.07)
    assert math.isnan(common_drift(medians[:1]))
