"""Whether a detector is stable during a set: levels, dark rate and CDS noise against time."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.noise.effective.effective_noise import drift_ratio
from services.noise.planes import ExposurePixels, Plane
from services.noise.stability.transients import reset_transients
from shared.products.noise import Stability, Trend
from shared.statistics.medians import Workspace, gather, median
from shared.statistics.trends import linear_trend
from shared.statistics.verdicts import Value


class Levels:
    """Median signal of each (integration, group), collected one plane at a time.

    A pixel takes part until it is hit: hits raise the median over all pixels by far more than noise does.

    Attributes
    ----------
    detector : list of list of float
        Per (integration, group), DN.
    amplifiers : list of list of list of float
        Per (integration, group, amplifier), DN.
    """

    def __init__(self) -> None:
        self.detector: list[list[float]] = []
        self.amplifiers: list[list[list[float]]] = []
        self._workspace = Workspace()

    def add(self, plane: Plane, pixels: ExposurePixels) -> None:
        """Add the next plane, in ascending order of integration and group."""
        if plane.group == 0:
            self.detector.append([])
            self.amplifiers.append([])
        use = plane.alive & pixels.active
        whole, parts = gather(plane.signal, use, pixels.amplifiers, self._workspace)
        medians = [median(part, self._workspace) for part in parts]
        self.amplifiers[-1].append([_rounded(value) for value in medians])
        self.detector[-1].append(_rounded(medians[0] if len(parts) == 1 else median(whole, self._workspace)))


def set_stability(
    mjd: Sequence[float],
    exposures: Sequence[str],
    group_time: float,
    levels: Levels,
    dark_rates: Sequence[float],
    dark_rate_errors: Sequence[float],
    cds_noise: Sequence[float],
) -> Stability:
    """Return what changes from integration to integration of a set, with straight lines against time.

    Parameters
    ----------
    mjd : sequence of float
        Start of each integration, MJD UTC.
    exposures : sequence of str
        Exposure of each integration.
    group_time : float
        Time from group to group, s.
    levels : Levels
        Of the same integrations.
    dark_rates, dark_rate_errors : sequence of float
        Median slope of each integration and its 1-sigma error, e- per 1000 s.
    cds_noise : sequence of float
        Of each integration, e-.
    """
    hours = [(time - min(mjd)) * 24 for time in mjd]
    by_amplifier = np.array(levels.amplifiers)
    seconds = np.arange(by_amplifier.shape[1]) * group_time
    # Of a group that was never read, the others.
    known = np.isfinite(by_amplifier)
    with np.errstate(invalid="ignore"):
        mean_ramps = np.where(known, by_amplifier, 0.0).sum(axis=0) / known.sum(axis=0)
    amplifiers = range(by_amplifier.shape[2])
    return Stability(
        integration_mjd=list(mjd),
        exposure_ids=list(exposures),
        median_dn=levels.detector,
        amplifier_median_dn=levels.amplifiers,
        dark_rate_e_per_ks=list(dark_rates),
        dark_rate_error_e_per_ks=list(dark_rate_errors),
        cds_noise_e=list(cds_noise),
        dark_rate_per_hour=_trend(hours, dark_rates),
        cds_noise_per_hour=_trend(hours, cds_noise),
        amplifier_pedestal_per_hour=[_trend(hours, by_amplifier[:, 0, a]) for a in amplifiers],
        amplifier_ramp_per_second=[_trend(seconds, mean_ramps[:, a]) for a in amplifiers],
        transients=reset_transients(levels.detector, dark_rates, exposures, dark_rate_errors),
    )


def level_slope(levels: NDArray[np.float64]) -> float:
    """Return the least-squares slope of the levels of a ramp (1D, groups); NaN with fewer than two."""
    known = np.flatnonzero(np.isfinite(levels))
    if known.size < 2:
        return math.nan
    at = known - known.mean()
    return float(at @ levels[known] / (at @ at))


def level_rate(levels: Levels) -> Value:
    """Return the mean slope of the levels of an exposure, DN/group, and its 1-sigma error.

    The error is that of the 1/f noise that moves the whole detector from group to group: from the differences
    of the levels of pairs of groups, see `drift_ratio`. NaN where fewer than two pairs show it.
    """
    ramps = np.array(levels.detector, dtype=float)
    slopes = np.array([level_slope(ramp) for ramp in ramps])
    slopes = slopes[np.isfinite(slopes)]
    groups = ramps.shape[1]
    if not slopes.size:
        return Value(math.nan, math.nan)
    steps = (ramps[:, 1::2] - ramps[:, : groups - groups % 2 : 2]).ravel()
    steps = steps[np.isfinite(steps)]
    if steps.size < 2:
        return Value(float(slopes.mean()), math.nan)
    variance = float(steps.var(ddof=1)) * drift_ratio(groups) / (groups - 1) ** 2
    return Value(float(slopes.mean()), math.sqrt(variance / slopes.size))


def integration_starts(start_mjd: float, end_mjd: float, integrations: int) -> list[float]:
    """Return when each integration of an exposure started, MJD; all are taken to be equally long."""
    return [start_mjd + (end_mjd - start_mjd) * n / integrations for n in range(integrations)]


def _trend(times: ArrayLike, values: ArrayLike) -> Trend | None:
    line = linear_trend(times, values)
    if line is None:
        return None
    return Trend(slope=line.slope, slope_error=line.slope_error, scatter=line.scatter, visible=line.visible)


def _rounded(value: float) -> float:
    # To a hundredth of the statistical error of the smallest amplifier's median.
    return round(value, 5)
