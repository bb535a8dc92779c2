"""The theory curve of effective noise against the number of groups, and the fit of its two free terms.

The variance of the signal of an up-the-ramp exposure is that of Rauscher et al. 2007 (PASP 119, 768, equation
1) for n groups of m averaged frames, with the term for averaged frames as it was corrected later (Robberto
2009). The NRC-09 notebook adds two empirical terms, p0 and p1, for noise that is correlated in time, with
usual values for each channel.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shared.nircam.detectors import ChannelExpectation
from shared.statistics.robust import MEDIAN_ERROR

#: Fewest points of a curve to which the two terms are fitted: two are left to tell how good the fit is.
MINIMUM_POINTS = 4


def theory_variance(
    groups: int, nframes: int, seconds: float, frame_time: float, expectation: ChannelExpectation
) -> float:
    """Return the variance of the signal that the line through a ramp of n groups measures, e-^2.

    The first three terms are read noise, photon noise, and its reduction by averaging frames (Rauscher et al.
    2007); the last two are the excess noise of the NRC-09 notebook::

        var = rn^2 12 (n-1) / (m n (n+1))
              + f T 6 (n^2+1) / (5 n (n+1))
              - f tf 2 (m^2-1) (n-1) / (m n (n+1))
              + 12 (n-1) / (n+1) p0^2 - p1 / sqrt(m)

    Parameters
    ----------
    groups, nframes : int
        n, at least 2, and m, the number of frames averaged into a group.
    seconds, frame_time : float
        T, from the first to the last group, and tf, s.
    expectation : ChannelExpectation
        Of the channel: rn and f, read noise (e-) and dark current (e-/s); p0 (e-) and p1 (e-^2).
    """
    n, m = groups, nframes
    read_noise, flux = expectation.theory_read_noise, expectation.theory_dark
    read = read_noise**2 * 12 * (n - 1) / (m * n * (n + 1))
    photon = flux * seconds * 6 * (n**2 + 1) / (5 * n * (n + 1))
    averaging = flux * frame_time * 2 * (m**2 - 1) * (n - 1) / (m * n * (n + 1))
    excess = 12 * (n - 1) / (n + 1) * expectation.theory_p0**2 - expectation.theory_p1 / math.sqrt(m)
    return max(read + photon - averaging + excess, 0.0)


def theory_noise(
    groups: int, nframes: int, seconds: float, frame_time: float, expectation: ChannelExpectation
) -> float:
    """Return the effective noise of the theory curve, e-: the square root of `theory_variance`.

    The parameters are those of `theory_variance`.
    """
    return math.sqrt(theory_variance(groups, nframes, seconds, frame_time, expectation))


@dataclass(frozen=True)
class TheoryTerms:
    """The fitted terms of the theory curve.

    Attributes
    ----------
    p0_squared, p0_squared_error, p1, p1_error : float
        e-^2, 1 sigma; with the signs of `theory_variance`.
    variances : ndarray, 1D (points)
        Of the fitted curve, e-^2.
    scatter : float
        Relative root mean square of the points about the curve: half of that of their variances.
    """

    p0_squared: float
    p0_squared_error: float
    p1: float
    p1_error: float
    variances: NDArray[np.float64]
    scatter: float

    @property
    def p0(self) -> float | None:
        """p0, e-; None where its square is not positive."""
        return math.sqrt(self.p0_squared) if self.p0_squared > 0 else None

    @property
    def p0_error(self) -> float | None:
        """The 1-sigma error of p0, e-; None without p0."""
        return None if self.p0 is None else self.p0_squared_error / (2 * self.p0)


def fit_theory(
    groups: NDArray[np.int64],
    nframes: int,
    group_time: float,
    frame_time: float,
    noise: NDArray[np.float64],
    expectation: ChannelExpectation,
) -> TheoryTerms:
    """Fit p0 and p1 of `theory_variance` to effective noise, with read noise and dark current held fixed.

    The variance is linear in p0^2 and p1, so that weighted least squares has a closed form; the weights are
    the inverse squares of the variances. Neighbouring points of a curve have nearly all groups in common:
    the errors are therefore from the scatter of the same fit to each ramp.

    Parameters
    ----------
    groups : ndarray of int, 1D (points)
        Numbers n of groups.
    nframes : int
        Frames averaged into a group.
    group_time, frame_time : float
        s.
    noise : ndarray, 2D (ramps, points)
        Effective noise of each ramp, e-; the fit is to the median over ramps. Points that are not finite in
        all ramps are left out.
    expectation : ChannelExpectation
        Gives read noise (e-) and dark current (e-/s).

    Raises
    ------
    ValueError
        With fewer than `MINIMUM_POINTS` points; see `theory_refusal`.
    """
    known = np.isfinite(noise).all(axis=0)
    if known.sum() < MINIMUM_POINTS:
        raise ValueError(f"{known.sum()} finite points; the fit needs at least {MINIMUM_POINTS}")
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
    terms = solve @ (typical - held)[known]
    residuals = (typical - held)[known] - part @ terms
    if len(noise) > 1:
        each = (noise[:, known] ** 2 - held[known]) @ solve.T
        errors = MEDIAN_ERROR * each.std(axis=0, ddof=1) / math.sqrt(len(noise))
    else:
        # A single ramp has no scatter but that of its points about the curve.
        chi2 = float(np.sum(weights * residuals**2)) / (int(known.sum()) - 2)
        errors = np.sqrt(np.diag(covariance) * chi2)
    variances = held + design @ terms
    return TheoryTerms(
        p0_squared=float(terms[0]),
        p0_squared_error=float(errors[0]),
        p1=float(terms[1]),
        p1_error=float(errors[1]),
        variances=np.maximum(variances, 0.0),
        scatter=float(np.sqrt(np.mean((residuals / typical[known]) ** 2))) / 2,
    )


def theory_refusal(points: int) -> str | None:
    """Return why the theory curve is not fitted, or None if there are enough points."""
    if points >= MINIMUM_POINTS:
        return None
    have = "1 point" if points == 1 else f"{points} points"
    return (
        f"the theory curve is not fitted: its two terms need at least {MINIMUM_POINTS} points, and this "
        f"curve has {have}: use ramps with more groups"
    )
