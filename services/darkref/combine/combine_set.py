"""Combine a set of ramps window by window, into the product's own files.

Threads read the next window and write the one before, while all processors combine one. Each processor takes
some rows of it and goes on with the same rows of the next window without waiting for the others. Results do
not depend on how many processors there are.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.darkref.combine.bad_groups import BadGroups
from services.darkref.combine.methods import Mode
from services.darkref.combine.unclipped import ClippedPlaces
from services.darkref.combine.windows import SLOTS, BandBuffers, BandState, Combined, group_positions
from shared.processors import processors
from shared.ramps.cube import Cube
from shared.ramps.window_plan import Place, WindowPlan
from shared.ramps.window_reader import REQUESTS, Integration, Window, WindowReader, wait_all
from shared.runtime.handler import Progress

#: Parts of a window for each processor, so that at the end of a band nobody waits long for the last one.
_PARTS = 2
_Tally = Future[NDArray[np.int64]]


@dataclass
class CombinedSet:
    """A set of ramps, combined.

    Attributes
    ----------
    sci, err : Cube of float32, (groups, y, x)
        Mean, and population standard deviation or (flight mode) standard error of the mean, DN.
    n_valid : Cube of uint16, (groups, y, x)
        Measurements before the clip.
    slopes : Cube of float32, (integrations, y, x)
        Least-squares slope of each integration, DN per group; NaN where it has a bad group.
    slope : ndarray of float32, 2D (y, x)
        Least-squares slope of SCI over the groups that were measured, DN per group; NaN with fewer
        than two of them.
    total_valid, total_kept : int
        Measurements before and after the clip, over all groups and pixels.
    unmeasured, single : int
        (group, pixel) places without a measurement, and, where the mode counts them, with just one.
    clipped : ClippedPlaces or None
        What flight mode's clip removed.
    second_fall, typical_fall : ndarray of float32, 2D (y, x)
        Flight mode: the second largest fall from a group to the next in any integration, DN (0 or negative),
        and the mean of all steps with rises counted as 0, without the two largest falls.
    noisy, telegraph : ndarray of bool, 2D (y, x)
        Of `pooled_errors.judge_scatter`: the values of the pixel scatter too much to be clipped; the pixel
        changes between levels. False until then.
    variance_ratio : ndarray of float32, 2D (y, x)
        Likewise: the pixel's variance over integrations in units of the expected one.
    unclipped_ratio : ndarray of float32, 2D (y, x)
        The same without the detector's share in it, and before the clip where that removed more than hits;
        NaN where it is unknown.
    freedom : ndarray of float32, 2D (y, x)
        Its degrees of freedom, over all groups as if they were independent.
    growth : ndarray of float64, 1D (groups)
        The variance over integrations, DN^2, of the detector's usual pixel, for each group.
    """

    sci: Cube
    err: Cube
    n_valid: Cube
    slopes: Cube
    slope: NDArray[np.float32] = field(init=False)
    total_valid: int = 0
    total_kept: int = 0
    unmeasured: int = 0
    single: int = 0
    clipped: ClippedPlaces | None = None
    second_fall: NDArray[np.float32] | None = None
    typical_fall: NDArray[np.float32] | None = None
    noisy: NDArray[np.bool_] = field(init=False)
    telegraph: NDArray[np.bool_] = field(init=False)
    variance_ratio: NDArray[np.float32] = field(init=False)
    unclipped_ratio: NDArray[np.float32] = field(init=False)
    freedom: NDArray[np.float32] = field(init=False)
    growth: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        groups, *plane = self.sci.shape
        self.slope = np.empty(plane, np.float32)
        self.noisy, self.telegraph = np.zeros((2, *plane), np.bool_)
        self.variance_ratio = np.ones(plane, np.float32)
        self.unclipped_ratio = np.full(plane, np.nan, np.float32)
        self.freedom = np.zeros(plane, np.float32)
        self.growth = np.zeros(groups)

    @property
    def integrations(self) -> int:
        """Number of integrations."""
        return self.slopes.shape[0]

    def add(self, tally: NDArray[np.int64]) -> None:
        """Add the counts of a part of a window, in the order of the attributes."""
        valid, kept, unmeasured, *single = (int(count) for count in tally)
        self.total_valid += valid
        self.total_kept += kept
        self.unmeasured += unmeasured
        self.single += sum(single)


def combine_set(
    integrations: Sequence[Integration],
    into: CombinedSet,
    plan: WindowPlan,
    mode: Mode,
    sigma: float,
    scratch: Path,
    progress: Progress,
    threads: int | None = None,
) -> None:
    """Combine integrations: bands of rows outside, groups ascending within.

    That order needs the sums of one band only. The first bad group of every integration and pixel is found
    before, in one pass over GROUPDQ, and kept on disk.

    Parameters
    ----------
    integrations : sequence of Integration
    into : CombinedSet
    plan : WindowPlan
    mode : Mode
    sigma : float
        Width of the clip on either side, in standard deviations.
    scratch : Path
        Folder for a temporary file.
    progress : callable
    threads : int, optional
        Threads that combine; by default one for each processor that this process may use.
    """
    threads = threads or processors()
    ngroups, ny, nx = into.sci.shape
    if mode.pedestals:
        into.second_fall, into.typical_fall = np.zeros((2, ny, nx), np.float32)
    with ExitStack() as stack:
        requests = stack.enter_context(ThreadPoolExecutor(REQUESTS, "request"))
        combining = stack.enter_context(ThreadPoolExecutor(threads, "combine"))
        bad_groups = stack.enter_context(
            BadGroups(
                scratch, (len(integrations), ny, nx), ngroups, mode.bad_group_flags, ends=mode.pedestals
            )
        )
        stack.callback(requests.shutdown, cancel_futures=True)
        progress(0, plan.windows, "reading flags")
        buffers = BandBuffers(len(integrations), into.sci.shape, plan, bad_groups, mode.pedestals)
        reader = WindowReader(integrations, plan.places(len(integrations)), requests, SLOTS)
        bad_groups.read(integrations, requests)
        pipeline = _Pipeline(into, plan, mode, sigma, buffers, combining, requests, threads, progress)
        for window in reader:
            pipeline.add(window)
        pipeline.finish()


@dataclass
class _Pipeline:
    """The windows at work: combines two at a time, collects and writes them in order."""

    into: CombinedSet
    plan: WindowPlan
    mode: Mode
    sigma: float
    buffers: BandBuffers
    combining: ThreadPoolExecutor
    requests: ThreadPoolExecutor
    threads: int
    progress: Progress
    _at_work: deque[tuple[Window, Combined, list[_Tally]]] = field(default_factory=deque)
    _writes: list[Future[None]] = field(default_factory=list)
    _syncs: list[Future[None]] = field(default_factory=list)
    _added: int = 0

    def add(self, window: Window) -> None:
        """Start combining a window; collect the one before it."""
        if window.starts_band:
            self.buffers.start_band(window)
        if self._added >= SLOTS:
            # Its results go where those of that window were.
            self._writes[self._added - SLOTS].result()
        self._added += 1
        parts = _parts(window.rows, self.threads)
        before: Sequence[_Tally | None] = [None] * len(parts)
        if self._at_work and not window.starts_band:
            before = self._at_work[-1][2]
        elif self._at_work:
            # A new band takes over the memory of the sums of the one before.
            self._collect()
        state, results = self.buffers.state(window), self.buffers.results(window)
        tallies = [
            self.combining.submit(self._combine, window, state, results, part, earlier)
            for part, earlier in zip(parts, before, strict=True)
        ]
        self._at_work.append((window, results, tallies))
        if len(self._at_work) > 1:
            self._collect()

    def finish(self) -> None:
        """Wait until everything is combined and written."""
        self._collect()
        wait_all(self._writes)
        wait_all(self._syncs)

    def _collect(self) -> None:
        window, results, tallies = self._at_work.popleft()
        for tally in tallies:
            self.into.add(tally.result())
        if self.into.clipped is not None:
            for clipped in results.clipped:
                first_pixel = window.rows.start * self.into.sci.shape[2]
                self.into.clipped.add(window.groups.start, first_pixel, clipped)
        self._writes.append(self.requests.submit(_write, results, window.place, self.into))
        if window.groups.stop == self.plan.ngroups and window.rows.stop < self.plan.ny:
            # So that little is left to sync when all is done, which the store waits for.
            cubes = (self.into.sci, self.into.err, self.into.n_valid)
            self._syncs.extend(self.requests.submit(cube.sync) for cube in cubes)
        done = len(self._writes)
        self.progress(done, self.plan.windows, "combining windows of groups and rows")

    def _combine(
        self, window: Window, state: BandState, results: Combined, rows: slice, earlier: _Tally | None
    ) -> NDArray[np.int64]:
        """Combine some rows of a window (counted from its first) after those of the window before."""
        if earlier is not None:
            # It was submitted before this part, so it has ended or is at work: no deadlock.
            earlier.result()
        into = self.into
        ngroups, _, nx = into.sci.shape
        pixels = slice(rows.start * nx, rows.stop * nx)
        if window.starts_band:
            state.moment[:, pixels] = 0
            state.line[:, pixels] = 0
            if state.falls is not None:
                state.falls[:, pixels] = 0
        tally = self.mode.combine(window, state, self.sigma, pixels, results)
        if window.groups.stop == ngroups:
            first = window.rows.start + rows.start
            slope = _slope(state.line[:, pixels]).reshape(-1, nx)
            into.slope[first : window.rows.start + rows.stop] = slope
            self._keep_falls(state, pixels, slice(first, window.rows.start + rows.stop))
            for n, integration_slope in enumerate(_slopes(state, pixels, ngroups)):
                into.slopes.write(n, first, integration_slope.reshape(1, -1, nx))
        return tally

    def _keep_falls(self, state: BandState, pixels: slice, rows: slice) -> None:
        """Keep what is needed of the falls of a band's pixels, once all groups are in."""
        into = self.into
        if state.falls is None or state.ends is None or into.second_fall is None or into.typical_fall is None:
            return
        lowest, second, total = state.falls[:, pixels]
        ends = np.minimum(state.ends[:, pixels], into.sci.shape[0])
        steps = np.maximum(ends, 1).sum(axis=0, dtype=np.float32) - np.float32(len(ends))
        shape = -1, into.sci.shape[2]
        into.second_fall[rows] = second.reshape(shape)
        into.typical_fall[rows] = ((total - lowest - second) / np.maximum(steps, 1)).reshape(shape)


def _write(results: Combined, place: Place, into: CombinedSet) -> None:
    nx = into.sci.shape[2]
    group, row = place.groups.start, place.rows.start
    for cube, values in ((into.sci, results.mean), (into.err, results.error)):
        cube.write(group, row, values.view(">f4").reshape(len(values), -1, nx))
    into.n_valid.write(group, row, results.n_valid.reshape(len(results.n_valid), -1, nx))


def _slopes(state: BandState, pixels: slice, ngroups: int) -> Iterator[NDArray[np.float32]]:
    """Yield the slope of each integration, NaN where it has a bad group."""
    scale = float(np.sum(group_positions(ngroups) ** 2))
    for moment, first_bad in zip(state.moment, state.first_bad_group, strict=True):
        slope = moment[pixels] / scale
        slope[first_bad[pixels] < ngroups] = np.nan
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
