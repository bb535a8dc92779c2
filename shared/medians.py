"""The values in the middle, found without putting the rest in order."""

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from shared.compiled import kernel

#: Standard deviation of a Gaussian over its median absolute deviation (MAD).
SIGMA_PER_MAD = 1 / NormalDist().inv_cdf(0.75)

# Below this a plain partition is as quick.
_SMALL = 1 << 12
# Values in a sample, over the root of all: more take longer to sort than they spare.
_SAMPLED = 5
# Standard deviations of a sample's quantile, sqrt(n) / 2 places at most, on either side. One plane in a
# thousand lies beyond and has to be partitioned as a whole, which costs less than a wider bracket.
_WIDTH = 3.3
# Values that are compared at once; their marks stay in the nearest cache.
_BLOCK = 2048


class Room:
    """Memory for planes, used again for the next ones: fresh memory takes longer than what is done in it.

    Not for several threads at once.
    """

    def __init__(self) -> None:
        self._held: dict[str, NDArray[np.uint8]] = {}

    def array(self, name: str, size: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return an array, 1D, of anything; what was asked for under this name before is overwritten."""
        wanted = size * np.dtype(dtype).itemsize
        if name not in self._held or self._held[name].size < wanted:
            self._held[name] = np.empty(wanted, np.uint8)
        return self._held[name][:wanted].view(dtype)


def median(values: NDArray[Any], room: Room | None = None) -> float:
    """Return the exact median, NaN of nothing.

    Parameters
    ----------
    values : ndarray, 1D
        In any order; NaN takes no part.
    room : Room, optional
        To work in.
    """
    first, second = middles(values, room)
    # In double precision, or the mean of the two would be rounded to single.
    return (float(first) + float(second)) / 2


def median_and_sigma(values: NDArray[Any], room: Room | None = None) -> tuple[float, float]:
    """Return the median and the robust standard deviation (1.4826 MAD about it); NaN of nothing.

    Parameters
    ----------
    values : ndarray, 1D
        In any order; NaN takes no part.
    room : Room, optional
        To work in.
    """
    centre = median(values, room)
    first, second = middle_deviations(values, centre, room)
    return centre, SIGMA_PER_MAD * ((float(first) + float(second)) / 2)


def middles(values: NDArray[Any], room: Room | None = None) -> tuple[Any, Any]:
    """Return the two values in the middle of the order, the same one twice of an odd number.

    Parameters
    ----------
    values : ndarray, 1D
        In any order; NaN takes no part.
    room : Room, optional
        To work in.

    Returns
    -------
    (scalar, scalar)
        Of the type of `values`; NaN of nothing.
    """
    return _middles(values, None, room or Room())


def middle_deviations(values: NDArray[Any], centre: Any, room: Room | None = None) -> tuple[Any, Any]:
    """Return the two values in the middle of the order of ``abs(values - centre)``; see `middles`."""
    return _middles(values, values.dtype.type(centre), room or Room())


def _middles(values: NDArray[Any], centre: Any, room: Room) -> tuple[Any, Any]:
    if values.size < _SMALL:
        return _plainly(values, centre)
    # Only what lies close to a sample's median has to be put in order, which is several times faster
    # than a partition of a whole amplifier.
    sample = _sample(values, centre)
    if not sample.size:
        return _plainly(values, centre)
    low, high = _bracket(sample, 0.5)
    inside = room.array("inside", values.size, values.dtype)
    if centre is None:
        below, found, above = _between(values, low, high, inside)
    else:
        below, found, above = _deviations_between(values, centre, low, high, inside)
    known = below + found + above
    first, second = (known - 1) // 2 - below, known // 2 - below
    if first < 0 or second >= found:
        # The sample misled: structure of the detector can beat with its stride.
        return _plainly(values, centre)
    if low == high:
        return low, low
    return _at(inside[:found], first, second, room)


def _at(values: NDArray[Any], first: int, second: int, room: Room) -> tuple[Any, Any]:
    """Return what is at two neighbouring places of the order, or at one; NaN must be out. Reorders."""
    if values.size >= _SMALL:
        sample = _sample(values, None)
        low, high = _bracket(sample, first / values.size)
        inside = room.array("inside of that", values.size, values.dtype)
        below, found, _ = _between(values, low, high, inside)
        if first >= below and second < below + found:
            values, first, second = inside[:found], first - below, second - below
    # The next one is found faster by itself: numpy is quick at one place at a time.
    values.partition(first)
    return values[first], values[first] if first == second else values[second:].min()


def _plainly(values: NDArray[Any], centre: Any) -> tuple[Any, Any]:
    known = _known(_from(centre, values))
    if not known.size:
        return math.nan, math.nan
    first, second = (known.size - 1) // 2, known.size // 2
    known.partition(first)
    return known[first], known[first] if first == second else known[second:].min()


def _sample(values: NDArray[Any], centre: Any) -> NDArray[Any]:
    """Return every so manieth value (or distance from the centre), in order and without NaN."""
    sample = _known(_from(centre, values[:: int(math.sqrt(values.size)) // _SAMPLED]))
    sample.sort()
    return sample


def _bracket(sample: NDArray[Any], part: float) -> tuple[Any, Any]:
    """Return two values of a sample between which all values' quantile nearly certainly lies."""
    place = part * (sample.size - 1)
    margin = _WIDTH * math.sqrt(sample.size) / 2
    return sample[max(math.floor(place - margin), 0)], sample[min(math.ceil(place + margin), sample.size - 1)]


def _from(centre: Any, values: NDArray[Any]) -> NDArray[Any]:
    return values.copy() if centre is None else np.abs(values - centre)


def _known(values: NDArray[Any]) -> NDArray[Any]:
    # A look at the largest, which NaN would be, takes less time than picking.
    return values if values.size and not np.isnan(values.max()) else values[values == values]


@kernel
def _between(values: NDArray[Any], low: float, high: float, inside: NDArray[Any]) -> tuple[int, int, int]:
    marks = np.empty(_BLOCK, np.uint8)
    places = np.empty(_BLOCK // 4 + 1, np.int32)
    below = 0
    found = 0
    above = 0
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        less, more = _mark(block, low, high, marks)
        below += less
        above += more
        found = _keep(block, marks, places, inside, found)
    return below, found, above


@kernel
def _deviations_between(
    values: NDArray[Any], centre: float, low: float, high: float, inside: NDArray[Any]
) -> tuple[int, int, int]:
    marks = np.empty(_BLOCK, np.uint8)
    places = np.empty(_BLOCK // 4 + 1, np.int32)
    deviations = np.empty(_BLOCK, values.dtype)
    below = 0
    found = 0
    above = 0
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        _deviate(block, centre, deviations)
        block = deviations[: block.size]
        less, more = _mark(block, low, high, marks)
        below += less
        above += more
        found = _keep(block, marks, places, inside, found)
    return below, found, above


@kernel
def _deviate(values, centre, deviations):  # type: ignore[no-untyped-def]
    for i in range(values.size):
        deviations[i] = abs(values[i] - centre)


# Without a branch, so that the compiler compares many values at once.
@kernel
def _mark(values, low, high, marks):  # type: ignore[no-untyped-def]
    below = np.int32(0)
    above = np.int32(0)
    for i in range(values.size):
        value = values[i]
        below += np.int32(value < low)
        above += np.int32(value > high)
        marks[i] = (value >= low) & (value <= high)
    return below, above


@kernel
def _keep(values, marks, places, inside, found):  # type: ignore[no-untyped-def]
    # Most fours hold nothing. First a list of those that do, then their values: everything is written always
    # and kept sometimes, so that there is no branch for the processor to guess wrong.
    fours = marks.view(np.uint32)
    whole = values.size // 4
    count = 0
    for four in range(whole):
        places[count] = 4 * four
        count += fours[four] != 0
    for n in range(count):
        first = places[n]
        for i in range(first, first + 4):
            inside[found] = values[i]
            found += marks[i]
    for i in range(4 * whole, values.size):
        inside[found] = values[i]
        found += marks[i]
    return found
