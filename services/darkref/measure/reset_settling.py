"""The settling of a detector after its reset, which bends the first groups of every ramp.

For some tens of seconds after a reset the bias of a pixel drifts towards its level. That is no dark
current, but it adds to the slope of a straight line through the ramp: 20 e- that settle with a time constant
of 20 s double the 33 e- per 1000 s of a long-wave detector in ramps of 215 s. The dark reference has to
contain the settling, as every exposure does. The rates that are measured from it must not.

`fit_settling` fits the ramp of the median pixel with a line and an exponential, ``a + b t + A exp(-t/tau)``.
Where the exponential is significant, its curve is subtracted before anything is measured
(`without_settling`): from the groups of the mean ramp, and, as the slope that a line has through it, from the
rates of pixels and integrations. Leaving out the first groups instead would need six time constants to be as
good, which is more than half of a short ramp, and would double the noise of every pixel.

The curve is that of the median pixel. Pixels with another share of it keep the difference: it averages out in
medians over the detector, and the pixels that settle by far more are flagged RC.

The error of the rate grows by what the exponential takes from the line (the two are correlated). The scatter
of the groups about the fit tells how much that is, so the noise that whole frames share is in it.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from services.darkref.measure.planes import MeanRamp, measuring_threads
from shared.statistics.medians import median

#: Fewest groups that are fitted: four parameters, and as many groups to tell their scatter.
_FEWEST_GROUPS = 8
#: Bounds of the time constant, in groups. A shorter one is over before the second group. With a longer one
#: than a quarter of the ramp (the other bound), the exponential is a parabola, which may be any drift.
_SHORTEST = 0.2
_LONGEST = 0.25
#: Time constants that are tried, evenly spaced in their logarithm.
_TIME_CONSTANTS = 60
#: Probability below which the scatter of a straight ramp does not make such an exponential by chance. An
#: exponential too many costs precision, and one too few the right value.
_CHANCE = 1e-3
#: Scatter about a straight line, in units of the ramp's rise, that is but the rounding of float32.
_ROUNDING = 1e-6
#: Pixels that the median ramp is taken over; the frames' own noise is far above that of so many.
_ENOUGH_PIXELS = 1 << 19


@dataclass(frozen=True)
class Settling:
    """An exponential that is significant in the ramp of the median pixel.

    Attributes
    ----------
    amplitude : float
        A, in the unit of the ramp: what has to settle at group 0; negative where the signal rises.
    tau : float
        Time constant, groups.
    slope_error : float
        1 sigma that the fit adds to the error of the slope, in the unit of the ramp per group.
    chance : float
        Probability that the scatter about a straight line looks like it.
    """

    amplitude: float
    tau: float
    slope_error: float
    chance: float

    def curve(self, groups: int) -> NDArray[np.float64]:
        """Return what has settled by each group since group 0, where it is 0; 1D (groups)."""
        result: NDArray[np.float64] = self.amplitude * np.expm1(-np.arange(groups) / self.tau)
        return result

    def slopes(self, groups: int) -> NDArray[np.float64]:
        """Return the slope of a line through the first n groups of the curve, for n = 0..groups.

        1D (groups + 1), in the unit of the ramp per group; 0 for fewer than two groups.
        """
        curve = self.curve(groups)
        position = np.arange(groups, dtype=np.float64)
        n = np.arange(1, groups + 1, dtype=np.float64)
        g, gg = np.cumsum(position), np.cumsum(position**2)
        y, gy = np.cumsum(curve), np.cumsum(position * curve)
        determinant = n * gg - g**2
        slopes = np.zeros(groups + 1)
        np.divide(n * gy - g * y, determinant, out=slopes[1:], where=determinant > 0)
        return slopes


def fit_settling(medians: NDArray[np.float64]) -> Settling | None:
    """Fit a median ramp with a line and an exponential.

    Parameters
    ----------
    medians : ndarray, 1D (groups)
        Ramp of the median pixel.

    Returns
    -------
    Settling or None
        None where the exponential is not significant, or there are too few groups to tell.

    Examples
    --------
    >>> groups = np.arange(20)
    >>> ramp = 0.3 * groups - 20 * np.exp(-groups / 2) + 0.01 * np.cos(7 * groups)
    >>> settling = fit_settling(ramp)
    >>> float(round(settling.amplitude, 1)), float(round(settling.tau, 2))
    (-20.0, 2.0)
    """
    groups = len(medians)
    if groups < _FEWEST_GROUPS or not np.isfinite(medians).all():
        return None
    taus = np.geomspace(_SHORTEST, _LONGEST * groups, _TIME_CONSTANTS)
    nearest = int(np.argmin([_fit(medians, tau).scatter for tau in taus]))
    finer = np.geomspace(
        taus[max(nearest - 1, 0)], taus[min(nearest + 1, len(taus) - 1)], _TIME_CONSTANTS + 1
    )
    taus = np.union1d(taus, finer)
    fits = [_fit(medians, float(tau)) for tau in taus]
    best = min(fits, key=lambda fit: fit.scatter)
    freedom = groups - 4
    straight = _fit(medians, None).scatter
    if straight <= groups * (_ROUNDING * float(np.ptp(medians))) ** 2:
        return None
    gain = max(straight - best.scatter, 0.0) / 2
    chance = float(special.fdtrc(2, freedom, gain * freedom / best.scatter))
    if chance > _CHANCE:
        return None
    # Every time constant counts by its likelihood: near the limit many do nearly as well, with other slopes.
    likelihood = np.gradient(np.log(taus)) * [(best.scatter / fit.scatter) ** (freedom / 2) for fit in fits]
    spread = np.array(
        [fit.slope_variance * best.scatter / freedom + (fit.slope - best.slope) ** 2 for fit in fits]
    )
    student = float(special.stdtrit(freedom, special.ndtr(1)))
    error = student * math.sqrt(float(np.average(spread, weights=likelihood)))
    return Settling(amplitude=best.amplitude, tau=best.tau, slope_error=error, chance=chance)


@dataclass(frozen=True)
class _Fit:
    # A line with an exponential of given time constant: the sum of squares that it leaves, and what the
    # exponential adds to the variance of the slope, in units of the variance of a group.
    tau: float
    scatter: float
    amplitude: float
    slope: float
    slope_variance: float


def _fit(medians: NDArray[np.float64], tau: float | None) -> _Fit:
    """Fit a line, and an exponential unless `tau` is None."""
    position = np.arange(len(medians), dtype=np.float64)
    basis = np.stack([position - position.mean(), np.ones_like(position)])
    if tau is not None:
        basis = np.vstack([basis, np.exp(-position / tau)])
    solution = np.linalg.lstsq(basis.T, medians, rcond=None)[0]
    variance = np.linalg.inv(basis @ basis.T)[0, 0] - 1 / np.sum(basis[0] ** 2)
    return _Fit(
        tau=tau or 0.0,
        scatter=float(np.sum((medians - solution @ basis) ** 2)),
        amplitude=float(solution[2]) if tau else 0.0,
        slope=float(solution[0]),
        slope_variance=float(variance),
    )


def find_settling(ramp: MeanRamp) -> Settling | None:
    """Return the settling of a mean ramp of flight mode; None where it has none that is significant.

    Looks at the science pixels whose last group every integration measures, so that none drops out.
    """
    pixels = ramp.science & ramp.complete & np.isfinite(ramp.slope)
    chosen = np.flatnonzero(pixels)
    if not chosen.size:
        return None
    chosen = chosen[:: -(-chosen.size // _ENOUGH_PIXELS)]

    def median_of(group: int) -> float:
        return median(ramp.sci(group).reshape(-1)[chosen])

    with measuring_threads() as threads:
        return fit_settling(np.array(list(threads.map(median_of, range(ramp.groups)))))


def without_settling(ramp: MeanRamp, settling: Settling | None) -> MeanRamp:
    """Return a mean ramp as it would be without the settling of the median pixel.

    Parameters
    ----------
    ramp : MeanRamp
    settling : Settling or None
        None changes nothing.
    """
    if settling is None:
        return ramp
    curve = settling.curve(ramp.groups).astype(np.float32)
    slopes = settling.slopes(ramp.groups).astype(np.float32)
    measured = np.zeros(ramp.slope.shape, np.uint16)
    for group in range(ramp.groups):
        measured += ramp.n_valid(group) > 0

    def sci(group: int) -> NDArray[np.float32]:
        # Where nothing was measured, SCI is 0.
        settled: NDArray[np.float32] = ramp.sci(group) - curve[group] * (ramp.n_valid(group) > 0)
        return settled

    def integration_slope(index: int) -> NDArray[np.float32]:
        # Only whole ramps have one.
        settled: NDArray[np.float32] = ramp.integration_slope(index) - slopes[-1]
        return settled

    return replace(ramp, slope=ramp.slope - slopes[measured], sci=sci, integration_slope=integration_slope)
