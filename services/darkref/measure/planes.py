"""A combined set as the measurements see it: plane by plane, so that no cube is ever in memory."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.processors import processors

_Frame = TypeVar("_Frame")
#: Threads that measure at the same time; each holds some planes.
_MOST_THREADS = 4


@dataclass(frozen=True)
class MeanRamp:
    """The mean ramp of a set and the slopes of its integrations; every plane is 2D (y, x).

    Attributes
    ----------
    slope : ndarray of float32
        Slope of the mean ramp, DN per group; NaN where there is none.
    integration_slope : callable
        Returns the slopes of one integration (same unit; NaN where it has a bad group), by its index.
    integrations : int
    sci, err, n_valid : callable
        Return one group of the mean ramp (DN), of its error (DN), and of the number of measurements, by its
        index.
    groups : int
    science : ndarray of bool
        Science pixels.
    amplifiers : list of slice
        Columns of each output.
    gain : float
        e-/DN.
    group_time : float
        s from group to group.
    """

    slope: NDArray[np.float32]
    integration_slope: Callable[[int], NDArray[np.float32]]
    integrations: int
    sci: Callable[[int], NDArray[np.float32]]
    err: Callable[[int], NDArray[np.float32]]
    n_valid: Callable[[int], NDArray[np.unsignedinteger]]
    groups: int
    science: NDArray[np.bool_]
    amplifiers: list[slice]
    gain: float
    group_time: float

    @property
    def frames(self) -> list[Callable[[], NDArray[np.float32]]]:
        """For each group of SCI a function that reads it."""
        return [partial(self.sci, group) for group in range(self.groups)]

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Pixels whose last group every integration measures, so that none drops out of their mean ramp."""
        complete: NDArray[np.bool_] = self.n_valid(self.groups - 1) == self.integrations
        return complete


def measuring_threads() -> ThreadPoolExecutor:
    """Return threads for measuring planes: no more than processors, or than there is memory for."""
    return ThreadPoolExecutor(min(processors(), _MOST_THREADS), "measure")


def read_ahead(threads: ThreadPoolExecutor, frames: Sequence[Callable[[], _Frame]]) -> Iterator[_Frame]:
    """Yield every frame in order while the next few are being read.

    Parameters
    ----------
    threads : ThreadPoolExecutor
    frames : sequence of callable
        Each returns a plane, 2D (y, x), or a few of them; at most as many as there may be threads are in
        memory at once.
    """
    pending = deque(threads.submit(frame) for frame in frames[:_MOST_THREADS])
    for number in range(len(frames)):
        yield pending.popleft().result()
        if number + _MOST_THREADS < len(frames):
            pending.append(threads.submit(frames[number + _MOST_THREADS]))
