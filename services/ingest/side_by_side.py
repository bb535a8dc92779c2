"""Works on pieces of an exposure side by side, on the processors that the job has.

Threads suffice: jwst's and stcal's code spends nearly all of its time in NumPy, which lets other threads run
meanwhile, and threads share the planes and the reference files.
"""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from astropy.utils.exceptions import AstropyUserWarning

P = TypeVar("P")
R = TypeVar("R")


def side_by_side(work: Callable[[P], R], pieces: Iterable[P], threads: int) -> Iterator[R]:
    """Yield the result of every piece, in order.

    A piece is taken from `pieces`, in the caller's thread, while the threads work on those before it. With
    more than one thread, at most one piece more is in memory than there are threads.

    Parameters
    ----------
    work : callable
        Called with a piece; with more than one thread, in any of them.
    pieces : iterable
    threads : int
        With 1, all is done in the caller's thread.

    Raises
    ------
    Exception
        What `work` raises for the first piece that fails.

    Examples
    --------
    >>> list(side_by_side(abs, [-1, 2, -3], threads=2))
    [1, 2, 3]
    """
    if threads == 1:
        yield from map(work, pieces)
        return
    waiting: deque[Future[R]] = deque()
    # The filters of warnings are those of the process. stcal changes them and puts back what it met, which
    # may be what another thread has changed.
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore", RuntimeWarning)
        # Of NaN, from astropy's sigma clipping.
        warnings.simplefilter("ignore", AstropyUserWarning)
        try:
            for piece in pieces:
                waiting.append(pool.submit(work, piece))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
