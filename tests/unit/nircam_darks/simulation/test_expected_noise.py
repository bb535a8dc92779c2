"""The predicted noise of a simulated set, against ramps that are drawn group by group."""

from dataclasses import replace

import numpy as np
import pytest

from nircam_darks.simulation.detector import SimulatedPixels, draw_pixels
from nircam_darks.simulation.expected_noise import expected_noise
from nircam_darks.simulation.exposure import expose
from nircam_darks.simulation.plan import SimulationPlan
from shared.statistics.robust import median_and_sigma

WINDOW = slice(1000, 1064)
#: No cosmic rays: nothing flags them here.
PLAN = SimulationPlan("NRCALONG", "SUB64P", ngroups=12, nints=40, cosmic_ray_rate=0)
SECONDS = PLAN.tgroup * (PLAN.ngroups - 1)


def rising(electrons: float, share: float, times: float) -> SimulatedPixels:
    """Pixels that collect `electrons` (scatter 20 %) over a ramp, a share of them `times` as much."""
    pixels = draw_pixels(PLAN.device, WINDOW, WINDOW, PLAN.seed)
    rng = np.random.default_rng(8)
    rate = electrons / SECONDS * np.clip(rng.normal(1, 0.2, PLAN.shape), 0.05, None)
    rate[rng.random(PLAN.shape) < share] *= times
    return replace(pixels, rate=rate.astype(np.float32), bulk_rate=float(np.median(rate)))


def width_of_slopes(pixels: SimulatedPixels) -> float:
    """Mean over ramps of the robust sigma of the rise over the pixels, e-."""
    at = np.arange(PLAN.ngroups) - (PLAN.ngroups - 1) / 2
    weights = at / np.sum(at**2) * (PLAN.ngroups - 1)
    rises = np.zeros((PLAN.nints, *PLAN.shape))
    for group in expose(PLAN, pixels, np.random.default_rng(4)):
        raw = group.data - pixels.superbias.astype(float)
        rises[group.integration] += weights[group.group] * (raw + pixels.nonlinearity * raw**2)
    used = pixels.science & ~pixels.dead
    return float(np.mean([median_and_sigma(rise[used])[1] for rise in rises])) * pixels.gain


@pytest.mark.parametrize(("share", "times"), [(0.0, 1.0), (0.06, 10.0)])
def test_spatial_noise_is_the_width_of_all_pixels_together(share, times):
    # Given a dark whose pixels differ by more than their read noise, with a tail of bright ones
    pixels = rising(40.0, share, times)
    # When its spatial effective noise is predicted
    predicted = expected_noise(PLAN, pixels, PLAN.nints, np.random.default_rng(2)).spatial
    # Then it is what simulated ramps show
    assert width_of_slopes(pixels) == pytest.approx(predicted.value, rel=0.012)
    assert 0 < predicted.error < 0.012 * predicted.value
