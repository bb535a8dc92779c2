"""Straight lines through a series in time: drift, outliers, and whether the series is steady.

Two lines, for two questions:

- `linear_trend`: what an unweighted line through a few points of one set shows; its slope, error and scatter.
- `assess_series`: whether a long series of measurements with errors is steady, drifts, or cannot say
  (`StabilityState`). Outliers are found first, against a line that they cannot move, and left out of the
  weighted line (`drift`). A series is steady only if a drift that matters would have shown.

Nothing here knows of an instrument: a series is what one detector and configuration gave of one figure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict
from scipy import special

from shared.statistics.robust import robust_sigma

#: Fewest points for a line and a scatter about it.
LEAST_POINTS = 3
#: Significance from which a slope is called a drift: one steady series in 370 is called so by chance.
DRIFT_SIGMA = 3.0
#: A change over the series by this part of the level always matters, and a smaller one does where the caller
#: does not say what does.
MATTERS = 0.1
#: Robust deviation beyond which a point is called an outlier: one of 16,000 steady points is, by chance.
OUTLIER_SIGMA = 4.0
#: Where the tail of the normal distribution ends in double precision; any larger significance is given as
#: this.
_MOST_SIGMA = 37.0
#: A scatter below this part of the values is rounding.
_ROUNDING = 1e-12
#: The robust line uses all pairs of at most so many points; of a longer series, every n-th point.
_MOST_IN_PAIRS = 1000
# A slope is given per hour up to two days, and per year from two years on: in a unit that the data span.
_DAY, _HOUR, _YEAR = 1.0, 1 / 24, 365.25
_UNITS = ((2 * _DAY, "an hour", _HOUR), (2 * _YEAR, "a day", _DAY), (math.inf, "a year", _YEAR))

_Floats = NDArray[np.float64]


class SeriesPoint(BaseModel):
    """One measurement of a series.

    Attributes
    ----------
    name : str
        The exposure, or the set, that was measured.
    mjd : float
        UTC days.
    value : float
        In the unit of the series.
    error : float or None
        1 sigma; None where none is stated.
    weight : float
        Number of independent parts (integrations) that the value is the mean of. Only used where a point of
        the series has no error.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    mjd: float
    value: float
    error: float | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class LinearTrend:
    """The unweighted straight line through a few points.

    Attributes
    ----------
    slope, slope_error : float
        In the unit of the values per unit of time; 1 sigma, from the scatter.
    scatter : float
        Standard deviation about the line, two degrees of freedom taken off.
    visible : float
        Smallest slope that would be significant: `DRIFT_SIGMA` by Student's t.
    """

    slope: float
    slope_error: float
    scatter: float
    visible: float


class Drift(BaseModel):
    """The weighted straight line through a series.

    Attributes
    ----------
    per_day, per_day_error : float
        Slope in the unit of the series per day. Its 1-sigma error is the larger of two: by the errors of the
        points, and by their scatter about the line with the factor of Student's t.
    sigma : float
        Significance of the slope, as that of a normal distribution: the smaller of two, by the errors of the
        points, and by their scatter and Student's t.
    mjd, level : float
        Weighted mean time, and the value of the line at that time.
    scatter : float
        Weighted standard deviation about the line, two degrees of freedom taken off.
    reduced_chi2 : float or None
        Above 1 if the points scatter by more than their errors. None where errors are missing.
    visible_per_day : float
        Smallest slope whose significance would be above `DRIFT_SIGMA`.
    """

    model_config = ConfigDict(frozen=True)

    per_day: float
    per_day_error: float
    sigma: float
    mjd: float
    level: float
    scatter: float
    reduced_chi2: float | None
    visible_per_day: float


class Outlier(BaseModel):
    """A point that is off the line through the others; `sigma` is positive above it."""

    model_config = ConfigDict(frozen=True)

    name: str
    mjd: float
    value: float
    sigma: float


class StabilityState(StrEnum):
    """Whether a series is steady in time."""

    DRIFTS = "drifts"
    STEADY = "steady"
    NOT_ENOUGH = "not enough data"


class StabilityTest(BaseModel):
    """Whether a series is steady, and why.

    Attributes
    ----------
    state : StabilityState
    verdict : str
        The same in words, with the numbers.
    points : int
        Points with a value, outliers included.
    span_days : float
        From the first to the last point.
    drift : Drift or None
        Line through the points that are not outliers; None with fewer than three, or all at one time.
    outliers : list of Outlier
        In order of time.
    visible_change, matters : float or None
        Smallest change from the first to the last point that would be called a drift, and the largest that
        would not matter, in the unit of the series; None without a line. With a visible change above what
        matters, a series that does not drift is "not enough data".
    """

    model_config = ConfigDict(frozen=True)

    state: StabilityState
    verdict: str
    points: int
    span_days: float
    drift: Drift | None
    outliers: list[Outlier]
    visible_change: float | None = None
    matters: float | None = None


def assess_series(points: Sequence[SeriesPoint], unit: str, matters: float | None = None) -> StabilityTest:
    """Say whether a series is steady.

    Parameters
    ----------
    points : sequence of SeriesPoint
        In any order; those without a finite value or time are left out.
    unit : str
        Unit of the values, for the sentence.
    matters : float, optional
        Change from the first to the last point that is worth knowing, in the unit of the values. A change by
        less than `MATTERS` of the level is never taken to be.

    Examples
    --------
    >>> days = [59700.0, 59701.0, 59702.0, 59703.0, 59704.0, 59705.0]
    >>> rates = [27.0, 27.2, 26.9, 27.1, 27.0, 27.1]
    >>> series = [SeriesPoint(name=f"set{n}", mjd=t, value=v) for n, (t, v) in enumerate(zip(days, rates))]
    >>> assess_series(series, "e-/ks").state
    <StabilityState.STEADY: 'steady'>
    """
    known = sorted(
        (point for point in points if math.isfinite(point.value) and math.isfinite(point.mjd)),
        key=lambda point: (point.mjd, point.name),
    )
    times = np.array([point.mjd for point in known])
    values = np.array([point.value for point in known])
    errors, stated = _errors(known)
    sigmas = outlier_sigmas(times, values, errors, stated)
    is_out = np.abs(sigmas) > OUTLIER_SIGMA
    line = drift(times[~is_out], values[~is_out], errors[~is_out], stated)
    outliers = [
        Outlier(name=point.name, mjd=point.mjd, value=point.value, sigma=float(sigma))
        for point, sigma, out in zip(known, sigmas, is_out, strict=True)
        if out
    ]
    span = float(np.ptp(times)) if known else 0.0
    visible = None if line is None else line.visible_per_day * span
    large = None if line is None else max(matters or 0.0, MATTERS * abs(line.level))
    if line is None or visible is None or large is None:
        state = StabilityState.NOT_ENOUGH
    elif line.sigma > DRIFT_SIGMA:
        state = StabilityState.DRIFTS
    else:
        state = StabilityState.STEADY if visible <= large else StabilityState.NOT_ENOUGH
    return StabilityTest(
        state=state,
        verdict=_sentence(state, line, outliers, len(known), span, unit, large),
        points=len(known),
        span_days=span,
        drift=line,
        outliers=outliers,
        visible_change=visible,
        matters=large,
    )


def linear_trend(times: ArrayLike, values: ArrayLike) -> LinearTrend | None:
    """Fit a straight line by least squares; None with fewer than three points, or all at one time.

    Parameters
    ----------
    times : array_like, 1D
        In the unit that the slope is to be per.
    values : array_like, 1D
        In any unit; points that are not finite are left out.
    """
    t, y = np.asarray(times, float), np.asarray(values, float)
    known = np.isfinite(t) & np.isfinite(y)
    t, y = t[known], y[known]
    if len(t) < LEAST_POINTS or np.ptp(t) == 0:
        return None
    line = _fit_line(t, y, np.ones(len(t)))
    scatter = math.sqrt(line.variance)
    error = scatter / math.sqrt(line.spread)
    return LinearTrend(line.slope, error, scatter, error * _drift_student(len(t) - 2))


def drift(times: ArrayLike, values: ArrayLike, errors: ArrayLike, stated: bool) -> Drift | None:
    """Fit a straight line by weighted least squares; None with fewer than three points, or all at one time.

    Parameters
    ----------
    times : array_like, 1D
        UTC days.
    values : array_like, 1D
        In any unit.
    errors : array_like, 1D
        1 sigma, in the unit of the values; positive.
    stated : bool
        False if `errors` only give the relative weights of the points.
    """
    t, y, e = (np.asarray(column, float) for column in (times, values, errors))
    if len(t) < LEAST_POINTS or np.ptp(t) == 0:
        return None
    least = float(np.min(e))
    weights = (least / e) ** 2
    line = _fit_line(t, y, weights)
    freedom = len(t) - 2
    # Of a slope to which a point of weight 1 contributes its scatter, or its stated error.
    by_scatter = max(math.sqrt(line.variance), _ROUNDING * float(np.max(np.abs(y)))) / math.sqrt(line.spread)
    by_errors = least / math.sqrt(line.spread)
    sigma = _as_normal(_ratio(abs(line.slope), by_scatter), freedom)
    error, visible = by_scatter * _student_factor(freedom), by_scatter * _drift_student(freedom)
    if stated:
        sigma, error = min(sigma, abs(line.slope) / by_errors), max(error, by_errors)
        visible = max(visible, DRIFT_SIGMA * by_errors)
    return Drift(
        per_day=line.slope,
        per_day_error=error,
        sigma=sigma,
        mjd=line.middle,
        level=line.level,
        scatter=math.sqrt(line.variance * len(t) / float(weights.sum())),
        reduced_chi2=line.variance / least**2 if stated else None,
        visible_per_day=visible,
    )


def outlier_sigmas(times: ArrayLike, values: ArrayLike, errors: ArrayLike, stated: bool) -> _Floats:
    """Return how far each point is from where the others are, in sigma, positive above.

    Deviations are from the line with the median slope of all pairs (Theil 1950, Sen 1968), in units of the
    robust sigma of all deviations, and of the stated errors where these are larger. Where the points
    scatter by more than they state, the rest is taken as a scatter that all have in common, in quadrature:
    a point whose stated error is far larger than that of the others must not hide behind it. The scatter of
    few points cannot be trusted: a point beyond `OUTLIER_SIGMA` is also compared with the weighted line
    through the others, by their stated errors where they scatter by no more than these, else by Student's
    t. The smaller of the two deviations counts.

    The parameters are those of `drift`; with fewer than four points all deviations are 0.
    """
    t, y, e = (np.asarray(column, float) for column in (times, values, errors))
    if len(t) <= LEAST_POINTS:
        return np.zeros(len(t))
    rounding = max(_ROUNDING * float(np.max(np.abs(y))), np.finfo(float).tiny)
    deviations = y - _robust_line(t, y)
    if stated:
        e = np.hypot(e, _common_scatter(deviations, e))
    offsets = deviations / e
    offsets -= np.median(offsets)
    scale = max(robust_sigma(offsets, centre=0.0), 1.0 if stated else 0.0, rounding / float(np.min(e)))
    sigmas: _Floats = offsets / scale
    far = np.abs(sigmas) > OUTLIER_SIGMA
    if not far.any():
        return sigmas
    rest = drift(t[~far], y[~far], e[~far], stated)
    if rest is None:
        return np.clip(sigmas, -OUTLIER_SIGMA, OUTLIER_SIGMA)
    weights = 1 / e[~far] ** 2
    spread = float(np.sum(weights * (t[~far] - rest.mjd) ** 2))
    scatter = max(rest.scatter * math.sqrt(float(weights.mean())), rounding / float(np.min(e)))
    for n in np.flatnonzero(far):
        distance = y[n] - rest.level - rest.per_day * (t[n] - rest.mjd)
        error = math.sqrt(e[n] ** 2 + 1 / float(weights.sum()) + (t[n] - rest.mjd) ** 2 / spread)
        if stated and scatter <= 1:
            # The others confirm the stated errors: these are known, while the scatter is only estimated.
            by_others = abs(distance) / error
        else:
            by_others = _as_normal(abs(distance) / error / scatter, int((~far).sum()) - 2)
        sigmas[n] = math.copysign(min(abs(sigmas[n]), by_others), distance)
    return sigmas


def chance_of(sigma: float) -> float:
    """Return the probability of a normal deviate beyond this many sigma, to either side."""
    return 2 * float(special.ndtr(-sigma))


@dataclass(frozen=True)
class _Line:
    """A weighted least-squares line: its slope, and its level at the weighted mean time `middle`.

    `variance` is that of a point of weight 1 about it, `spread` the weighted sum of squared times from the
    middle: the variance of the slope is the one over the other.
    """

    slope: float
    middle: float
    level: float
    variance: float
    spread: float


def _fit_line(t: _Floats, y: _Floats, weights: _Floats) -> _Line:
    # From the first time on: an MJD has too many digits to be squared.
    middle = t[0] + float(np.sum(weights * (t - t[0])) / weights.sum())
    level = float(np.sum(weights * y) / weights.sum())
    lever = weights * (t - middle)
    spread = float(np.sum(lever * (t - middle)))
    slope = float(np.sum(lever * (y - level)) / spread)
    residuals = y - level - slope * (t - middle)
    variance = float(np.sum(weights * residuals**2)) / (len(t) - 2)
    return _Line(slope, middle, level, variance, spread)


def _errors(points: Sequence[SeriesPoint]) -> tuple[_Floats, bool]:
    """Return the errors of the points and True; where one has none, what their weights give, and False."""
    errors = np.array([math.nan if point.error is None else point.error for point in points], float)
    if len(errors) and bool(np.all(np.isfinite(errors) & (errors > 0))):
        return errors, True
    return 1 / np.sqrt(np.array([point.weight for point in points], float)), False


def _common_scatter(deviations: _Floats, errors: _Floats) -> float:
    """Return the scatter that points have beyond their stated errors, one for all of them."""
    scatter = robust_sigma(deviations, centre=float(np.median(deviations)))
    return math.sqrt(max(scatter**2 - float(np.median(errors)) ** 2, 0.0))


def _robust_line(t: _Floats, y: _Floats) -> _Floats:
    # Loading scipy.stats takes longer than all that the noise stage imports, and it needs no robust line.
    from scipy import stats

    step = -(-len(t) // _MOST_IN_PAIRS)
    slope = stats.theilslopes(y[::step], t[::step])[0] if np.ptp(t[::step]) > 0 else 0.0
    line: _Floats = slope * (t - t[0])
    return line


def _as_normal(ratio: float, freedom: int) -> float:
    """Return the sigma of a normal distribution that is as improbable as Student's t of `ratio`."""
    return min(-float(special.ndtri(special.stdtr(freedom, -ratio))), _MOST_SIGMA)


def _student_factor(freedom: int) -> float:
    """Return by what factor a 1-sigma interval from a scatter is wider than that of a normal distribution."""
    return float(special.stdtrit(freedom, special.ndtr(1)))


def _drift_student(freedom: int) -> float:
    """Return the Student's t that is as improbable as `DRIFT_SIGMA` of a normal distribution."""
    return float(special.stdtrit(freedom, special.ndtr(DRIFT_SIGMA)))


def _ratio(value: float, error: float) -> float:
    return value / error if error > 0 else 0.0


def _sentence(
    state: StabilityState,
    line: Drift | None,
    outliers: Sequence[Outlier],
    points: int,
    span: float,
    unit: str,
    matters: float | None,
) -> str:
    if line is None:
        count = f"{points} point{'s' * (points != 1)}"
        sentence = f"{state} ({count}{', all at one time' * (points >= LEAST_POINTS and span == 0)})"
    else:
        per, days = next((per, days) for limit, per, days in _UNITS if span < limit)
        slope = _with_error(line.per_day * days, line.per_day_error * days)
        sentence = f"{slope} {unit} {per} ({line.sigma:.1f} sigma)"
        visible = f"{line.visible_per_day * days:.2g} {unit} {per}"
        scatter = f"scatter {line.scatter:.2g} {unit} about {line.level:.4g}"
        if state == StabilityState.DRIFTS:
            sentence = f"drifts by {sentence}"
        elif state == StabilityState.STEADY:
            sentence = f"steady: {sentence}, {scatter}; a drift above {visible} would show"
        else:
            sentence = (
                f"not enough data: {sentence}, {scatter}; only a drift above {visible} would show, a change "
                f"by {line.visible_per_day * span:.2g} {unit} where {matters or 0.0:.2g} matters"
            )
    if outliers:
        named = ", ".join(f"{outlier.name} ({outlier.sigma:+.1f} sigma)" for outlier in outliers)
        sentence += f"; {len(outliers)} outlier{'s' * (len(outliers) > 1)} left out: {named}"
    return sentence


def _with_error(value: float, error: float) -> str:
    """Return ``+0.31 ± 0.05``, to the place of the error's second significant digit."""
    if not error > 0:
        return f"{value:+.3g}"
    decimals = 1 - math.floor(math.log10(error))
    shown = max(decimals, 0)
    return f"{round(value, decimals):+.{shown}f} ± {round(error, decimals):.{shown}f}"
