"""Patterns in the level of a set that no noise figure is: a bias that cycles, columns that differ in turn.

- *Cycling bias*: in some exposures every n-th integration starts at another level than the others, as A B B B
  A B B B (spacetelescope/jwst issue 7163). Found in the levels of group 0 by an analysis of variance over the
  integrations of each phase of a cycle.
- *Odd and even columns*: reference pixel correction subtracts the means of odd and even columns of an
  amplifier, so that one bad reference pixel shifts every second column (issue 8239, SUBGRISM256). Found in
  group 0 as a difference between columns 1, 3, 5, .. and 2, 4, 6, .. of an amplifier; the reference pixels
  that lie far off the others of their amplifier are named with it.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from services.noise.planes import ExposurePixels, Plane
from shared.products.noise import Transient
from shared.statistics.robust import MEDIAN_ERROR, median_and_sigma
from shared.statistics.verdicts import Value

#: Periods that are looked for, in integrations; each phase has to come up twice.
_LONGEST_PERIOD = 8
#: A cycle is named if scatter makes one as large in one of so many steady sets.
_CHANCE = 1e-4
#: Differences of columns are named from this significance on, and from one step of the converter, DN.
_SIGNIFICANT, _LEAST_DN = 5.0, 1.0
#: A reference pixel so many robust sigmas off the others of its amplifier is named; at most so many are.
_FAR_OFF, _MOST_NAMED = 8.0, 3


def level_cycle(levels: Sequence[float], exposures: Sequence[str]) -> Transient | None:
    """Return the cycle of the levels of a set's integrations, or None if there is none.

    Parameters
    ----------
    levels : sequence of float
        Median of group 0 of each integration in order of time, DN.
    exposures : sequence of str
        Exposure of each. Where all have as many integrations, a period of that many is no cycle, but the
        transient of the first integration of each exposure.
    """
    values = np.array(levels, dtype=float)
    if not np.isfinite(values).all():
        return None
    counts = {exposures.count(name) for name in set(exposures)}
    best: tuple[float, int] | None = None
    for period in range(2, min(_LONGEST_PERIOD, len(values) // 2) + 1):
        if len(counts) == 1 and period % next(iter(counts)) == 0 and counts != {1}:
            continue
        chance = _chance_of_cycle(values, period)
        # A multiple of a period explains as much with more terms, and is less significant.
        if chance < _CHANCE / _LONGEST_PERIOD and (best is None or chance < best[0]):
            best = chance, period
    if best is None:
        return None
    period = best[1]
    means, error = _phases(values, period)
    letters = _letters(means, error)
    height = float(np.ptp(means))
    sigmas = height / error if error > 0 else None
    return Transient(
        what="cycle of the level",
        unit="DN",
        value=height,
        error=error,
        sigmas=sigmas,
        said=(
            f"the level of group 0 cycles with a period of {period} integrations ({' '.join(letters)}), over "
            f"{height:.3g} ± {error:.2g} DN"
        ),
    )


def _phases(values: NDArray[np.float64], period: int) -> tuple[NDArray[np.float64], float]:
    """Return the mean of each phase of a cycle, and the error of a difference of two of them."""
    phase = np.arange(len(values)) % period
    means = np.array([values[phase == n].mean() for n in range(period)])
    within = float(np.sum((values - means[phase]) ** 2)) / (len(values) - period)
    return means, math.sqrt(2 * within * period / len(values))


def _chance_of_cycle(values: NDArray[np.float64], period: int) -> float:
    """Return the probability that steady levels differ by as much between phases (F test)."""
    phase = np.arange(len(values)) % period
    means, _ = _phases(values, period)
    freedom = len(values) - period
    if freedom < 1:
        return 1.0
    within = float(np.sum((values - means[phase]) ** 2)) / freedom
    between = float(np.sum((means[phase] - values.mean()) ** 2)) / (period - 1)
    if within == 0:
        return 0.0 if between > 0 else 1.0
    return float(special.fdtrc(period - 1, freedom, between / within))


def _letters(means: NDArray[np.float64], error: float) -> list[str]:
    """Return a letter for each phase, the same for levels that do not differ by 3 sigma."""
    order = np.argsort(means)
    group = np.zeros(len(means), int)
    for before, after in itertools.pairwise(order):
        group[after] = group[before] + int(means[after] - means[before] > 3 * error)
    names: dict[int, str] = {}
    return [names.setdefault(int(n), chr(ord("A") + len(names))) for n in group]


class ColumnParity:
    """Differences of odd and even columns, and levels of reference pixels, in group 0 of each ramp."""

    def __init__(self) -> None:
        self._differences: list[list[float]] = []
        self._errors: list[list[float]] = []
        # Summed over integrations, of the pixels at these places of a plane.
        self._border: NDArray[np.intp] | None = None
        self._levels = np.zeros(0)

    def add(self, plane: Plane, pixels: ExposurePixels) -> None:
        """Add a plane, if it is a group 0."""
        if plane.group or not plane.alive.any():
            return
        use = plane.alive & pixels.active
        differences, errors = [], []
        for columns in pixels.amplifiers:
            halves = []
            for first in (columns.start, columns.start + 1):
                every = slice(first, columns.stop, 2)
                values = plane.signal[:, every][use[:, every]]
                centre, sigma = median_and_sigma(values) if values.size > 1 else (math.nan, math.nan)
                halves.append((centre, MEDIAN_ERROR * sigma / math.sqrt(max(values.size, 1))))
            differences.append(halves[1][0] - halves[0][0])
            errors.append(math.hypot(halves[0][1], halves[1][1]))
        self._differences.append(differences)
        self._errors.append(errors)
        if self._border is None:
            self._border = np.flatnonzero(~pixels.sky)
            self._levels = np.zeros(self._border.size)
        known = (pixels.reference & plane.alive).reshape(-1)[self._border]
        self._levels += np.where(known, plane.signal.reshape(-1)[self._border], np.nan)

    def found(self, pixels: ExposurePixels) -> list[Transient]:
        """Return the amplifiers whose odd and even columns differ, with their bad reference pixels."""
        if not self._differences:
            return []
        differences, errors = np.array(self._differences), np.array(self._errors)
        count = len(differences)
        means = differences.mean(axis=0)
        scatter = differences.std(axis=0, ddof=1) / math.sqrt(count) if count > 1 else np.zeros_like(means)
        # What differs from pixel to pixel is the same in every integration, and does not average out.
        own = np.hypot(scatter, np.median(errors, axis=0))
        return [
            self._described(n, columns, Value(float(means[n]), float(own[n])), pixels.sky.shape[1])
            for n, columns in enumerate(pixels.amplifiers)
            if abs(means[n]) > max(_SIGNIFICANT * own[n], _LEAST_DN)
        ]

    def _described(self, number: int, columns: slice, offset: Value, width: int) -> Transient:
        difference, error = offset.value, offset.error
        higher = "2, 4, 6, .." if difference > 0 else "1, 3, 5, .."
        places = self._far_off(columns, width)
        listed = f"; reference pixels far off the others: {', '.join(places)}" if places else ""
        return Transient(
            what=f"odd and even columns, amplifier {number + 1}",
            unit="DN",
            value=difference,
            error=error,
            sigmas=abs(difference) / error if error > 0 else None,
            said=(
                f"in amplifier {number + 1} (columns {columns.start + 1} to {columns.stop}), columns "
                f"{higher} of it lie {abs(difference):.3g} ± {error:.2g} DN above their neighbours in group 0"
                f"{listed}"
            ),
        )

    def _far_off(self, columns: slice, width: int) -> list[str]:
        """Return the places of reference pixels of an amplifier far off the others, farthest first."""
        assert self._border is not None
        rows, places = np.divmod(self._border, width)
        levels = self._levels / len(self._differences)
        off = np.zeros(levels.size)
        inside = (places >= columns.start) & (places < columns.stop) & np.isfinite(levels)
        for parity in (0, 1):
            mine = inside & ((places - columns.start) % 2 == parity)
            if np.count_nonzero(mine) > 1:
                centre, sigma = median_and_sigma(levels[mine])
                off[mine] = np.abs(levels[mine] - centre) / max(sigma, np.finfo(float).tiny)
        order = [n for n in np.argsort(-off)[:_MOST_NAMED] if off[n] > _FAR_OFF]
        return [f"x = {places[n] + 1}, y = {rows[n] + 1}" for n in order]
