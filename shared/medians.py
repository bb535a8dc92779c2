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
_SMALL = 1 << 15
_SAMPLE = 1 << 13
# Standard deviations of a sample's quantile, sqrt(n) / 2 places, on either side.
_WIDTH = 5


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
        Finite numbers, in any order.
    room : Room, optional
        To work in.
    """
    if not values.size:
        return math.nan
    first, second = middles(values, room)
    # In double precision, or the mean of the two would be rounded to single.
    return (float(first) + float(second)) / 2


def median_and_sigma(values: NDArray[Any], room: Room | None = None) -> tuple[float, float]:
    """Return the median and the robust standard deviation (1.4826 MAD about it); NaN of nothing.

    Parameters
    ----------
    values : ndarray, 1D
        Finite numbers.
    room : Room, optional
        To work in.
    """
    centre = median(values, room)
    if not values.size:
        return centre, math.nan
    first, second = middle_deviations(values, centre, room)
    return centre, SIGMA_PER_MAD * ((float(first) + float(second)) / 2)


def middles(values: NDArray[Any], room: Room | None = None) -> tuple[Any, Any]:
    """Return the two values in the middle of the order, the same one twice of an odd number.

    Parameters
    ----------
    values : ndarray, 1D
        Finite numbers in any order, at least one.
    room : Room, optional
        To work in.

    Returns
    -------
    (scalar, scalar)
        Of the type of `values`.
    """
    return _middles(values, None, room or Room())


def middle_deviations(values: NDArray[Any], centre: Any, room: Room | None = None) -> tuple[Any, Any]:
    """Return the two values in the middle of the order of ``abs(values - centre)``; see `middles`."""
    return _middles(values, values.dtype.type(centre), room or Room())


def _middles(values: NDArray[Any], centre: Any, room: Room) -> tuple[Any, Any]:
    count = values.size
    places = (count - 1) // 2, count // 2
    if count < _SMALL:
        return _partitioned(_from(centre, values), *places)
    # Only what lies close to a sample's median has to be put in order, which is several times faster
    # than a partition of a whole amplifier.
    sample = _from(centre, values[:: count // _SAMPLE])
    sample.sort()
    margin = int(_WIDTH * math.sqrt(sample.size) / 2)
    low, high = sample[sample.size // 2 - margin], sample[sample.size // 2 + margin]
    inside = room.array("inside", count, values.dtype)
    if centre is None:
        below, found = _between(values, low, high, inside)
    else:
        below, found = _deviations_between(values, centre, low, high, inside)
    first, second = places[0] - below, places[1] - below
    if first < 0 or second >= found:
        # The sample misled: structure of the detector can beat with its stride.
        return _partitioned(_from(centre, values), *places)
    return _partitioned(inside[:found], first, second)


def _from(centre: Any, values: NDArray[Any]) -> NDArray[Any]:
    return values.copy() if centre is None else np.abs(values - centre)


def _partitioned(values: NDArray[Any], first: int, second: int) -> tuple[Any, Any]:
    # The next one is found faster by itself: numpy is quick at one place at a time.
    values.partition(first)
    return values[first], values[first] if first == second else values[second:].min()


@kernel
def _between(values: NDArray[Any], low: float, high: float, inside: NDArray[Any]) -> tuple[int, int]:
    below = 0
    found = 0
    for value in values:
        below += value < low
        # Written always and kept sometimes: no branch for the processor to guess wrong.
        inside[found] = value
        found += (value >= low) & (value <= high)
    return below, found


@kernel
def _deviations_between(
    values: NDArray[Any], centre: float, low: float, high: float, inside: NDArray[Any]
) -> tuple[int, int]:
    below = 0
    found = 0
    for one in values:
        value = abs(one - centre)
        below += value < low
        inside[found] = value
        found += (value >= low) & (value <= high)
    return below, found
