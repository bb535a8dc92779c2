"""Replace the ramp of each pixel that fits it by its model: a line, and a share of the common settling curve.

A dark serves exposures that are longer than itself: jwst's dark_current step (``stcal.dark_current``,
``extrapolate_dark``) continues it along its last two groups. In a measured ramp these are two noisy numbers.
Their difference has an error of root(2) sigma over root(N) a group, which after 20 groups is as many times
that error, more than the noise of the exposure that it is subtracted from. The slope of a whole ramp is known
``sqrt(G^3 / 6)`` times better. The dark of a good pixel has two numbers to it, not G:

    SCI[g] = rate * g + share * (c[g] - c[0])

with the settling curve c of the detector after a reset (0 where it does not settle). Both are fitted by the
second pass (`services.darkref.combine.segments`) with the covariance of the measured ramp. SCI is 0 in group
0, which jwst requires. ERR is the error of this model: the parameters' covariance for the variance of the
pixel's values, plus the Poisson noise of a line through so many groups, 6/5 of charge over gain at its end
(Rauscher et al. 2007, PASP 119, 768).

A pixel keeps its measured ramp where

- the model misfits by more than `MOST_MISFIT` sigma, overall (the ratio of the misfit's variance to that of
  the integrations about their mean ramp) or in any one group;
- DQ says HOT, RC, TELEGRAPH, DEAD, or UNRELIABLE_DARK: what it does is not of this kind, or is not known well
  enough;
- it has no ramp from end to end, or no scatter to judge the misfit by.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.darkref.combine.combine_set import CombinedSet
from services.darkref.combine.segments import SegmentFit
from services.darkref.kernels.segments import (
    MISFIT,
    RATE,
    RATE_RATE,
    RATE_SHARE,
    SHARE,
    SHARE_SHARE,
    VARIANCE,
)
from services.darkref.measure.planes import measuring_threads
from shared.nircam.dq import PixelFlag
from shared.statistics.medians import median

#: Sigma from which on a ramp is not of this kind: of Gaussian ramps 1e-4 are beyond it.
MOST_MISFIT = 4.0
#: Flags of pixels that keep their measured ramp.
MEASURED_RAMP_FLAGS = (
    PixelFlag.DO_NOT_USE
    | PixelFlag.DEAD
    | PixelFlag.HOT
    | PixelFlag.RC
    | PixelFlag.TELEGRAPH
    | PixelFlag.UNRELIABLE_DARK
)
#: Poisson variance at the end of a line through a ramp, over that of the ramp's own end.
POISSON_OF_LINE = 1.2


def pixels_with_model(
    fit: SegmentFit, quality: NDArray[np.uint32], science: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which pixels have a model ramp.

    Parameters
    ----------
    fit : SegmentFit
    quality : ndarray of uint32, 2D (y, x)
        DQ.
    science : ndarray of bool, 2D (y, x)

    Returns
    -------
    ndarray of bool, 2D (y, x)
    """
    # Comparisons with NaN are False.
    fits = fit.planes.plane(MISFIT) <= np.float32(MOST_MISFIT)
    chosen: NDArray[np.bool_] = fits & science & (quality & MEASURED_RAMP_FLAGS.mask == 0)
    return chosen


def write_model_ramps(combined: CombinedSet, fit: SegmentFit, chosen: NDArray[np.bool_], gain: float) -> None:
    """Write the model ramp and its error in place of the measured one.

    Parameters
    ----------
    combined : CombinedSet
        Its SCI and ERR are changed.
    fit : SegmentFit
    chosen : ndarray of bool, 2D (y, x)
        Of `pixels_with_model`.
    gain : float
        e-/DN.
    """
    groups = combined.sci.shape[0]
    planes = [
        fit.planes.plane(number)[chosen].astype(np.float64)
        for number in (RATE, SHARE, VARIANCE, RATE_RATE, RATE_SHARE, SHARE_SHARE)
    ]
    rate, share, variance, rate_rate, rate_share, share_share = planes
    integrations = np.maximum(combined.n_valid.plane(groups - 1)[chosen], 1)
    poisson = POISSON_OF_LINE * np.maximum(rate, 0) / (gain * groups * integrations)
    settled = fit.curve - fit.curve[0]

    def write(group: int) -> None:
        sci, err = combined.sci.plane(group), combined.err.plane(group)
        curve = settled[group]
        sci[chosen] = rate * group + share * curve
        unit = rate_rate * group**2 + 2 * rate_share * group * curve + share_share * curve**2
        err[chosen] = np.sqrt(variance * unit + poisson * group**2)
        combined.sci.write(group, 0, sci[np.newaxis])
        combined.err.write(group, 0, err[np.newaxis])

    with measuring_threads() as threads:
        list(threads.map(write, range(groups)))


def end_variance(fit: SegmentFit, chosen: NDArray[np.bool_]) -> float | None:
    """Return the variance of the last group of the median model ramp for noise of 1 DN; None without any."""
    if not chosen.any():
        return None
    rate, both, share = (
        fit.planes.plane(number)[chosen].astype(np.float64) for number in (RATE_RATE, RATE_SHARE, SHARE_SHARE)
    )
    last, curve = len(fit.curve) - 1, float(fit.curve[-1] - fit.curve[0])
    return float(np.median(rate * last**2 + 2 * both * last * curve + share * curve**2))


def cds_about_ramp(fit: SegmentFit, science: NDArray[np.bool_], amplifiers: Sequence[slice]) -> list[float]:
    """Return the CDS noise of single integrations about the mean ramp, DN, of each amplifier's median pixel.

    Parameters
    ----------
    fit : SegmentFit
    science : ndarray of bool, 2D (y, x)
    amplifiers : sequence of slice
        Columns of each output.

    Returns
    -------
    list of float
        Root of twice the variance of a value; NaN where no pixel has one.
    """
    variance = fit.planes.plane(VARIANCE)
    known = science & np.isfinite(variance)
    return [
        math.sqrt(2 * median(variance[:, columns][known[:, columns]]))
        if known[:, columns].any()
        else math.nan
        for columns in amplifiers
    ]
