"""How much of a set may be in memory at once: windows of rows, and of groups within them."""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.detectors import FULL_FRAME

#: What the process holds before any window: the interpreter with numpy, astropy, stdatamodels and numba,
#: and the compiled kernels. Measured on Linux: 246 MiB; the rest is headroom for what a worker adds.
BASE_BYTES = 400 * 1024**2
#: Full-frame planes at the size of the subarray that the dark current is measured on, 4 bytes each:
#: slopes, one integration's slopes, masks, and the sorted copies that medians make.
_WHOLE_PLANES = 10
#: Below this, windows are so small that reading them takes all the time.
_LEAST_BYTES = 16 * 1024**2

# Bytes a pixel of a window, as `services.darkref.streaming` holds them.
_STATE_PER_INTEGRATION = 1 + 8 + 4  # hit, moment, slope
_STATE_PER_PIXEL = 5 * 8 + 2 * 8  # sums of the mean ramp's slope, and their temporaries
_SAMPLE_PER_INTEGRATION = 4
_READING = 2 * (4 + 1)  # SCI and GROUPDQ of one integration, as bytes and in native order
_RESULT = 2 * (4 + 4 + 2) + 2 + 2 * 8  # mean, std and N in both byte orders, and kept; sums' temporaries


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
        """Yield the groups of each window of a band, ascending: a hit must be known to later groups."""
        return _slices(self.ngroups, self.groups)


def plan(
    integrations: int,
    ngroups: int,
    ny: int,
    nx: int,
    max_memory: int,
    max_equivalent_groups: int | None = None,
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

    Returns
    -------
    WindowPlan
        The fewest bands of rows that leave room for a group, then as many groups as there is room for.
    """
    available = max(max_memory - BASE_BYTES - _WHOLE_PLANES * 4 * ny * nx, _LEAST_BYTES)
    bound = None if max_equivalent_groups is None else max_equivalent_groups * FULL_FRAME**2

    def room(rows: int) -> int:
        pixels = rows * nx
        state = pixels * (_STATE_PER_INTEGRATION * integrations + _STATE_PER_PIXEL)
        group = pixels * (_SAMPLE_PER_INTEGRATION * integrations + _READING + _RESULT)
        groups = (available - state) // group
        return groups if bound is None else min(groups, bound // (integrations * pixels))

    bands = 1
    rows = ny
    while rows > 1 and room(rows) < 1:
        bands += 1
        rows = -(-ny // bands)
    return WindowPlan(groups=min(max(room(rows), 1), ngroups), rows=rows, ngroups=ngroups, ny=ny)


def _slices(total: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, total)) for start in range(0, total, step))
