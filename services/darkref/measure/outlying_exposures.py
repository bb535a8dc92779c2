"""Finds the exposures and integrations of a set that do not belong to it.

A lamp that was left on in one exposure, a pick-up of noise, a bias that moved, a storm of particles: a mean
over five integrations has no defence against them, and ERR becomes that of the accident. Four figures of
every integration are compared with those of the others (`IntegrationFigures`): its dark rate, its noise,
its level in group 0, and its jump rate. They are medians over pixels, or over blocks of them, so that
neither hot pixels nor a single snowball move them.

The test is `shared.statistics.outliers.extreme_values`. Below `FEWEST` values nothing can be told, and the
result says so.

The scatter is never taken as less than a floor: the error of the figure itself, or a difference that does no
harm (`_FLOORS`). Where exposures have several integrations, the first of each may differ from the rest, since
the detector settles after a reset: with `FEWEST` exposures or more, integrations are compared with those of
the same number.

**What follows.** Exposures first, then the integrations of the others. What stands apart is left out of the
mean, but never more than a fifth of the set: if a fifth disagrees, which part is right is for people to say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shared.products.reference import LeftOutExposure
from shared.statistics.medians import median
from shared.statistics.outliers import FEWEST, extreme_values
from shared.statistics.robust import MEDIAN_ERROR, robust_sigma

#: Largest share of a set that is left out.
MOST_LEFT_OUT = 0.2
#: An integration with fewer good slopes among its science pixels has no rate to compare.
_LEAST_MEASURED = 0.05
#: Blocks along either axis, of whose jump rates the median is taken: a snowball covers few of them.
_BLOCKS = 4
_RATE, _NOISE, _LEVEL, _JUMPS = "dark rate", "noise", "level", "jump rate"
_UNITS = {_RATE: "e-/1000 s", _NOISE: "e-/1000 s", _LEVEL: "DN", _JUMPS: "% of pixels"}
#: Least scatter, absolute and relative to the mean. Levels differ by tens of DN from reset to reset, and
#: group 0 is subtracted; a pixel that was hit is left out by itself, so that a few per cent more do no harm.
_FLOORS = {_RATE: (0.0, 0.0), _NOISE: (0.0, 0.02), _LEVEL: (20.0, 0.0), _JUMPS: (2.0, 0.0)}


@dataclass(frozen=True)
class IntegrationFigures:
    """What an integration is judged by; NaN where it has no such figure.

    Attributes
    ----------
    exposure : str
    integration : int
        Within its exposure, 0-based.
    rate, rate_error : float
        Median slope of its science pixels, and the error of that median, e- per 1000 s.
    noise : float
        Robust standard deviation of the slopes of a pixel, from the differences of neighbours in a row:
        neither a gradient nor the pixels' own dark current is in it; e- per 1000 s.
    level : float
        Median of group 0, DN.
    jump_rate : float
        Median over blocks of the share of science pixels that have a bad group, per cent.
    usable : float
        Share of the science pixels whose group 0 is usable.
    """

    exposure: str
    integration: int
    rate: float
    rate_error: float
    noise: float
    level: float
    jump_rate: float
    usable: float


@dataclass(frozen=True)
class Outlying:
    """Which exposures and integrations stand apart from their set.

    Attributes
    ----------
    entries : list of LeftOutExposure
        Those that are to be left out, or, where that would be more than a fifth of the set, those that stand
        apart.
    too_few : bool
        Whether there are too few integrations to tell.
    """

    entries: list[LeftOutExposure]
    too_few: bool = False


def integration_figures(
    place: tuple[str, int],
    slopes: NDArray[np.float32],
    first_group: tuple[NDArray[np.floating], NDArray[np.bool_]],
    science: NDArray[np.bool_],
    scale: float,
) -> IntegrationFigures:
    """Measure one integration.

    Parameters
    ----------
    place : (str, int)
        Its exposure, and its index within it.
    slopes : ndarray, 2D (y, x)
        DN per group; NaN where it has a bad group.
    first_group : (ndarray, ndarray), 2D (y, x)
        Group 0, DN, and where its flags allow its use.
    science : ndarray of bool, 2D (y, x)
    scale : float
        e- per 1000 s of one DN per group.
    """
    level, usable = first_group
    good = science & np.isfinite(slopes)
    level_pixels = level[science & usable]
    figures = IntegrationFigures(
        *place,
        rate=math.nan,
        rate_error=math.nan,
        noise=math.nan,
        level=median(level_pixels) if level_pixels.size else math.nan,
        jump_rate=math.nan,
        usable=float(np.mean(usable[science])),
    )
    count = int(np.count_nonzero(good))
    if count < max(_LEAST_MEASURED * np.count_nonzero(science), 2):
        # All pixels at once have a bad group: a lost frame, not hits.
        return figures
    steps = np.diff(slopes, axis=1)[good[:, 1:] & good[:, :-1]]
    noise = robust_sigma(steps, 0.0) / math.sqrt(2) * scale if steps.size else math.nan
    return replace(
        figures,
        rate=median(slopes[good]) * scale,
        rate_error=MEDIAN_ERROR * noise / math.sqrt(count),
        noise=noise,
        jump_rate=100 * _median_share(science & ~np.isfinite(slopes), science),
    )


def find_outlying(figures: Sequence[IntegrationFigures]) -> Outlying:
    """Find the exposures and integrations that stand apart from their set.

    Parameters
    ----------
    figures : sequence of IntegrationFigures
        Of all integrations of the set.

    Returns
    -------
    Outlying
    """
    unusable = [
        LeftOutExposure(
            exposure=figure.exposure,
            integration=figure.integration,
            quantity="usable pixels",
            value=0.0,
            unit="% of pixels",
        )
        for figure in figures
        if figure.usable == 0
    ]
    judged = [figure for figure in figures if figure.usable > 0]
    if len(judged) < FEWEST:
        return Outlying(unusable, too_few=True)
    exposures = list(dict.fromkeys(figure.exposure for figure in judged))
    apart: dict[str, LeftOutExposure] = {}
    if FEWEST <= len(exposures) < len(judged):
        apart = _exposures_apart(judged, exposures)
    rest = [figure for figure in judged if figure.exposure not in apart]
    single = _integrations_apart(rest, len(exposures)) if len(rest) >= FEWEST else []
    whole = {name for name in exposures if all(figure.exposure != name for figure in _without(rest, single))}
    # An exposure of which every integration stands apart stands apart itself.
    for entry in single:
        if entry.exposure in whole:
            apart.setdefault(entry.exposure, entry.model_copy(update={"integration": None}))
    entries = [*apart.values(), *(entry for entry in single if entry.exposure not in apart)]
    gone = sum(figure.exposure in apart for figure in judged) + sum(
        entry.exposure not in apart for entry in single
    )
    if gone > MOST_LEFT_OUT * len(judged):
        entries = [entry.model_copy(update={"left_out": False}) for entry in entries]
    return Outlying([*unusable, *entries])


def _exposures_apart(
    judged: Sequence[IntegrationFigures], exposures: Sequence[str]
) -> dict[str, LeftOutExposure]:
    """Return the exposures of several integrations that stand apart, by name."""
    stands_apart: dict[str, LeftOutExposure] = {}
    for quantity in _UNITS:
        adjusted = _adjusted(judged, quantity)
        means = []
        for name in exposures:
            mine = [value for figure, value in zip(judged, adjusted, strict=True) if figure.exposure == name]
            known = [value for value in mine if math.isfinite(value)]
            means.append(sum(known) / len(known) if known else math.nan)
        for entry in _apart(quantity, means, _error(judged, quantity), [(name, None) for name in exposures]):
            stands_apart.setdefault(entry.exposure, entry)
    return stands_apart


def _integrations_apart(rest: Sequence[IntegrationFigures], exposures: int) -> list[LeftOutExposure]:
    """Return the integrations that stand apart from the others; each under the first figure that says so."""
    stands_apart: dict[tuple[str, int | None], LeftOutExposure] = {}
    alone = exposures == len(rest)
    for quantity in _UNITS:
        values = _adjusted(rest, quantity) if exposures >= FEWEST else _values(rest, quantity)
        places = [(figure.exposure, None if alone else figure.integration) for figure in rest]
        for entry in _apart(quantity, values, _error(rest, quantity), places):
            stands_apart.setdefault((entry.exposure, entry.integration), entry)
    return list(stands_apart.values())


def _apart(
    quantity: str, values: Sequence[float], error: float, places: Sequence[tuple[str, int | None]]
) -> list[LeftOutExposure]:
    known = [index for index, value in enumerate(values) if math.isfinite(value)]
    if len(known) < FEWEST:
        return []
    compared = np.array([values[index] for index in known])
    absolute, relative = _FLOORS[quantity]
    floor = math.hypot(max(absolute, relative * abs(float(np.median(compared)))), error)
    extreme = extreme_values(compared, floor)
    rest = np.delete(compared, extreme)
    entries = []
    for index in extreme:
        scatter = math.hypot(float(rest.std(ddof=1)), floor)
        exposure, integration = places[known[index]]
        value, expected = float(compared[index]), float(rest.mean())
        entries.append(
            LeftOutExposure(
                exposure=exposure,
                integration=integration,
                quantity=quantity,
                value=value,
                expected=expected,
                scatter=scatter,
                sigma=(value - expected) / scatter if scatter > 0 else None,
                unit=_UNITS[quantity],
            )
        )
    return entries


def _values(figures: Sequence[IntegrationFigures], quantity: str) -> list[float]:
    name = {_RATE: "rate", _NOISE: "noise", _LEVEL: "level", _JUMPS: "jump_rate"}[quantity]
    return [float(getattr(figure, name)) for figure in figures]


def _adjusted(figures: Sequence[IntegrationFigures], quantity: str) -> list[float]:
    """Return the values less what integrations of this number have in common, if enough exposures have it."""
    values = np.array(_values(figures, quantity))
    known = values[np.isfinite(values)]
    if not known.size:
        return list(values)
    numbers = np.array([figure.integration for figure in figures])
    middle = float(np.median(known))
    for number in np.unique(numbers):
        mine = values[numbers == number]
        mine = mine[np.isfinite(mine)]
        if len(mine) >= FEWEST:
            values[numbers == number] += middle - float(np.median(mine))
    return [float(value) for value in values]


def _error(figures: Sequence[IntegrationFigures], quantity: str) -> float:
    """Return the usual error of a figure, where it has one of its own."""
    errors = [figure.rate_error for figure in figures if math.isfinite(figure.rate_error)]
    return float(np.median(errors)) if quantity == _RATE and errors else 0.0


def _without(
    figures: Sequence[IntegrationFigures], entries: Sequence[LeftOutExposure]
) -> list[IntegrationFigures]:
    gone = {(entry.exposure, entry.integration) for entry in entries}
    return [
        figure
        for figure in figures
        if not {(figure.exposure, figure.integration), (figure.exposure, None)} & gone
    ]


def _median_share(flagged: NDArray[np.bool_], science: NDArray[np.bool_]) -> float:
    """Return the median over blocks of the share of their science pixels that are flagged."""
    shares = []
    for rows in np.array_split(np.arange(science.shape[0]), _BLOCKS):
        for columns in np.array_split(np.arange(science.shape[1]), _BLOCKS):
            block = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            count = int(np.count_nonzero(science[block]))
            if count:
                shares.append(np.count_nonzero(flagged[block]) / count)
    return float(np.median(shares))
