"""The windows of a set of ramps, one after the other, in memory that is always the same."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.darkref.windows import IN_FLIGHT, BandState, Combined, Window, WindowPlan
from shared.cubes import Cube
from shared.ramps import Ramp


@dataclass(frozen=True)
class Integration:
    """One integration of an open ramp."""

    ramp: Ramp
    index: int


@dataclass
class Loaded:
    """A window in memory, and where it belongs.

    Attributes
    ----------
    rows, groups : slice
        Of each integration.
    window : Window
        Samples, (integration, group, pixel).
    state : BandState
        Sums over the groups of these rows so far.
    combined : Combined
        Where the results go, each (group, pixel).
    reads : list of Future
        Which fill the window.
    """

    rows: slice
    groups: slice
    window: Window
    state: BandState
    combined: Combined
    reads: list[Future[None]]


class Walk:
    """Yields the windows one after the other, each with its samples; the next ones are being read.

    Reading begins as it is made, the first hits have to be known when it is walked. Before it is asked for
    another window, the one before the last that it gave has to be done with.

    Parameters
    ----------
    integrations : sequence of Integration
    shape : (int, int, int)
        (groups, y, x) of each.
    windows : WindowPlan
    hits : Cube of unsigned int, (integrations, y, x)
        The first group of each pixel that is not to be used.
    requests : ThreadPoolExecutor
        Reads.
    pedestals : bool
        Whether each integration's group 0 is kept.
    """

    def __init__(
        self,
        integrations: Sequence[Integration],
        shape: tuple[int, int, int],
        windows: WindowPlan,
        hits: Cube,
        requests: ThreadPoolExecutor,
        pedestals: bool,
    ) -> None:
        self._integrations = integrations
        self._requests = requests
        self._hits = hits
        ngroups, _, self._nx = shape
        self._weights = positions(ngroups)
        count, pixels = len(integrations), windows.rows * self._nx
        # Always the same memory, which the system has to clear once.
        self._samples = [np.empty(count * windows.groups * pixels, np.uint32) for _ in range(IN_FLIGHT)]
        self._results = [np.empty(5 * windows.groups * pixels, np.uint16) for _ in range(IN_FLIGHT)]
        self._first_hits = [np.empty(count * pixels, hits.dtype) for _ in range(2)]
        self._moment = np.empty(count * pixels)
        self._line = np.empty(5 * pixels)
        self._pedestal = np.empty(count * pixels, np.float32) if pedestals else None
        self._writes: list[Future[None]] = []
        self._places = [
            (band, rows, groups)
            for band, rows in enumerate(windows.row_slices())
            for groups in windows.group_slices()
        ]
        first = enumerate(self._places[: IN_FLIGHT - 1])
        self._started = deque(self._start(number, *place) for number, place in first)

    def __iter__(self) -> Iterator[Loaded]:
        places = self._places
        for number in range(len(places)):
            loaded = self._started.popleft()
            finished(loaded.reads)
            if loaded.groups.start == 0:
                for n, first_hit in enumerate(loaded.window.first_hit):
                    self._hits.read_stored(n, loaded.rows, first_hit)
            if number >= IN_FLIGHT:
                # The results go where those of that window were.
                self._writes[number - IN_FLIGHT].result()
            yield loaded
            coming = number + IN_FLIGHT - 1
            if coming < len(places):
                self._started.append(self._start(coming, *places[coming]))

    def written(self, write: Future[None]) -> None:
        """Note that the results of the window at hand are being written."""
        self._writes.append(write)

    def finish(self) -> None:
        """Wait until all is written."""
        finished(self._writes)

    def _start(self, number: int, band: int, rows: slice, groups: slice) -> Loaded:
        """Give out the reads of a window, whose memory a window before it had."""
        slot = number % IN_FLIGHT
        count, depth = len(self._integrations), groups.stop - groups.start
        pixels = (rows.stop - rows.start) * self._nx
        samples = self._samples[slot][: count * depth * pixels].reshape(count, depth, pixels)
        first_hit = self._first_hits[band % 2][: count * pixels].reshape(count, pixels)
        results = self._results[slot][: 5 * depth * pixels]
        reads = [self._requests.submit(self._read, n, groups, rows, samples[n]) for n in range(count)]
        pedestal = self._pedestal
        floats = results[: 4 * depth * pixels].view(np.uint32).reshape(2, depth, pixels)
        return Loaded(
            rows,
            groups,
            Window(samples, first_hit, groups.start, self._weights[groups]),
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


def positions(ngroups: int) -> NDArray[np.float64]:
    """Return where each group is, from the middle of the ramp."""
    return np.arange(ngroups, dtype=np.float64) - (ngroups - 1) / 2


def finished(futures: Sequence[Future[None]]) -> None:
    """Wait for all; raise what the first of them that failed raised."""
    wait(futures)
    for future in futures:
        future.result()
