"""Whether a series of measurements is steady in time: its drift, its outliers, and a verdict in words.

No I/O, and no instrument: a series is what one detector and configuration gave of one figure.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict
from scipy import stats

from shared.medians import SIGMA_PER_MAD

#: Fewest points that a line and a scatter about it can be had from.
LEAST_POINTS = 3
#: Significance from which a slope is called a drift: one steady series in 370 is called so by chance.
DRIFT_SIGMA = 3.0
#: Robust z beyond which a point is called an outlier: one of 16000 steady points is called so by chance.
OUTLIER_SIGMA = 4.0
#: Where the normal distribution's tail ends in double precision; a significance beyond it is given as this.
_MOST_SIGMA = 37.0
#: A scatter below this part of the values is rounding.
_ROUNDING = 1e-12
#: The robust line looks at all pairs of so many points; of a longer series every n-th point is taken.
_MOST_IN_PAIRS = 1000
# A slope is told per hour up to two days, and per year from two years on: what the data span.
_DAY, _HOUR, _YEAR = 1.0, 1 / 24, 365.25
_UNITS = ((2 * _DAY, "an hour", _HOUR), (2 * _YEAR, "a day", _DAY), (math.inf, "a year", _YEAR))

_Floats = NDArray[np.float64]


class SeriesPoint(BaseModel):
    """One measurement of a series.

    Attributes
    ----------
    name : str
        The exposure, or the set, it was made of.
    mjd : float
        UTC days.
    value, error : float, float or None
        In the series' unit; 1 sigma, None where nobody stated one.
    weight : float
        How many independent parts (integrations) the value is the mean of. It counts where a point of the
        series has no error.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    mjd: float
    value: float
    error: float | None = None
    weight: float = 1.0


class Drift(BaseModel):
    """The straight line through a series.

    Attributes
    ----------
    per_day, per_day_error : float
        Slope in the series' unit per day, and its 1-sigma error: the larger of what the points' errors
        give, and what their scatter about the line gives, with Student's factor.
    sigma : float
        Significance of the slope as that of a normal distribution: the smaller one of slope over error by
        the points' errors, and the scatter's by Student's t.
    mjd, level : float
        Weighted mean time, and the line's value there.
    scatter : float
        Weighted rms about the line, two degrees of freedom taken off.
    reduced_chi2 : float or None
        Above 1: the points scatter by more than their errors say. None where errors are missing.
    """

    model_config = ConfigDict(frozen=True)

    per_day: float
    per_day_error: float
    sigma: float
    mjd: float
    level: float
    scatter: float
    reduced_chi2: float | None


class Outlier(BaseModel):
    """A point that does not belong to the rest; `sigma` is signed, and positive above the line."""

    model_config = ConfigDict(frozen=True)

    name: str
    mjd: float
    value: float
    sigma: float


class StabilityTest(BaseModel):
    """What a series says of its detector.

    Attributes
    ----------
    state : str
    verdict : str
        In words, with the numbers.
    points : int
        Points with a value, outliers among them.
    span_days : float
        From the first to the last.
    drift : Drift or None
        Of the points that are no outliers; None with fewer than three of them, or all at one time.
    outliers : list of Outlier
        In time order.
    """

    model_config = ConfigDict(frozen=True)

    state: Literal["drifts", "steady", "not enough data"]
    verdict: str
    points: int
    span_days: float
    drift: Drift | None
    outliers: list[Outlier]


def assess(points: Sequence[SeriesPoint], unit: str) -> StabilityTest:
    """Say whether a series is steady.

    Parameters
    ----------
    points : sequence of SeriesPoint
        In any order; those without a finite value or time are left out.
    unit : str
        Of the values, for the verdict.
    """
    known = sorted(
        (one for one in points if math.isfinite(one.value) and math.isfinite(one.mjd)),
        key=lambda one: (one.mjd, one.name),
    )
    times = np.array([one.mjd for one in known])
    values = np.array([one.value for one in known])
    errors, stated = _errors(known)
    sigmas = outlier_sigmas(times, values, errors, stated)
    out = np.abs(sigmas) > OUTLIER_SIGMA
    line = drift(times[~out], values[~out], errors[~out], stated)
    outliers = [
        Outlier(name=one.name, mjd=one.mjd, value=one.value, sigma=float(sigma))
        for one, sigma, is_out in zip(known, sigmas, out, strict=True)
        if is_out
    ]
    span = float(np.ptp(times)) if known else 0.0
    if line is None:
        state: Literal["drifts", "steady", "not enough data"] = "not enough data"
    else:
        state = "drifts" if line.sigma > DRIFT_SIGMA else "steady"
    verdict = _verdict(state, line, len(known), span, unit)
    if outliers:
        named = ", ".join(f"{one.name} ({one.sigma:+.1f} sigma)" for one in outliers)
        verdict += f"; {len(outliers)} outlier{'s' * (len(outliers) > 1)} left out: {named}"
    return StabilityTest(
        state=state, verdict=verdict, points=len(known), span_days=span, drift=line, outliers=outliers
    )


def drift(times: ArrayLike, values: ArrayLike, errors: ArrayLike, stated: bool) -> Drift | None:
    """Fit a straight line by weighted least squares; None with fewer than three points, or all at one time.

    Parameters
    ----------
    times : array_like, 1D
        UTC days.
    values : array_like, 1D
    errors : array_like, 1D
        1 sigma, in the values' unit; positive.
    stated : bool
        False: `errors` only say how points compare with each other.
    """
    t, y, e = (np.asarray(one, float) for one in (times, values, errors))
    if len(t) < LEAST_POINTS or np.ptp(t) == 0:
        return None
    w = (np.min(e) / e) ** 2
    middle = t[0] + float(np.sum(w * (t - t[0])) / w.sum())
    level = float(np.sum(w * y) / w.sum())
    lever = w * (t - middle)
    spread = float(np.sum(lever * (t - middle)))
    slope = float(np.sum(lever * (y - level)) / spread)
    residuals = y - level - slope * (t - middle)
    freedom = len(t) - 2
    least = float(np.min(e))
    variance = float(np.sum(w * residuals**2)) / freedom
    # Per unit of weight: the error of a point of weight 1, by the scatter and as stated.
    by_scatter = max(math.sqrt(variance), _ROUNDING * float(np.max(np.abs(y)))) / math.sqrt(spread)
    by_errors = least / math.sqrt(spread)
    sigma = _as_normal(_over(abs(slope), by_scatter), freedom)
    error = by_scatter * _student(freedom)
    if stated:
        sigma, error = min(sigma, abs(slope) / by_errors), max(error, by_errors)
    return Drift(
        per_day=slope,
        per_day_error=error,
        sigma=sigma,
        mjd=middle,
        level=level,
        scatter=math.sqrt(variance * len(t) / float(w.sum())),
        reduced_chi2=variance / least**2 if stated else None,
    )


def outlier_sigmas(times: ArrayLike, values: ArrayLike, errors: ArrayLike, stated: bool) -> _Floats:
    """Return how far each point is from where the others are, in sigma, signed.

    About the line of the median slope of all pairs (Theil 1950, Sen 1968), in units of the median absolute
    deviation; where errors are stated, not below them. Few points give a scatter that cannot be trusted, so
    what is beyond `OUTLIER_SIGMA` is held against the line through the others too, by their stated errors
    where they scatter by no more than these, else by Student's t; the smaller of the two is its sigma.

    Parameters are those of `drift`; with fewer than four points all are 0.
    """
    t, y, e = (np.asarray(one, float) for one in (times, values, errors))
    if len(t) <= LEAST_POINTS:
        return np.zeros(len(t))
    rounding = max(_ROUNDING * float(np.max(np.abs(y))), np.finfo(float).tiny)
    offsets = (y - _robust_line(t, y)) / e
    offsets -= np.median(offsets)
    scale = SIGMA_PER_MAD * float(np.median(np.abs(offsets)))
    scale = max(scale, 1.0 if stated else 0.0, rounding / float(np.min(e)))
    sigmas: _Floats = offsets / scale
    far = np.abs(sigmas) > OUTLIER_SIGMA
    if not far.any():
        return sigmas
    rest = drift(t[~far], y[~far], e[~far], stated)
    if rest is None:
        return np.clip(sigmas, -OUTLIER_SIGMA, OUTLIER_SIGMA)
    w = 1 / e[~far] ** 2
    spread = float(np.sum(w * (t[~far] - rest.mjd) ** 2))
    scatter = max(rest.scatter * math.sqrt(float(w.mean())), rounding / float(np.min(e)))
    for n in np.flatnonzero(far):
        distance = y[n] - rest.level - rest.per_day * (t[n] - rest.mjd)
        error = math.sqrt(e[n] ** 2 + 1 / float(w.sum()) + (t[n] - rest.mjd) ** 2 / spread)
        if stated and scatter <= 1:
            # The others bear the stated errors out: these are known, and the scatter only estimated.
            by_others = abs(distance) / error
        else:
            by_others = _as_normal(abs(distance) / error / scatter, int((~far).sum()) - 2)
        sigmas[n] = math.copysign(min(abs(sigmas[n]), by_others), distance)
    return sigmas


def chance_of(sigma: float) -> float:
    """Return the probability that noise alone is beyond so many sigma, to either side."""
    return float(2 * stats.norm.sf(sigma))


def _errors(points: Sequence[SeriesPoint]) -> tuple[_Floats, bool]:
    """Return the points' errors and whether they are stated; else what the weights make of them."""
    errors = np.array([math.nan if one.error is None else one.error for one in points], float)
    if len(errors) and bool(np.all(np.isfinite(errors) & (errors > 0))):
        return errors, True
    return 1 / np.sqrt(np.array([one.weight for one in points], float)), False


def _robust_line(t: _Floats, y: _Floats) -> _Floats:
    step = -(-len(t) // _MOST_IN_PAIRS)
    slope = stats.theilslopes(y[::step], t[::step])[0] if np.ptp(t[::step]) > 0 else 0.0
    line: _Floats = slope * (t - t[0])
    return line


def _as_normal(ratio: float, freedom: int) -> float:
    """Return the sigma of a normal distribution that is as improbable as Student's t of `ratio`."""
    return min(float(stats.norm.isf(stats.t.sf(ratio, freedom))), _MOST_SIGMA)


def _student(freedom: int) -> float:
    """Return what a 1-sigma error by so many degrees of freedom is wider than a normal one."""
    return float(stats.t.ppf(stats.norm.cdf(1), freedom))


def _over(value: float, error: float) -> float:
    return value / error if error > 0 else 0.0


def _verdict(state: str, line: Drift | None, points: int, span: float, unit: str) -> str:
    if line is None:
        count = f"{points} point{'s' * (points != 1)}"
        return f"{state} ({count}{', all at one time' * (points >= LEAST_POINTS and span == 0)})"
    words, days = next((words, days) for limit, words, days in _UNITS if span < limit)
    slope = _with_error(line.per_day * days, line.per_day_error * days)
    found = f"{slope} {unit} {words} ({line.sigma:.1f} sigma)"
    if state == "drifts":
        return f"drifts by {found}"
    return f"steady: {found}, scatter {line.scatter:.2g} {unit} about {line.level:.4g}"


def _with_error(value: float, error: float) -> str:
    """Return ``+0.31 ± 0.05``, to the place of the error's second significant digit."""
    if not error > 0:
        return f"{value:+.3g}"
    decimals = 1 - math.floor(math.log10(error))
    shown = max(decimals, 0)
    return f"{round(value, decimals):+.{shown}f} ± {round(error, decimals):.{shown}f}"
