"""How much of a set may be in memory at once: windows of rows, and of groups within them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.detectors import FULL_FRAME

#: What the process holds before any window: the interpreter with numpy, astropy and numba, the compiled
#: kernels, threads and their allocators. Measured on Linux: 190 MiB; the rest is headroom for what a
#: worker adds.
BASE_BYTES = 400 * 1024**2
#: Full-frame planes at the size of the subarray that the dark current is measured on, 4 bytes each:
#: slopes, integrations' slopes and groups (some at a time), masks, and what medians are picked from.
_WHOLE_PLANES = 20
#: Below this, windows are so small that reading them takes all the time.
_LEAST_BYTES = 16 * 1024**2
#: A piece of a group that is read at once: shorter ones cost a bucket's store a request each.
_PIECE = 2 * 1024**2
#: Larger windows gain nothing, and memory has its price too.
_LARGEST_WINDOW = 48 * 1024**2
#: Windows in memory: one is being combined while the next ones are read. Two of those, so that requests
#: do not run out while the last of one window are still on their way.
IN_FLIGHT = 3

# Bytes a pixel of a band of rows, as `services.darkref.walk` holds them.
_STATE_PER_INTEGRATION = 8 + 2 * 2 + 4  # moment, first hits of this band and the next, a slope
_PEDESTAL = 4  # an integration, in flight mode
_STATE_PER_PIXEL = 5 * 8 + 6 * 8  # sums of the mean ramp's slope, and their temporaries
_SAMPLE_PER_INTEGRATION = 4 * IN_FLIGHT
_RESULT = (4 + 4 + 2) * IN_FLIGHT + 2  # mean, std and N, and N as stored


@dataclass(frozen=True)
class Window:
    """Some groups of a band of rows, of all integrations.

    Attributes
    ----------
    signal : ndarray of uint32, 3D (integrations, groups, pixels)
        Bits of the float32 signal in DN, in FITS's byte order; not finite where there is no measurement.
    first_hit : ndarray of unsigned int, 2D (integrations, pixels)
        First group with a hit; larger than any group where there is none.
    first_group : int
        Which group the first of `signal` is.
    weights : ndarray of float64, 1D (groups)
        Position of each group, from the middle of the ramp.
    """

    signal: NDArray[np.uint32]
    first_hit: NDArray[np.unsignedinteger]
    first_group: int
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class BandState:
    """What a band's windows of earlier groups leave to later ones: running sums, at first 0.

    Attributes
    ----------
    moment : ndarray of float64, 2D (integrations, pixels)
        Sum of weight * signal over the groups before the first hit: each integration's slope, scaled.
    line : ndarray of float64, 2D (5, pixels)
        Over the groups with a measurement: their number, and the sums of their position, its square,
        the mean, and position * mean.
    pedestal : ndarray of float32, 2D (integrations, pixels), optional
        Signal of group 0, DN, as flight mode subtracts it; the window of group 0 fills it.
    """

    moment: NDArray[np.float64]
    line: NDArray[np.float64]
    pedestal: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Combined:
    """One value a (group, pixel), combined over integrations; every array is 2D (groups, pixels).

    Attributes
    ----------
    mean : ndarray of uint32
        Mean of what the clip left, DN, 0 where there was no measurement: the bits of a float32 in FITS's
        byte order.
    std : ndarray of uint32
        Population standard deviation about that mean, likewise; in flight mode the mean's standard error.
    used : ndarray of uint16
        Measurements before the clip: finite, and before the first hit of their integration.
    """

    mean: NDArray[np.uint32]
    std: NDArray[np.uint32]
    used: NDArray[np.uint16]


@dataclass(frozen=True)
class WindowPlan:
    """Rows and groups at a time; results do not depend on them, to the last bit.

    Attributes
    ----------
    groups, rows : int
        At most so many in one window.
    ngroups, ny : int
        Of the whole.
    """

    groups: int
    rows: int
    ngroups: int
    ny: int

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return len(list(self.row_slices())) * len(list(self.group_slices()))

    def row_slices(self) -> Iterator[slice]:
        """Yield the rows of each band, ascending."""
        return _slices(self.ny, self.rows)

    def group_slices(self) -> Iterator[slice]:
        """Yield the groups of each window of a band, ascending: sums are brought forward in this order."""
        return _slices(self.ngroups, self.groups)


def plan(
    integrations: int,
    ngroups: int,
    ny: int,
    nx: int,
    max_memory: int,
    max_equivalent_groups: int | None = None,
    pedestals: bool = False,
) -> WindowPlan:
    """Choose windows so that a job's peak memory stays within a bound.

    Parameters
    ----------
    integrations : int
        Over all exposures of the set.
    ngroups, ny, nx : int
        Shape of one integration.
    max_memory : int
        Bytes for the whole process. Less than the process itself takes (about 0.5 GiB) cannot be kept:
        windows are then as small as is sensible.
    max_equivalent_groups : int, optional
        Bound on full-frame groups, or what is worth as many pixels, over all integrations at once:
        groups * integrations * rows * nx / 2048^2. (jwst_reffiles divides by the ratio of pixels where
        it means to multiply, which gives small subarrays fewer groups than large ones.) Where one group
        of all integrations is over the bound, rows are split; a single row is always allowed.
    pedestals : bool
        Whether group 0 of every integration is kept while a band is combined, as flight mode does.

    Returns
    -------
    WindowPlan
        Bands of rows that are read in pieces of some megabytes, or fewer rows where that leaves no room
        for a group; then as many groups as there is room for and are worth it.
    """
    available = max(max_memory - BASE_BYTES - _WHOLE_PLANES * 4 * ny * nx, _LEAST_BYTES)
    per_integration = _STATE_PER_INTEGRATION + _PEDESTAL * pedestals
    bound = None if max_equivalent_groups is None else max_equivalent_groups * FULL_FRAME**2

    def room(rows: int) -> int:
        pixels = rows * nx
        state = pixels * (per_integration * integrations + _STATE_PER_PIXEL)
        group = pixels * (_SAMPLE_PER_INTEGRATION * integrations + _RESULT)
        groups = (available - state) // group
        return groups if bound is None else min(groups, bound // (IN_FLIGHT * integrations * pixels))

    bands = max(ny * nx * 4 // _PIECE, 1)
    rows = -(-ny // bands)
    while rows > 1 and room(rows) < 1:
        bands += 1
        rows = -(-ny // bands)
    worth = max(_LARGEST_WINDOW // (rows * nx * 4 * integrations), 1)
    return WindowPlan(groups=min(max(room(rows), 1), worth, ngroups), rows=rows, ngroups=ngroups, ny=ny)


def _slices(total: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, total)) for start in range(0, total, step))
