"""Temporal noise of a set: how slopes vary from ramp to ramp in each pixel, for every number of groups.

Bands of rows outside, groups ascending within: all ramps go forward together, so that only their running
sums are held, whatever the number of groups. Threads read the next window while all processors work on one.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.noise.effective_noise import MINIMUM_PER_PIXEL
from services.noise.memory import IN_FLIGHT, Windows
from services.noise.pixels import DO_NOT_USE
from services.noise.robust import variance_median_factor
from services.noise.slopes import BLOCK, RampSums, variances_over_ramps
from shared.configuration import ConfigurationKey
from shared.cubes import Cube
from shared.geometry import amplifiers, science_pixels
from shared.medians import median
from shared.processors import processors
from shared.ramps import Ramp

#: Reads at once: a disk or a bucket's store serves several better than one.
_REQUESTS = 8
#: Parts of a window for each processor.
_PARTS = 4
#: Threads that take medians at once; each holds a plane or two.
_MOST_THREADS = 4


def temporal_sigmas(
    ramps: Sequence[tuple[Ramp, int]],
    key: ConfigurationKey,
    windows: Windows,
    scratch: Path,
    tick: Callable[[], None],
) -> NDArray[np.float64]:
    """Return the root of the median over pixels of the variance over ramps of slope_n.

    Each pixel's variance is that of the ramps in which its first n groups are unflagged, at least
    `MINIMUM_PER_PIXEL` of them, corrected for the median of a sample variance of so many.

    Parameters
    ----------
    ramps : sequence of (Ramp, int)
        Open exposures, and an integration of each.
    key : ConfigurationKey
    windows : Windows
    scratch : Path
        Folder for a file that is removed again.
    tick : callable
        Called after every window.

    Returns
    -------
    ndarray of float64, 2D (numbers of groups from 2 on, amplifiers)
        DN/group; NaN where no pixel has ramps enough.
    """
    file = scratch / "variances.raw"
    shape = (key.ngroups, key.subsize2, key.subsize1)
    threads = processors()
    with ExitStack() as stack:
        stack.callback(file.unlink, missing_ok=True)
        cube = stack.enter_context(Cube(file, shape, np.float32, as_fits=False))
        working = stack.enter_context(ThreadPoolExecutor(threads, "variance"))
        requests = stack.enter_context(ThreadPoolExecutor(_REQUESTS, "request"))
        stack.callback(requests.shutdown, cancel_futures=True)
        factors = variance_median_factor(np.arange(len(ramps) + 1))
        written: deque[Future[None]] = deque()
        for loaded in _Walk(ramps, key, windows, requests):
            pixels = loaded.signal.shape[2]
            step = -(-pixels // (threads * _PARTS * BLOCK)) * BLOCK
            parts = [slice(at, min(at + step, pixels)) for at in range(0, pixels, step)]
            if len(written) == IN_FLIGHT:
                # What this window puts its variances into must have gone to the file.
                written.popleft().result()
            work = [
                working.submit(
                    variances_over_ramps,
                    loaded.signal,
                    loaded.quality,
                    loaded.groups.start,
                    loaded.sums,
                    factors,
                    MINIMUM_PER_PIXEL,
                    part,
                    loaded.variances,
                )
                for part in parts
            ]
            for one in work:
                one.result()
            found = loaded.variances.reshape(len(loaded.variances), -1, key.subsize1)
            # While the next window is worked on.
            written.append(requests.submit(cube.write, loaded.groups.start, loaded.rows.start, found))
            tick()
        for last in written:
            last.result()

        def by_amplifier(group: int) -> list[float]:
            plane = cube.plane(group)
            return [float(np.sqrt(median(plane[:, columns].reshape(-1)))) for columns in amplifiers(key)]

        medians = stack.enter_context(ThreadPoolExecutor(min(threads, _MOST_THREADS), "median"))
        return np.array(list(medians.map(by_amplifier, range(1, key.ngroups))))


def windows_of(key: ConfigurationKey, windows: Windows) -> int:
    """Return how many windows there are."""
    return -(-key.subsize2 // windows.rows) * -(-key.ngroups // windows.groups)


@dataclass(frozen=True)
class _Loaded:
    """A window in memory, and where it belongs."""

    rows: slice
    groups: slice
    signal: NDArray[np.uint32]
    quality: NDArray[np.uint8]
    variances: NDArray[np.float32]
    sums: RampSums
    reads: list[Future[None]]


class _Walk:
    """Yields the windows one after the other; reads one ahead."""

    def __init__(
        self,
        ramps: Sequence[tuple[Ramp, int]],
        key: ConfigurationKey,
        windows: Windows,
        requests: ThreadPoolExecutor,
    ) -> None:
        self._ramps = ramps
        self._key = key
        self._windows = windows
        self._requests = requests
        self._sky = science_pixels(key)
        count, pixels = len(ramps), windows.rows * key.subsize1
        # Always the same memory, which the system has to clear once.
        self._signal = [np.empty(count * windows.groups * pixels, np.uint32) for _ in range(IN_FLIGHT)]
        self._quality = [np.empty(count * windows.groups * pixels, np.uint8) for _ in range(IN_FLIGHT)]
        self._variances = [np.empty(windows.groups * pixels, np.float32) for _ in range(IN_FLIGHT)]
        self._total, self._weighted = np.empty((2, count * pixels))
        self._alive = np.empty(count * pixels, np.bool_)

    def __iter__(self) -> Iterator[_Loaded]:
        ny, ngroups = self._key.subsize2, self._key.ngroups
        places = [
            (
                slice(top, min(top + self._windows.rows, ny)),
                slice(first, min(first + self._windows.groups, ngroups)),
            )
            for top in range(0, ny, self._windows.rows)
            for first in range(0, ngroups, self._windows.groups)
        ]
        ahead = self._start(0, *places[0])
        for number, (rows, groups) in enumerate(places):
            loaded = ahead
            for read in loaded.reads:
                read.result()
            if number + 1 < len(places):
                ahead = self._start(number + 1, *places[number + 1])
            if groups.start == 0:
                self._begin(rows, loaded.sums)
            yield loaded

    def _begin(self, rows: slice, sums: RampSums) -> None:
        sums.total[:] = 0
        sums.weighted[:] = 0
        pixeldq = {id(ramp): ramp for ramp, _ in self._ramps}
        usable = {
            name: (self._sky[rows] & (ramp.read_image("PIXELDQ", rows) & DO_NOT_USE == 0)).ravel()
            for name, ramp in pixeldq.items()
        }
        for alive, (ramp, _) in zip(sums.alive, self._ramps, strict=True):
            alive[:] = usable[id(ramp)]

    def _start(self, number: int, rows: slice, groups: slice) -> _Loaded:
        slot = number % IN_FLIGHT
        count, depth = len(self._ramps), groups.stop - groups.start
        pixels = (rows.stop - rows.start) * self._key.subsize1
        signal = self._signal[slot][: count * depth * pixels].reshape(count, depth, pixels)
        quality = self._quality[slot][: count * depth * pixels].reshape(count, depth, pixels)
        sums = RampSums(
            self._total[: count * pixels].reshape(count, pixels),
            self._weighted[: count * pixels].reshape(count, pixels),
            self._alive[: count * pixels].reshape(count, pixels),
        )
        variances = self._variances[slot][: depth * pixels].reshape(depth, pixels)
        reads = [
            self._requests.submit(self._read, n, groups, rows, signal[n], quality[n]) for n in range(count)
        ]
        return _Loaded(rows, groups, signal, quality, variances, sums, reads)

    def _read(
        self, n: int, groups: slice, rows: slice, signal: NDArray[np.uint32], quality: NDArray[np.uint8]
    ) -> None:
        ramp, integration = self._ramps[n]
        shape = (len(signal), -1, self._key.subsize1)
        ramp.read_stored("SCI", integration, groups, rows, signal.view(">f4").reshape(shape))
        ramp.read_stored("GROUPDQ", integration, groups, rows, quality.reshape(shape))
