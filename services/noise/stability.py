"""Whether a detector stays as it is: levels, dark rate and noise against time."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from services.noise.pixels import Pixels, Plane
from services.noise.products import Stability, Trend
from services.noise.robust import gather
from services.noise.transients import transients
from shared.medians import Room, median


class Levels:
    """Median signal of every (integration, group), one plane at a time.

    Hits lift the median of all pixels by far more than noise does, so a pixel takes part until it is hit.
    """

    def __init__(self) -> None:
        self.detector: list[list[float]] = []
        self.amplifiers: list[list[list[float]]] = []
        self._room = Room()

    def add(self, plane: Plane, pixels: Pixels) -> None:
        """Add the next plane, groups and integrations ascending."""
        if plane.group == 0:
            self.detector.append([])
            self.amplifiers.append([])
        use = plane.alive & pixels.active
        whole, parts = gather(plane.signal, use, pixels.amplifiers, self._room)
        medians = [median(part, self._room) for part in parts]
        self.amplifiers[-1].append([_rounded(value) for value in medians])
        self.detector[-1].append(_rounded(medians[0] if len(parts) == 1 else median(whole, self._room)))


def linear_trend(times: ArrayLike, values: ArrayLike) -> Trend | None:
    """Return the least-squares line through values against time; None with fewer than three of them.

    Parameters
    ----------
    times : array_like, 1D
        In whatever unit the slope is to be per.
    values : array_like, 1D
        Those that are not finite are left out.
    """
    t, y = np.asarray(times, float), np.asarray(values, float)
    known = np.isfinite(t) & np.isfinite(y)
    t, y = t[known], y[known]
    if len(t) < 3 or np.ptp(t) == 0:
        return None
    # From the first time on: an MJD has too many digits to be squared.
    t = t - t[0]
    # As scipy's linregress, whose package takes longer to load than all of this stage.
    spread, together, _, _ = np.cov(t, y, bias=True).flat
    slope = together / spread
    residuals = y - (y.mean() - slope * t.mean() + slope * t)
    scatter = math.sqrt(float(np.sum(residuals**2)) / (len(t) - 2))
    error = scatter / math.sqrt(float(np.sum((t - t.mean()) ** 2)))
    return Trend(slope=float(slope), slope_error=error, scatter=scatter)


def stability(
    mjd: Sequence[float],
    exposures: Sequence[str],
    group_time: float,
    levels: Levels,
    dark_rates: Sequence[float],
    dark_rate_errors: Sequence[float],
    cds_noise: Sequence[float],
) -> Stability:
    """Put together what changes from integration to integration.

    Parameters
    ----------
    mjd : sequence of float
        Start of each integration, MJD UTC.
    exposures : sequence of str
        Exposure that each integration is from.
    group_time : float
        s.
    levels : Levels
        Of the same integrations, DN.
    dark_rates, dark_rate_errors : sequence of float
        e- per 1000 s.
    cds_noise : sequence of float
        e-.
    """
    hours = [(time - min(mjd)) * 24 for time in mjd]
    by_amplifier = np.array(levels.amplifiers)
    seconds = np.arange(by_amplifier.shape[1]) * group_time
    mean_ramps = by_amplifier.mean(axis=0)
    amplifiers = range(by_amplifier.shape[2])
    return Stability(
        integration_mjd=list(mjd),
        exposure_ids=list(exposures),
        median_dn=levels.detector,
        amplifier_median_dn=levels.amplifiers,
        dark_rate_e_per_ks=list(dark_rates),
        dark_rate_error_e_per_ks=list(dark_rate_errors),
        cds_noise_e=list(cds_noise),
        dark_rate_per_hour=linear_trend(hours, dark_rates),
        cds_noise_per_hour=linear_trend(hours, cds_noise),
        amplifier_pedestal_per_hour=[linear_trend(hours, by_amplifier[:, 0, a]) for a in amplifiers],
        amplifier_ramp_per_second=[linear_trend(seconds, mean_ramps[:, a]) for a in amplifiers],
        transients=transients(levels.detector, dark_rates, exposures, dark_rate_errors),
    )


def integration_starts(start_mjd: float, end_mjd: float, integrations: int) -> list[float]:
    """Return when each integration of an exposure started, MJD, taking them to be equally long."""
    return [start_mjd + (end_mjd - start_mjd) * n / integrations for n in range(integrations)]


def _rounded(value: float) -> float:
    # A hundredth of what the median of the smallest amplifier is known to.
    return round(value, 5)
