"""Exact medians of large planes, several times faster than a partition of all values.

A sample brackets the median; only the values inside the bracket have to be put in order. Where the sample
misleads, all of them are. Sigma from the median absolute deviation is in `shared.statistics.robust`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from shared.statistics.jit import kernel

# Below this size a plain partition is as fast.
_SMALL = 1 << 12
# Size of the sample, over the square root of the number of values: a larger one takes longer to sort than
# it saves.
_SAMPLE_SIZE = 5
# Half width of the bracket in standard errors of the sample's quantile (at most sqrt(n) / 2 places). One
# plane in a thousand falls outside and is partitioned whole, which costs less than a wider bracket.
_WIDTH = 3.3
# Values compared at once: their marks stay in the first-level cache.
_BLOCK = 2048


class Workspace:
    """Memory that successive planes share: allocating it anew takes longer than the work done in it.

    Not to be shared between threads.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[np.uint8]] = {}

    def array(self, name: str, size: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return an uninitialized 1D array; it overwrites what was last returned under this name."""
        wanted = size * np.dtype(dtype).itemsize
        if name not in self._arrays or self._arrays[name].size < wanted:
            self._arrays[name] = np.empty(wanted, np.uint8)
        return self._arrays[name][:wanted].view(dtype)


def median(values: NDArray[Any], workspace: Workspace | None = None) -> float:
    """Return the exact median in double precision.

    Parameters
    ----------
    values : ndarray, 1D
        In any order; NaN is ignored.
    workspace : Workspace, optional
        Memory to work in, where many planes are measured one after the other.

    Returns
    -------
    float
        NaN of no values.
    """
    lower, upper = middles(values, workspace)
    # numpy would round the mean of the two to the precision of the values.
    return (float(lower) + float(upper)) / 2


def middles(values: NDArray[Any], workspace: Workspace | None = None) -> tuple[Any, Any]:
    """Return the two middle values in order of size; of an odd number, the middle one twice.

    Parameters
    ----------
    values : ndarray, 1D
        In any order; NaN is ignored.
    workspace : Workspace, optional
        Memory to work in.

    Returns
    -------
    (scalar, scalar)
        Of the type of `values`; NaN of no values.
    """
    return _middles(values, None, workspace or Workspace())


def middle_deviations(
    values: NDArray[Any], centre: float, workspace: Workspace | None = None
) -> tuple[Any, Any]:
    """Return the two middle values of ``abs(values - centre)``; see `middles`.

    `centre` is rounded to the type of `values` first.
    """
    return _middles(values, values.dtype.type(centre), workspace or Workspace())


def gather(
    plane: NDArray[Any], mask: NDArray[np.bool_], columns: Sequence[slice], workspace: Workspace | None = None
) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Return the values of a plane where `mask` is True, as one array and stripe by stripe.

    Parameters
    ----------
    plane, mask : ndarray, 2D (y, x)
    columns : sequence of slice
        Columns of each stripe (amplifier).
    workspace : Workspace, optional
        Memory for the values, where they are not to be kept.

    Returns
    -------
    whole : ndarray, 1D
        Stripe by stripe, and row by row within each.
    parts : list of ndarray, 1D
        Views of `whole`, one per stripe.
    """
    gathered = (workspace or Workspace()).array("gathered", plane.size, plane.dtype)
    parts = []
    start = 0
    for stripe in columns:
        stop = start + int(_gather(plane, mask, stripe.start, stripe.stop, gathered[start:]))
        parts.append(gathered[start:stop])
        start = stop
    return gathered[:start], parts


def _middles(values: NDArray[Any], centre: Any, workspace: Workspace) -> tuple[Any, Any]:
    if values.size < _SMALL:
        return _middles_by_partition(values, centre)
    sample = _sorted_sample(values, centre)
    if not sample.size:
        return _middles_by_partition(values, centre)
    low, high = _bracket(sample, 0.5)
    inside = workspace.array("inside", values.size, values.dtype)
    if centre is None:
        below, count, above = _between(values, low, high, inside)
    else:
        below, count, above = _deviations_between(values, centre, low, high, inside)
    known = below + count + above
    first, second = (known - 1) // 2 - below, known // 2 - below
    if first < 0 or second >= count:
        # The sample misled: structure of the detector can beat with its stride.
        return _middles_by_partition(values, centre)
    if low == high:
        return low, low
    return _at(inside[:count], first, second, workspace)


def _at(values: NDArray[Any], first: int, second: int, workspace: Workspace) -> tuple[Any, Any]:
    """Return what is at one or two neighbouring places of the order. Reorders; NaN must be out."""
    if values.size >= _SMALL:
        sample = _sorted_sample(values, None)
        low, high = _bracket(sample, first / values.size)
        inside = workspace.array("inside the bracket", values.size, values.dtype)
        below, count, _ = _between(values, low, high, inside)
        if first >= below and second < below + count:
            values, first, second = inside[:count], first - below, second - below
    # numpy is fast at one place at a time; the smallest of the rest is the next one.
    values.partition(first)
    return values[first], values[first] if first == second else values[second:].min()


def _middles_by_partition(values: NDArray[Any], centre: Any) -> tuple[Any, Any]:
    known = _without_nan(_deviations(values, centre))
    if not known.size:
        return math.nan, math.nan
    first, second = (known.size - 1) // 2, known.size // 2
    known.partition(first)
    return known[first], known[first] if first == second else known[second:].min()


def _sorted_sample(values: NDArray[Any], centre: Any) -> NDArray[Any]:
    """Return evenly spaced values (or their distances from the centre), sorted and without NaN."""
    stride = int(math.sqrt(values.size)) // _SAMPLE_SIZE
    sample = _without_nan(_deviations(values[::stride], centre))
    sample.sort()
    return sample


def _bracket(sample: NDArray[Any], quantile: float) -> tuple[Any, Any]:
    """Return two values of a sample between which the quantile of all values almost certainly lies."""
    place = quantile * (sample.size - 1)
    margin = _WIDTH * math.sqrt(sample.size) / 2
    return sample[max(math.floor(place - margin), 0)], sample[min(math.ceil(place + margin), sample.size - 1)]


def _deviations(values: NDArray[Any], centre: Any) -> NDArray[Any]:
    return values.copy() if centre is None else np.abs(values - centre)


def _without_nan(values: NDArray[Any]) -> NDArray[Any]:
    # Looking at the maximum, which is NaN if there is one, takes less time than selecting.
    return values if values.size and not np.isnan(values.max()) else values[values == values]


@kernel
def _gather(
    plane: NDArray[Any], mask: NDArray[np.bool_], start: int, stop: int, gathered: NDArray[Any]
) -> int:
    count = 0
    for row in range(plane.shape[0]):
        for column in range(start, stop):
            if mask[row, column]:
                gathered[count] = plane[row, column]
                count += 1
    return count


@kernel
def _between(values: NDArray[Any], low: float, high: float, inside: NDArray[Any]) -> tuple[int, int, int]:
    """Copy what lies in [low, high] to `inside`; return how many lie below, inside and above."""
    marks = np.empty(_BLOCK, np.uint8)
    places = np.empty(_BLOCK // 4 + 1, np.int32)
    below = 0
    count = 0
    above = 0
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        less, more = _mark(block, low, high, marks)
        below += less
        above += more
        count = _append(block, marks, places, inside, count)
    return below, count, above


@kernel
def _deviations_between(
    values: NDArray[Any], centre: float, low: float, high: float, inside: NDArray[Any]
) -> tuple[int, int, int]:
    """Do as `_between` does with the distances from the centre."""
    marks = np.empty(_BLOCK, np.uint8)
    places = np.empty(_BLOCK // 4 + 1, np.int32)
    deviations = np.empty(_BLOCK, values.dtype)
    below = 0
    count = 0
    above = 0
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        _deviate(block, centre, deviations)
        block = deviations[: block.size]
        less, more = _mark(block, low, high, marks)
        below += less
        above += more
        count = _append(block, marks, places, inside, count)
    return below, count, above


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
def _append(values, marks, places, inside, count):  # type: ignore[no-untyped-def]
    # Most runs of four hold nothing. First list those that do, then copy their values: each is written
    # always and kept sometimes, so that there is no branch for the processor to mispredict.
    fours = marks.view(np.uint32)
    whole = values.size // 4
    listed = 0
    for four in range(whole):
        places[listed] = 4 * four
        listed += fours[four] != 0
    for n in range(listed):
        first = places[n]
        for i in range(first, first + 4):
            inside[count] = values[i]
            count += marks[i]
    for i in range(4 * whole, values.size):
        inside[count] = values[i]
        count += marks[i]
    return count
