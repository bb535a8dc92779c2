"""Walk a set of ramps window by window, and combine them into the product's own files.

Threads read the next window, and write the one before, while all processors combine one. Each processor takes
some rows of it, and goes on with the same rows of the next one without waiting for the others. Nothing in the
results depends on how many there are.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.darkref.modes import Mode
from services.darkref.walk import Integration, Loaded, Walk, finished, positions
from services.darkref.windows import Combined, WindowPlan
from shared.cubes import Cube
from shared.processors import processors
from shared.stage import Progress

#: Reads and writes at once: a disk or a bucket's store serves several better than one.
_REQUESTS = 8
#: Bytes of GROUPDQ in one read, if that is a group or more: worth a request, and little memory for the system
#: to clear.
_FLAGS_AT_ONCE = 2 * 1024**2
#: Parts of a window for each processor: at the end of a band the last to finish should not keep the others
#: waiting long.
_PARTS = 2
_Tally = Future[NDArray[np.int64]]


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
        walk = Walk(integrations, into.sci.shape, windows, hits, requests, mode.pedestals)
        # The first kernel that a process calls starts numba, which takes longer than the reads given out yet.
        mode.add_ends(np.empty((0, 0), np.uint8), 0, np.empty(0, dtype))
        finished([requests.submit(_find_hits, one, n, hits, mode) for n, one in enumerate(integrations)])
        syncing: list[Future[None]] = []
        at_work: deque[tuple[Loaded, list[_Tally]]] = deque()
        done = 0

        def collect() -> None:
            nonlocal done
            loaded, tallies = at_work.popleft()
            for tally in tallies:
                into.add(tally.result())
            walk.written(requests.submit(_write, loaded.combined, loaded.groups, loaded.rows, into))
            if loaded.groups.stop == ngroups and loaded.rows.stop < ny:
                # So that, once all is done, little is left for the store to wait for.
                syncing.extend(requests.submit(cube.sync) for cube in (into.sci, into.err, into.nmeas))
            done += 1
            progress(done, windows.windows, "combining windows of groups and rows")

        for loaded in walk:
            parts = _parts(loaded.rows, threads)
            before: Sequence[_Tally | None] = [None] * len(parts)
            if at_work and loaded.groups.start > 0:
                before = at_work[-1][1]
            elif at_work:
                # The sums of the band before make room for this one's.
                collect()
            tallies = [
                combining.submit(_combine, loaded, part, mode, sigma, into, earlier)
                for part, earlier in zip(parts, before, strict=True)
            ]
            at_work.append((loaded, tallies))
            if len(at_work) > 1:
                collect()
        collect()
        walk.finish()
        finished(syncing)
    hits_file.unlink()


def _combine(
    loaded: Loaded, rows: slice, mode: Mode, sigma: float, into: CombinedSet, earlier: _Tally | None
) -> NDArray[np.int64]:
    """Combine some rows of a window, counted from its first one, once those of the window before are done."""
    if earlier is not None:
        # It was given out before this one, so that it has ended or is at work.
        earlier.result()
    ngroups, _, nx = into.sci.shape
    pixels = slice(rows.start * nx, rows.stop * nx)
    state = loaded.state
    if loaded.groups.start == 0:
        state.moment[:, pixels] = 0
        state.line[:, pixels] = 0
    tally = mode.combine(loaded.window, state, sigma, pixels, loaded.combined)
    if loaded.groups.stop == ngroups:
        first = loaded.rows.start + rows.start
        into.slope[first : loaded.rows.start + rows.stop] = _slope(state.line[:, pixels]).reshape(-1, nx)
        for n, slope in enumerate(_slopes(loaded, pixels, ngroups)):
            into.slopes.write(n, first, slope.reshape(1, -1, nx))
    return tally


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


def _write(combined: Combined, groups: slice, rows: slice, into: CombinedSet) -> None:
    nx = into.sci.shape[2]
    for cube, values in ((into.sci, combined.mean), (into.err, combined.std)):
        cube.write(groups.start, rows.start, values.view(">f4").reshape(len(values), -1, nx))
    into.nmeas.write(groups.start, rows.start, combined.used.reshape(len(combined.used), -1, nx))


def _slopes(loaded: Loaded, pixels: slice, ngroups: int) -> Iterator[NDArray[np.float32]]:
    """Yield the slope of each integration, NaN where it was hit."""
    scale = float(np.sum(positions(ngroups) ** 2))
    for moment, first_hit in zip(loaded.state.moment, loaded.window.first_hit, strict=True):
        slope = moment[pixels] / scale
        slope[first_hit[pixels] < ngroups] = np.nan
        yield slope.astype(np.float32)


def _slope(line: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the slope of the least-squares line through the groups that were measured."""
    n, g, gg, y, gy = line
    enough = n >= 2
    determinant = np.where(enough, n * gg - g**2, 1.0)
    slope = (n * gy - g * y) / determinant
    result: NDArray[np.float32] = np.where(enough, slope, np.nan).astype(np.float32)
    return result


def _parts(rows: slice, threads: int) -> list[slice]:
    count = rows.stop - rows.start
    step = -(-count // (threads * _PARTS))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
