"""What a set of simulated darks must show, in closed form from what was drawn: e-, e-/s, hits/cm2/s.

Nothing here is from the code under test. White noise, dark rates and the converter's rounding are known for
each pixel; 1/f noise is a sum of known frequencies, so that the variance of any combination of reads is a
sum of cosines. A median over pixels is solved for on the pixels' own variances.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft, optimize, special

from nircam_darks.simulation.cosmic_rays import charge_library
from nircam_darks.simulation.detector import SimulatedPixels
from nircam_darks.simulation.exposure import clocking_of, frames_per_integration
from nircam_darks.simulation.noise import ONE_OVER_F, Clocking, band_power
from nircam_darks.simulation.simulate import SimulationPlan

#: Figures with 1/f noise in them: these truths hold where no reference pixel correction runs.
NO_CLOSED_FORM = (
    "CDS noise",
    "CDS noise, medians removed",
    "spatial effective noise",
    "temporal effective noise",
    "correlated 1/f noise",
    "uncorrelated 1/f noise",
)
#: SimulatedPixels that a median is solved on; more would change nothing.
_ENOUGH = 200_000


def truths(plan: SimulationPlan, pixels: SimulatedPixels) -> dict[str, float]:
    """Return the true value of every figure that is compared, by its name."""
    clocking, pink = clocking_of(plan), ONE_OVER_F[plan.device.channel]
    outputs = clocking.noutputs
    power = pink.common + pink.each
    whole, within = band_power(clocking.samples), variance_within_a_frame(clocking)
    step = max(1, int(pixels.science.sum()) // _ENOUGH)
    white = pixels.white_noise[pixels.science][::step].astype(float) ** 2
    rate = pixels.rate[pixels.science][::step].astype(float)
    rounding = pixels.gain**2 / 12

    n = plan.ngroups
    read = np.zeros((n // 2, n))
    pairs = np.arange(n // 2)
    read[pairs, 2 * pairs], read[pairs, 2 * pairs + 1] = -1, 1
    at = np.arange(n) - (n - 1) / 2
    weights = at / np.sum(at**2) * (n - 1)
    seconds = plan.tgroup * (n - 1)
    poisson_pair = rate * plan.tgroup
    # Rauscher et al. 2007 (PASP 119, 768), equation 1: signal's part of the noise of a line's rise.
    poisson_slope = rate * seconds * 6 * (n**2 + 1) / (5 * n * (n + 1))

    pair_drift = _drift(plan, read)
    cds = 2 * (white + power * whole + rounding) + poisson_pair + power * pair_drift
    apart = pink.each * (1 - 1 / outputs) * (2 * (whole - within) + pair_drift)
    cds_removed = 2 * (white + power * within + rounding) + poisson_pair + apart
    squares = float(np.sum(weights**2))
    spatial = squares * (white + power * within + rounding) + poisson_slope
    temporal = squares * (white + power * whole + rounding) + poisson_slope
    temporal += power * _drift(plan, weights[None])
    own = pink.each if outputs > 1 else power
    # Power is per e-fold: from one period in the time of all lines to half the pixel clock.
    band = math.log(clocking.rows * clocking.line / 2)
    library = charge_library()
    results = {
        "dark current": 1000 * pixels.bulk_rate,
        "CDS noise": math.sqrt(float(np.median(cds))),
        "CDS noise, medians removed": math.sqrt(float(np.median(cds_removed))),
        "read noise (white)": math.sqrt(float(np.median(white))),
        "spatial effective noise": robust_sigma(rate * seconds, np.sqrt(spatial)),
        "temporal effective noise": math.sqrt(float(np.median(temporal))),
        "kTC noise": pixels.ktc,
        "uncorrelated 1/f noise": math.sqrt(own * band),
        "hit rate": plan.hit_rate,
        "charge per event": float(
            np.interp(0.5, library.probabilities, library.scenes[plan.scene].quantiles)
        ),
    }
    if outputs > 1:
        results["correlated 1/f noise"] = math.sqrt(pink.common * band)
    return results


def variance_within_a_frame(clocking: Clocking) -> float:
    """Return the variance, about its mean over an output's pixels, of 1/f noise of power 1 an e-fold."""
    read = np.zeros(clocking.samples)
    lines = read[: clocking.rows * clocking.line].reshape(clocking.rows, clocking.line)
    lines[:, : clocking.columns // clocking.noutputs] = 1
    k = np.arange(1, clocking.samples // 2)
    in_mean = np.abs(fft.rfft(read)[k] / read.sum()) ** 2
    return float(np.sum((1 - in_mean) / k))


def _drift(plan: SimulationPlan, read: NDArray[np.float64]) -> float:
    """Return the expected sample variance, over a set, of combinations of its frames' 1/f offsets.

    `read` has a row of weights of the groups for each value that an integration gives; power 1 an e-fold.
    """
    each = frames_per_integration(plan)
    length = max(8, fft.next_fast_len(int(1.1 * plan.nints * each) + 1, real=True))
    k = np.arange(1, length // 2)
    lags = np.arange(plan.nints * each)
    covariance = (np.cos(2 * np.pi * np.outer(lags, k) / length) / k).sum(axis=1)
    values = len(read)
    design = np.zeros((plan.nints * values, plan.nints * each))
    for integration in range(plan.nints):
        start = integration * each + 1
        design[integration * values : (integration + 1) * values, start : start + plan.ngroups] = read
    between = design @ covariance[np.abs(lags[:, None] - lags)] @ design.T
    count = len(design) * plan.exposures
    # Exposures do not know of one another.
    return float((plan.exposures * np.trace(between) - plan.exposures * between.sum() / count) / (count - 1))


def robust_sigma(means: NDArray[np.float64], sigmas: NDArray[np.float64]) -> float:
    """Return 1.4826 MAD of a sample that holds one Gaussian value of each mean and sigma."""

    def below(value: float) -> float:
        return float(np.mean(special.ndtr((value - means) / sigmas))) - 0.5

    spread = float(sigmas.max()) + float(np.ptp(means))
    centre = float(optimize.brentq(below, means.min() - spread, means.max() + spread))

    def inside(width: float) -> float:
        high, low = (centre + width - means) / sigmas, (centre - width - means) / sigmas
        return float(np.mean(special.ndtr(high) - special.ndtr(low))) - 0.5

    return float(optimize.brentq(inside, 0, spread)) / float(special.ndtri(0.75))
