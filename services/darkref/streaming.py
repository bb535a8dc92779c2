"""Walk a set of ramps window by window, and combine them into the product's own files.

Threads read the next window, and write the one before, while all processors combine one. Nothing in the
results depends on how many there are.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.darkref.block_kernels import BLOCK
from services.darkref.modes import Mode
from services.darkref.windows import IN_FLIGHT, BandState, Combined, Window, WindowPlan
from shared.cubes import Cube
from shared.processors import processors
from shared.ramps import Ramp
from shared.stage import Progress

#: Reads and writes at once: a disk or a bucket's store serves several better than one.
_REQUESTS = 8
#: Bytes of GROUPDQ in one read, if that is a group or more.
_FLAGS_AT_ONCE = 8 * 1024**2
#: Parts of a window for each processor: the last to finish should not keep the others waiting.
_PARTS = 4


@dataclass
class CombinedSet:
    """What a set of ramps came to.

    Attributes
    ----------
    sci, err : Cube of float32, (groups, y, x)
        Mean, and population standard deviation or (flight mode) standard error of the mean, DN.
    nmeas : Cube of uint16, (groups, y, x)
        Measurements before the clip.
    slopes : Cube of float32, (integrations, y, x)
        Least-squares slope of each integration, DN per group; NaN where it was hit.
    slope : ndarray of float32, 2D (y, x)
        Least-squares slope of SCI over the groups that were measured, DN per group; NaN with fewer
        than two of them.
    used, kept, unmeasured, single : int
        Measurements before and after the clip; (group, pixel) places without any, and, where the mode
        counts them, with just one.
    """

    sci: Cube
    err: Cube
    nmeas: Cube
    slopes: Cube
    slope: NDArray[np.float32] = field(init=False)
    used: int = 0
    kept: int = 0
    unmeasured: int = 0
    single: int = 0

    def __post_init__(self) -> None:
        self.slope = np.empty(self.sci.shape[1:], np.float32)

    def add(self, tally: NDArray[np.int64]) -> None:
        """Count what a part of a window came to, in the order of the attributes."""
        used, kept, unmeasured, *single = (int(count) for count in tally)
        self.used += used
        self.kept += kept
        self.unmeasured += unmeasured
        self.single += sum(single)


@dataclass(frozen=True)
class Integration:
    """One integration of an open ramp."""

    ramp: Ramp
    index: int


def combine_set(
    integrations: Sequence[Integration],
    into: CombinedSet,
    windows: WindowPlan,
    mode: Mode,
    sigma: float,
    scratch: Path,
    progress: Progress,
    threads: int | None = None,
) -> None:
    """Combine integrations, bands of rows outside and groups ascending within.

    That order needs the sums of one band only. Where each integration was hit first is found before, in
    one pass over GROUPDQ, and kept on disk.

    Parameters
    ----------
    integrations : sequence of Integration
    into : CombinedSet
    windows : WindowPlan
    mode : Mode
    sigma : float
    scratch : Path
        Folder for a file that is removed again.
    progress : callable
    threads : int, optional
        That combine at once; as many as this process has processors.
    """
    threads = threads or processors()
    ngroups, ny, nx = into.sci.shape
    hits_file = scratch / "hits.raw"
    dtype = np.uint8 if ngroups < np.iinfo(np.uint8).max else np.uint16
    with ExitStack() as stack:
        requests = stack.enter_context(ThreadPoolExecutor(_REQUESTS, "request"))
        combining = stack.enter_context(ThreadPoolExecutor(threads, "combine"))
        hits = stack.enter_context(Cube(hits_file, (len(integrations), ny, nx), dtype, as_fits=False))
        stack.callback(requests.shutdown, cancel_futures=True)
        progress(0, windows.windows, "reading flags")
        _all(requests.submit(_find_hits, one, n, hits, mode) for n, one in enumerate(integrations))
        walk = _Walk(integrations, into, windows, hits, requests, mode.pedestals)
        weights = walk.weights
        syncing: list[Future[None]] = []
        for done, loaded in enumerate(walk, start=1):
            parts = _parts(loaded.window.signal.shape[2], threads)
            tallies = [
                combining.submit(mode.combine, loaded.window, loaded.state, sigma, part, loaded.combined)
                for part in parts
            ]
            for tally in tallies:
                into.add(tally.result())
            walk.written(requests.submit(_write, loaded.combined, loaded.groups, loaded.rows, into))
            if loaded.groups.stop == ngroups:
                into.slope[loaded.rows] = _slope(loaded.state.line).reshape(-1, nx)
                _write_slopes(loaded, into.slopes, ngroups, float(np.sum(weights**2)))
                if loaded.rows.stop < ny:
                    # So that, once all is done, little is left for the store to wait for.
                    syncing += [requests.submit(cube.sync) for cube in (into.sci, into.err, into.nmeas)]
            progress(done, windows.windows, "combining windows of groups and rows")
        walk.finish()
        _finish(syncing)
    hits_file.unlink()


def _find_hits(integration: Integration, index: int, hits: Cube, mode: Mode) -> None:
    ramp = integration.ramp
    _, ngroups, ny, nx = ramp.shape("GROUPDQ")
    first = np.full(ny * nx, np.iinfo(hits.dtype).max, hits.dtype)
    depth = max(_FLAGS_AT_ONCE // (ny * nx), 1)
    flags = np.empty((min(depth, ngroups), ny, nx), np.uint8)
    for start in range(0, ngroups, depth):
        groups = slice(start, min(start + depth, ngroups))
        part = flags[: groups.stop - start]
        ramp.read_stored("GROUPDQ", integration.index, groups, slice(None), part)
        mode.add_ends(part.reshape(len(part), -1), start, first)
    hits.write(index, 0, first.reshape(1, ny, nx))


@dataclass
class _Loaded:
    """A window in memory, and where it belongs."""

    rows: slice
    groups: slice
    window: Window
    state: BandState
    combined: Combined
    reads: list[Future[None]]


class _Walk:
    """Yields the windows one after the other, each with its samples; the next ones are being read."""

    def __init__(
        self,
        integrations: Sequence[Integration],
        into: CombinedSet,
        windows: WindowPlan,
        hits: Cube,
        requests: ThreadPoolExecutor,
        pedestals: bool,
    ) -> None:
        self._integrations = integrations
        self._into = into
        self._requests = requests
        self._hits = hits
        self._plan = windows
        ngroups, _, self._nx = into.sci.shape
        self.weights = np.arange(ngroups, dtype=np.float64) - (ngroups - 1) / 2
        count, pixels = len(integrations), windows.rows * self._nx
        # Always the same memory, which the system has to clear once.
        self._samples = [np.empty(count * windows.groups * pixels, np.uint32) for _ in range(IN_FLIGHT)]
        self._results = [np.empty(5 * windows.groups * pixels, np.uint16) for _ in range(IN_FLIGHT)]
        self._first_hits = [np.empty(count * pixels, hits.dtype) for _ in range(IN_FLIGHT)]
        self._moment = np.empty(count * pixels)
        self._line = np.empty(5 * pixels)
        self._pedestal = np.empty(count * pixels, np.float32) if pedestals else None
        self._writes: list[Future[None]] = []

    def __iter__(self) -> Iterator[_Loaded]:
        places = [
            (band, rows, groups)
            for band, rows in enumerate(self._plan.row_slices())
            for groups in self._plan.group_slices()
        ]
        started = deque(self._start(number, *place) for number, place in enumerate(places[: IN_FLIGHT - 1]))
        for number in range(len(places)):
            loaded = started.popleft()
            _finish(loaded.reads)
            coming = number + IN_FLIGHT - 1
            if coming < len(places):
                started.append(self._start(coming, *places[coming]))
            if loaded.groups.start == 0:
                loaded.state.moment[:] = 0
                loaded.state.line[:] = 0
            # The results go where those of an earlier window were.
            _finish(self._writes[-IN_FLIGHT : -IN_FLIGHT + 1])
            yield loaded

    def written(self, write: Future[None]) -> None:
        """Note that the results of the window at hand are being written."""
        self._writes.append(write)

    def finish(self) -> None:
        """Wait until all is written."""
        _finish(self._writes)

    def _start(self, number: int, band: int, rows: slice, groups: slice) -> _Loaded:
        """Give out the reads of a window, whose memory a window before it had."""
        slot = number % IN_FLIGHT
        count, depth = len(self._integrations), groups.stop - groups.start
        pixels = (rows.stop - rows.start) * self._nx
        samples = self._samples[slot][: count * depth * pixels].reshape(count, depth, pixels)
        first_hit = self._first_hits[band % IN_FLIGHT][: count * pixels].reshape(count, pixels)
        results = self._results[slot][: 5 * depth * pixels]
        reads = [self._requests.submit(self._read, n, groups, rows, samples[n]) for n in range(count)]
        if groups.start == 0:
            reads += [
                self._requests.submit(self._hits.read_stored, n, rows, first_hit[n]) for n in range(count)
            ]
        pedestal = self._pedestal
        floats = results[: 4 * depth * pixels].view(np.uint32).reshape(2, depth, pixels)
        return _Loaded(
            rows,
            groups,
            Window(samples, first_hit, groups.start, self.weights[groups]),
            BandState(
                self._moment[: count * pixels].reshape(count, pixels),
                self._line[: 5 * pixels].reshape(5, pixels),
                None if pedestal is None else pedestal[: count * pixels].reshape(count, pixels),
            ),
            Combined(floats[0], floats[1], results[4 * depth * pixels :].reshape(depth, pixels)),
            reads,
        )

    def _read(self, n: int, groups: slice, rows: slice, into: NDArray[np.uint32]) -> None:
        one = self._integrations[n]
        window = into.view(">f4").reshape(len(into), -1, self._nx)
        one.ramp.read_stored("SCI", one.index, groups, rows, window)


def _write(combined: Combined, groups: slice, rows: slice, into: CombinedSet) -> None:
    nx = into.sci.shape[2]
    for cube, values in ((into.sci, combined.mean), (into.err, combined.std)):
        cube.write(groups.start, rows.start, values.view(">f4").reshape(len(values), -1, nx))
    into.nmeas.write(groups.start, rows.start, combined.used.reshape(len(combined.used), -1, nx))


def _write_slopes(loaded: _Loaded, slopes: Cube, ngroups: int, scale: float) -> None:
    for n, (moment, first_hit) in enumerate(zip(loaded.state.moment, loaded.window.first_hit, strict=True)):
        slope = moment / scale
        slope[first_hit < ngroups] = np.nan
        slopes.write(n, loaded.rows.start, slope.astype(np.float32).reshape(1, -1, slopes.shape[2]))


def _slope(line: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the slope of the least-squares line through the groups that were measured."""
    n, g, gg, y, gy = line
    enough = n >= 2
    determinant = np.where(enough, n * gg - g**2, 1.0)
    slope = (n * gy - g * y) / determinant
    result: NDArray[np.float32] = np.where(enough, slope, np.nan).astype(np.float32)
    return result


def _parts(pixels: int, threads: int) -> list[slice]:
    step = -(-pixels // (threads * _PARTS * BLOCK)) * BLOCK
    return [slice(start, min(start + step, pixels)) for start in range(0, pixels, step)]


def _all(futures: Iterator[Future[None]]) -> None:
    _finish(list(futures))


def _finish(futures: Sequence[Future[None]]) -> None:
    """Wait for all; raise what the first of them that failed raised."""
    wait(futures)
    for future in futures:
        future.result()
