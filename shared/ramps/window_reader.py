"""Read a set of ramps window by window, ahead of the arithmetic, into memory that is allocated once.

darkref combines its windows, noise takes variances over ramps and looks at single planes; all of them read
through `WindowReader`.
"""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.ramps.ramp import Ramp
from shared.ramps.window_plan import Place
from shared.statistics.jit import kernel

#: Reads and writes in flight at once: a disk or a bucket serves several requests faster than one.
REQUESTS = 8


@dataclass(frozen=True)
class Integration:
    """One integration of an open ramp.

    Attributes
    ----------
    ramp : Ramp
    index : int
        0-based.
    """

    ramp: Ramp
    index: int


@dataclass(frozen=True)
class Window:
    """Some groups and rows of some integrations, in memory.

    Attributes
    ----------
    place : Place
        Where it lies in the set.
    slot : int
        Which of the reader's pieces of memory holds it; the same one is used again `slots` windows later.
    signal : ndarray of uint32, 3D (integrations, groups, pixels)
        The bits of the float32 signal in DN: in FITS's byte order, or native if the reader was asked for it.
    quality : ndarray of uint8, 3D (integrations, groups, pixels), or None
        GROUPDQ, if the reader was asked for it.
    """

    place: Place
    slot: int
    signal: NDArray[np.uint32]
    quality: NDArray[np.uint8] | None = None

    @property
    def groups(self) -> slice:
        """Its groups."""
        return self.place.groups

    @property
    def rows(self) -> slice:
        """Its rows."""
        return self.place.rows

    @property
    def starts_band(self) -> bool:
        """Whether it holds the first groups of its rows, so that sums start from zero."""
        return bool(self.place.groups.start == 0)


class WindowReader:
    """Iterates over windows, and reads the next one meanwhile.

    Reading starts when the reader is made. The last `slots - 1` windows that were given out stay valid;
    asking for another one reuses the memory of the oldest of these.

    Parameters
    ----------
    integrations : sequence of Integration
        All of one shape.
    places : sequence of Place
        The windows, in order; see `WindowPlan.places`.
    requests : ThreadPoolExecutor
        Does the reading. Shut it down with ``cancel_futures`` if the iteration may be abandoned.
    slots : int
        Windows in memory, 2 or more: one that is being read, and those that the caller still works on.
    quality : bool
        Whether GROUPDQ is read too.
    native : bool
        Whether the reading threads bring SCI into this machine's byte order.
    """

    def __init__(
        self,
        integrations: Sequence[Integration],
        places: Sequence[Place],
        requests: ThreadPoolExecutor,
        slots: int = 2,
        quality: bool = False,
        native: bool = False,
    ) -> None:
        self._integrations = integrations
        self._places = places
        self._requests = requests
        self._swap = native and sys.byteorder == "little"
        self._nx = integrations[0].ramp.shape("SCI")[-1]
        size = max((_samples(place) for place in places), default=0) * self._nx
        # Allocated once: the system has to clear fresh memory.
        self._signal = [np.empty(size, np.uint32) for _ in range(slots)]
        self._quality = [np.empty(size, np.uint8) for _ in range(slots if quality else 0)]
        self._reading: deque[tuple[Window, list[Future[None]]]] = deque()
        self._started = 0
        for _ in range(2):
            self._start_next()

    def __iter__(self) -> Iterator[Window]:
        for number in range(len(self._places)):
            if number > 0:
                self._start_next()
            window, reads = self._reading.popleft()
            wait_all(reads)
            yield window

    def _start_next(self) -> None:
        """Request the next window, if there is one; its memory was that of a window before it."""
        if self._started == len(self._places):
            return
        place, slot = self._places[self._started], self._started % len(self._signal)
        self._started += 1
        chosen = self._integrations[place.integrations]
        rows = place.rows.stop - place.rows.start
        shape = len(chosen), place.groups.stop - place.groups.start, rows * self._nx
        size = shape[0] * shape[1] * shape[2]
        signal = self._signal[slot][:size].reshape(shape)
        quality = self._quality[slot][:size].reshape(shape) if self._quality else None
        reads = [
            self._requests.submit(
                self._read, integration, place, signal[n], None if quality is None else quality[n]
            )
            for n, integration in enumerate(chosen)
        ]
        self._reading.append((Window(place, slot, signal, quality), reads))

    def _read(
        self,
        integration: Integration,
        place: Place,
        signal: NDArray[np.uint32],
        quality: NDArray[np.uint8] | None,
    ) -> None:
        ramp, index = integration.ramp, integration.index
        shape = (len(signal), -1, self._nx)
        ramp.read_stored("SCI", index, place.groups, place.rows, signal.view(">f4").reshape(shape))
        if quality is not None:
            ramp.read_stored("GROUPDQ", index, place.groups, place.rows, quality.reshape(shape))
        if self._swap:
            _swap_bytes(signal)


def wait_all(futures: Sequence[Future[None]]) -> None:
    """Wait for all futures, then raise the error of the first that failed."""
    wait(futures)
    for future in futures:
        future.result()


def _samples(place: Place) -> int:
    lengths = (part.stop - part.start for part in (place.integrations, place.groups, place.rows))
    product = 1
    for length in lengths:
        product *= length
    return product


@kernel
def _swap_bytes(values):  # type: ignore[no-untyped-def]
    # In place; numpy's byteswap takes seven times as long.
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            value = values[row, column]
            values[row, column] = (
                ((value & np.uint32(0xFF)) << np.uint32(24))
                | ((value & np.uint32(0xFF00)) << np.uint32(8))
                | ((value >> np.uint32(8)) & np.uint32(0xFF00))
                | (value >> np.uint32(24))
            )
