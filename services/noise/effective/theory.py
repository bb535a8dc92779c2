"""The theory curve's two free terms, p0 and p1, fitted to a measured one."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.noise.effective_noise import theory_variance
from services.noise.robust import MEDIAN_ERROR
from shared.detectors import ChannelExpectation

#: Points of the curve that a fit of two terms needs, so that two are left to tell how good it is.
MINIMUM_POINTS = 4


@dataclass(frozen=True)
class TheoryTerms:
    """p0 squared (e-^2) and p1 (e-^2, as the theory has it) with 1-sigma errors, and the fitted variances.

    Attributes
    ----------
    variances : ndarray, 1D (points)
        Of the fitted curve, e-^2.
    scatter : float
        Root mean square of the points about the curve, relative: half of that of their variances.
    """

    p0_squared: float
    p0_squared_error: float
    p1: float
    p1_error: float
    variances: NDArray[np.float64]
    scatter: float

    @property
    def p0(self) -> float | None:
        """The root of p0 squared; None where that came out below 0, which no p0 can be."""
        return math.sqrt(self.p0_squared) if self.p0_squared > 0 else None

    @property
    def p0_error(self) -> float | None:
        """Its 1-sigma error."""
        return None if self.p0 is None else self.p0_squared_error / (2 * self.p0)


def fit_theory(
    groups: NDArray[np.int64],
    nframes: int,
    group_time: float,
    frame_time: float,
    noise: NDArray[np.float64],
    expectation: ChannelExpectation,
) -> TheoryTerms:
    """Fit p0 and p1 of `theory_variance` to effective noise, with read noise and dark current held.

    The variance is linear in p0^2 and p1, so that weighted least squares has a closed form, whose
    weights are one over the square of the variance. Neighbouring points of a curve share nearly all their
    groups, so the errors are not those of the fit but the scatter of the same fit to every ramp.

    Parameters
    ----------
    groups : ndarray of int, 1D (points)
        Numbers n of groups, `MINIMUM_POINTS` of them or more.
    nframes : int
        Frames averaged into a group.
    group_time, frame_time : float
        s.
    noise : ndarray, 2D (ramps, points)
        Effective noise of each ramp, e-; the median over ramps is what is fitted. Points that are not
        finite in all ramps are left out.
    expectation : ChannelExpectation
        Whose read noise (e-) and dark current (e-/s) are held.

    Raises
    ------
    ValueError
        If there are fewer points than `MINIMUM_POINTS`; see `theory_refusal`.
    """
    known = np.isfinite(noise).all(axis=0)
    if known.sum() < MINIMUM_POINTS:
        raise ValueError(f"{known.sum()} points, but the theory needs {MINIMUM_POINTS}")
    n = groups.astype(float)
    held_terms = replace(expectation, theory_p0=0.0, theory_p1=0.0)
    held = np.array(
        [theory_variance(int(g), nframes, (g - 1) * group_time, frame_time, held_terms) for g in groups]
    )
    design = np.stack([12 * (n - 1) / (n + 1), np.full(n.size, -1 / math.sqrt(nframes))], axis=1)
    typical = np.median(noise, axis=0) ** 2
    weights = 1 / typical[known] ** 2
    part = design[known]
    covariance = np.linalg.inv(part.T @ (weights[:, None] * part))
    solve = covariance @ part.T * weights
    found = solve @ (typical - held)[known]
    residuals = (typical - held)[known] - part @ found
    if len(noise) > 1:
        each = (noise[:, known] ** 2 - held[known]) @ solve.T
        errors = MEDIAN_ERROR * each.std(axis=0, ddof=1) / math.sqrt(len(noise))
    else:
        # A single ramp has no scatter but that of its points about the curve.
        chi2 = float(np.sum(weights * residuals**2)) / (int(known.sum()) - 2)
        errors = np.sqrt(np.diag(covariance) * chi2)
    variances = held + design @ found
    return TheoryTerms(
        p0_squared=float(found[0]),
        p0_squared_error=float(errors[0]),
        p1=float(found[1]),
        p1_error=float(errors[1]),
        variances=np.maximum(variances, 0.0),
        scatter=float(np.sqrt(np.mean((residuals / typical[known]) ** 2))) / 2,
    )


def theory_refusal(points: int) -> str | None:
    """Say why the theory is not fitted, or None where the curve has points enough."""
    if points >= MINIMUM_POINTS:
        return None
    have = "1 point" if points == 1 else f"{points} points"
    return (
        f"the theory curve is not fitted: its two terms need at least {MINIMUM_POINTS} points and this "
        f"curve has {have}: use ramps of more groups"
    )
