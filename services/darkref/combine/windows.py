"""What a band of rows holds while it is combined, and how large its windows may be."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.darkref.combine.bad_groups import BadGroups
from services.darkref.combine.unclipped import ClippedValues
from shared.nircam.detectors import FULL_FRAME
from shared.ramps.window_plan import WindowCost, WindowPlan, plan_windows
from shared.ramps.window_reader import Window

#: What the process holds before any window: the interpreter with numpy, astropy and numba, compiled kernels,
#: threads and their allocators. Measured on Linux: 190 MiB; the rest is headroom for what a worker adds.
BASE_BYTES = 400 * 1024**2
#: Planes of the subarray, 4 bytes a pixel, that measuring the dark current takes: slopes, slopes of
#: integrations and groups (a few at a time), masks, and the values that medians are taken of.
_WHOLE_PLANES = 20
#: Below this, windows are so small that requests take all the time.
_LEAST_BYTES = 16 * 1024**2
#: Windows in memory: two may be combined at once while the next one is read.
SLOTS = 3

# What flight mode holds besides: for each integration and pixel of a band the pedestal, the group before and
# the end (of this band and the next); for each pixel the falls; for each result that the clip changed six
# numbers.
_FLIGHT = WindowCost(sample=0, result=6 * 4, per_integration=4 + 4 + 2 * 2, per_pixel=3 * 4)
_COST = WindowCost(
    sample=4 * SLOTS,
    # Mean, error and number of values; the number once more as it is stored.
    result=(4 + 4 + 2) * SLOTS + 2,
    # The running moment, the first bad groups of this band and the next, a slope.
    per_integration=8 + 2 * 2 + 4,
    # The sums of the mean ramp's slope, and their temporaries.
    per_pixel=5 * 8 + 6 * 8,
)


_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True)
class BandState:
    """What the windows of a band leave to those of later groups: running sums, at first 0.

    Attributes
    ----------
    first_bad_group : ndarray of unsigned int, 2D (integrations, pixels)
        From this group on the integration is not used at this pixel; larger than any group where it is used
        to its end.
    positions : ndarray of float64, 1D (groups of the ramp)
        Position of each group, counted from the middle of the ramp.
    moment : ndarray of float64, 2D (integrations, pixels)
        Sum of position * signal over the groups before the first bad one: each integration's slope, scaled.
    line : ndarray of float64, 2D (5, pixels)
        Over the groups with a measurement: their number, and the sums of their position, its square, the
        mean, and position * mean.
    pedestal : ndarray of float32, 2D (integrations, pixels), optional
        Signal of group 0, DN, which flight mode subtracts; the window of group 0 fills it. It and what
        follows are None in notebook mode.
    ends : ndarray of unsigned int, 2D (integrations, pixels), optional
        First group with another bad flag than JUMP_DET.
    before : ndarray of float32, 2D (integrations, pixels), optional
        Signal of the group before less the pedestal, DN.
    falls : ndarray of float32, 2D (3, pixels), optional
        Of all steps from group to group before the ends: the largest fall, the second largest, and the sum of
        all falls; DN, negative or 0.
    """

    first_bad_group: NDArray[np.unsignedinteger]
    positions: NDArray[np.float64]
    moment: NDArray[np.float64]
    line: NDArray[np.float64]
    pedestal: NDArray[np.float32] | None = None
    ends: NDArray[np.unsignedinteger] | None = None
    before: NDArray[np.float32] | None = None
    falls: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Combined:
    """Results of a window; every array is 2D (groups, pixels).

    Attributes
    ----------
    mean : ndarray of uint32
        Mean of the values that the clip kept, DN, 0 without a measurement: the bits of a float32 in FITS's
        byte order.
    error : ndarray of uint32
        Likewise the population standard deviation about that mean; in flight mode the standard error of it.
    n_valid : ndarray of uint16
        Measurements before the clip: finite, and before the first bad group of their integration.
    clipped : list of ClippedValues
        Takes what flight mode's clip changed, in any order.
    """

    mean: NDArray[np.uint32]
    error: NDArray[np.uint32]
    n_valid: NDArray[np.uint16]
    clipped: list[ClippedValues] = field(default_factory=list)


class BandBuffers:
    """Memory for the bands and results of a set, allocated once.

    Parameters
    ----------
    integrations : int
    shape : (int, int, int)
        (groups, y, x) of an integration.
    plan : WindowPlan
    bad_groups : BadGroups
        Have to be read before the first band starts.
    pedestals : bool
        Whether group 0 of each integration is kept, and what else flight mode needs.
    """

    def __init__(
        self,
        integrations: int,
        shape: tuple[int, int, int],
        plan: WindowPlan,
        bad_groups: BadGroups,
        pedestals: bool,
    ) -> None:
        ngroups, _, self._nx = shape
        self._count, self._bad_groups = integrations, bad_groups
        self._positions = group_positions(ngroups)
        pixels = plan.rows * self._nx
        # Of two bands: one starts while the last window of the band before is still being combined.
        dtype = bad_groups.first_bad.dtype
        self._first_bad_of = [np.empty(integrations * pixels, dtype) for _ in range(2)]
        self._ends_of = [np.empty(integrations * pixels * pedestals, dtype) for _ in range(2)]
        self._moment = np.empty(integrations * pixels)
        self._line = np.empty(5 * pixels)
        self._pedestals = pedestals
        self._pedestal, self._before = np.empty((2, integrations * pixels * pedestals), np.float32)
        self._falls = np.empty(3 * pixels * pedestals, np.float32)
        self._results = [np.empty(5 * plan.groups * pixels, np.uint16) for _ in range(SLOTS)]

    def start_band(self, window: Window) -> None:
        """Read the first bad groups, and the ends, of the band that a window starts."""
        state = self.state(window)
        for cube, groups in (
            (self._bad_groups.first_bad, state.first_bad_group),
            (self._bad_groups.ends, state.ends),
        ):
            if cube is not None and groups is not None:
                for n, plane in enumerate(groups):
                    cube.read_stored(n, window.rows, plane)

    def state(self, window: Window) -> BandState:
        """Return the sums of a window's band."""
        count, pixels = self._count, (window.rows.stop - window.rows.start) * self._nx

        def of_band(memory: NDArray[_Number], rows: int = count) -> NDArray[_Number]:
            return memory[: rows * pixels].reshape(rows, pixels)

        first_bad = of_band(self._first_bad_of[window.place.band % 2])
        sums = first_bad, self._positions, of_band(self._moment), of_band(self._line, 5)
        if not self._pedestals:
            return BandState(*sums)
        return BandState(
            *sums,
            pedestal=of_band(self._pedestal),
            ends=of_band(self._ends_of[window.place.band % 2]),
            before=of_band(self._before),
            falls=of_band(self._falls, 3),
        )

    def results(self, window: Window) -> Combined:
        """Return where the results of a window go."""
        _, depth, pixels = window.signal.shape
        memory = self._results[window.slot][: 5 * depth * pixels]
        floats = memory[: 4 * depth * pixels].view(np.uint32).reshape(2, depth, pixels)
        return Combined(floats[0], floats[1], memory[4 * depth * pixels :].reshape(depth, pixels))


def group_positions(ngroups: int) -> NDArray[np.float64]:
    """Return the position of each group, counted from the middle of the ramp."""
    return np.arange(ngroups, dtype=np.float64) - (ngroups - 1) / 2


def plan_combine(
    integrations: int,
    shape: Sequence[int],
    max_memory: int,
    max_fullframe_groups: int | None = None,
    pedestals: bool = False,
) -> WindowPlan:
    """Choose windows so that the peak memory of a job stays within a bound.

    Parameters
    ----------
    integrations : int
        Over all exposures of the set.
    shape : (int, int, int)
        (groups, y, x) of an integration.
    max_memory : int
        Bytes for the whole process. Less than the process itself takes (about 0.5 GiB) cannot be kept:
        the windows are then as small as is sensible.
    max_fullframe_groups : int, optional
        The notebook's max_equivalent_groups: a bound on the full-frame groups, or as many pixels, of all
        integrations in memory at once, groups * integrations * rows * nx / 2048^2. (jwst_reffiles divides by
        the ratio of pixels where it means to multiply, which gives small subarrays fewer groups than large
        ones.) Where one group of all integrations exceeds it, rows are split; a single row is always allowed.
    pedestals : bool
        Whether group 0 of every integration is kept while a band is combined, as in flight mode.

    Returns
    -------
    WindowPlan
        Written to the product as `groups_per_window` and `rows_per_window`.

    Examples
    --------
    >>> plan_combine(10, (108, 2048, 2048), 2 * 1024**3)
    WindowPlan(groups=2, rows=256, ngroups=108, ny=2048)
    """
    ngroups, ny, nx = shape
    available = max(max_memory - BASE_BYTES - _WHOLE_PLANES * 4 * ny * nx, _LEAST_BYTES)
    cost = WindowCost(
        sample=_COST.sample,
        result=_COST.result + _FLIGHT.result * pedestals,
        per_integration=_COST.per_integration + _FLIGHT.per_integration * pedestals,
        per_pixel=_COST.per_pixel + _FLIGHT.per_pixel * pedestals,
    )
    bound = None if max_fullframe_groups is None else max_fullframe_groups * FULL_FRAME**2 // SLOTS
    return plan_windows((ngroups, ny, nx), integrations, available, cost, bound)
