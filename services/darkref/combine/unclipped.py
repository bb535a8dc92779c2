"""What the clip removed: at which places, and what mean and variance were there before it.

The clip takes a pixel that is hot in three of ten integrations for a quiet one with three outliers. SCI is
then the mean of the quiet ones, with a small error, and nothing tells that a third of all exposures will see
something else. Whether a pixel is noisy has to be judged on all of its values, so flight mode keeps, for
every place (group and pixel) where the clip removed something, the mean and the variance of all values, and
the variance without the value that is farthest out. That is one place in twenty of Gaussian noise, kept on
disk until the pixels are judged (`services.darkref.combine.pooled_errors`).

One value that was clipped may be a hit that the jump step missed, and stays clipped. Hits are independent:
where the clip removes as much as a fifth of the values, two at least, in group after group, no hits have done
it.
"""

import os
from collections import defaultdict
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: From this fraction of the values on, no hits explain what the clip removed.
_NO_HITS_FRACTION = 0.2
_FEWEST = 2


class ClippedValues(NamedTuple):
    """Places of a window where the clip removed something.

    Attributes
    ----------
    at : ndarray of uint32, 2D (places, 3)
        Group and pixel, counted from the first of the window, and how many values were removed.
    values : ndarray of float32, 2D (places, 3)
        Mean and variance (ddof 1) of all values, and the variance without the one farthest from the mean; DN.
    """

    at: NDArray[np.uint32]
    values: NDArray[np.float32]


class ClippedPlane(NamedTuple):
    """Places of one group where the clip removed something; arrays are 1D.

    Attributes
    ----------
    pixel : ndarray of uint32
        Index in the plane; no pixel comes twice.
    removed : ndarray of uint32
        Number of values.
    mean, variance, without_farthest : ndarray of float32
        As in `ClippedValues`.
    """

    pixel: NDArray[np.uint32]
    removed: NDArray[np.uint32]
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    without_farthest: NDArray[np.float32]


class ClippedPlaces(AbstractContextManager["ClippedPlaces", None]):
    """All places of a set where the clip removed something, by group, in a file.

    Parameters
    ----------
    path : Path
        Removed with the context.
    """

    _ITEM = 5 * 4

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w+b", buffering=0)
        self._size = 0
        self._parts: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def add(self, first_group: int, first_pixel: int, clipped: ClippedValues) -> None:
        """Add the places of a window; one thread at a time.

        Parameters
        ----------
        first_group, first_pixel : int
            Where the window begins: its group in the ramp, its pixel in the plane.
        clipped : ClippedValues
        """
        order = np.argsort(clipped.at[:, 0], kind="stable")
        groups = clipped.at[order, 0]
        record = np.empty((len(order), 5), np.uint32)
        record[:, 0] = clipped.at[order, 1] + np.uint32(first_pixel)
        record[:, 1] = clipped.at[order, 2]
        record[:, 2:] = clipped.values[order].view(np.uint32)
        for group in np.unique(groups):
            first, last = np.searchsorted(groups, [group, group + 1])
            self._parts[first_group + int(group)].append((self._size + int(first), int(last - first)))
        # Never moves the file's position, so that groups can be read by several threads.
        data, offset = memoryview(record.tobytes()), self._size * self._ITEM
        while data:
            written = os.pwrite(self._file.fileno(), data, offset)
            data, offset = data[written:], offset + written
        self._size += len(order)

    def of_group(self, group: int) -> ClippedPlane:
        """Return the places of a group; several threads may read at once."""
        parts = []
        for first, count in self._parts[group]:
            stored = os.pread(self._file.fileno(), count * self._ITEM, first * self._ITEM)
            parts.append(np.frombuffer(stored, np.uint32).reshape(-1, 5))
        record = np.concatenate([np.empty((0, 5), np.uint32), *parts])
        numbers = np.ascontiguousarray(record[:, 2:].T).view(np.float32)
        return ClippedPlane(record[:, 0], record[:, 1], *numbers)

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def more_than_hits(plane: ClippedPlane, n_valid: NDArray[np.unsignedinteger]) -> NDArray[np.bool_]:
    """Return at which places the clip removed more than missed hits can explain.

    Parameters
    ----------
    plane : ClippedPlane
    n_valid : ndarray of unsigned int, 1D
        Values before the clip, at the same places.

    Examples
    --------
    >>> removed = np.array([1, 2, 3, 3], np.uint32)
    >>> plane = ClippedPlane(np.arange(4, dtype=np.uint32), removed, *np.zeros((3, 4), np.float32))
    >>> more_than_hits(plane, np.array([5, 5, 10, 20])).tolist()
    [False, True, True, False]
    """
    least = np.maximum(np.ceil(_NO_HITS_FRACTION * n_valid), _FEWEST)
    result: NDArray[np.bool_] = plane.removed >= least
    return result
