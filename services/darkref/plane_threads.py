"""Threads that measure planes side by side."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from shared.processors import processors

#: Threads that measure at once; each holds some planes.
_MOST_THREADS = 4


def side_by_side() -> ThreadPoolExecutor:
    """Return threads, no more than processors or than their planes may take memory."""
    return ThreadPoolExecutor(min(processors(), _MOST_THREADS), "measure")


def a_few_ahead(
    threads: ThreadPoolExecutor, frames: Sequence[Callable[[], NDArray[np.float32]]]
) -> Iterator[NDArray[np.float32]]:
    """Yield every frame in order, those that come next being made meanwhile.

    Parameters
    ----------
    threads : ThreadPoolExecutor
    frames : sequence of callable
        Each returns a plane, 2D (y, x); as many as there may be threads are in memory at once.
    """
    coming = deque(threads.submit(frame) for frame in frames[:_MOST_THREADS])
    for number in range(len(frames)):
        yield coming.popleft().result()
        if number + _MOST_THREADS < len(frames):
            coming.append(threads.submit(frames[number + _MOST_THREADS]))
