"""How much of a set of ramps is in memory at once: windows of rows, and of groups within them.

A set is read in bands of rows, and within a band in windows of groups, ascending. All ramps advance together,
so that only running sums of one band are held, whatever the number of groups. darkref and noise plan their
windows here; what they hold for each pixel is theirs to say (`WindowCost`). Results never depend on the plan.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.ramps.digests import digests_size, rows_per_block

#: Bytes of a group that one request reads, where there is room for it: a bucket charges by the request, and
#: each takes its time.
_PIECE = 2 * 1024**2
#: Larger windows gain no speed.
_LARGEST_WINDOW = 48 * 1024**2


@dataclass(frozen=True)
class Place:
    """Where a window lies in a set of ramps.

    Attributes
    ----------
    integrations, groups, rows : slice
        Contiguous and ascending.
    band : int
        Counts the bands of rows from 0.
    """

    integrations: slice
    groups: slice
    rows: slice
    band: int = 0


@dataclass(frozen=True)
class WindowPlan:
    """Rows and groups at a time; results do not depend on them, to the last bit.

    Attributes
    ----------
    groups, rows : int
        The most that one window has.
    ngroups, ny : int
        Of the whole ramp.
    """

    groups: int
    rows: int
    ngroups: int
    ny: int

    @property
    def windows(self) -> int:
        """The number of windows."""
        return -(-self.ny // self.rows) * -(-self.ngroups // self.groups)

    def row_slices(self) -> Iterator[slice]:
        """Yield the rows of each band, ascending."""
        return _slices(self.ny, self.rows)

    def group_slices(self) -> Iterator[slice]:
        """Yield the groups of each window of a band, ascending: sums are carried forward in this order."""
        return _slices(self.ngroups, self.groups)

    def places(self, integrations: int) -> list[Place]:
        """Return all windows of so many integrations, band by band."""
        every = slice(0, integrations)
        return [
            Place(every, groups, rows, band)
            for band, rows in enumerate(self.row_slices())
            for groups in self.group_slices()
        ]


@dataclass(frozen=True)
class WindowCost:
    """Bytes that whoever works through the windows holds in memory.

    Attributes
    ----------
    sample : int
        For each (integration, group, pixel) of a window, all slots together.
    result : int
        For each (group, pixel) of a window.
    per_integration : int
        For each (integration, pixel) of a band, whatever its groups.
    per_pixel : int
        For each pixel of a band.
    stored : int
        Bytes of one sample in the files, of what is read.
    """

    sample: int
    result: int
    per_integration: int
    per_pixel: int = 0
    stored: int = 4


def plan_windows(
    shape: tuple[int, int, int],
    integrations: int,
    available: int,
    cost: WindowCost,
    max_samples: int | None = None,
) -> WindowPlan:
    """Choose windows that keep to a number of bytes.

    Parameters
    ----------
    shape : (int, int, int)
        (groups, y, x) of an integration.
    integrations : int
        Over all exposures of the set.
    available : int
        Bytes for everything that `cost` counts. Where not even one group of one row fits, the windows are
        that small and the bound is exceeded.
    cost : WindowCost
    max_samples : int, optional
        Bound on the samples (integrations * groups * rows * x) of one window. A single row of one group is
        always allowed.

    Returns
    -------
    WindowPlan
        Bands of rows that are read in pieces of some megabytes, or of fewer rows where there is no room for a
        group of these; then as many groups as fit and are worth reading at once.

    Examples
    --------
    >>> cost = WindowCost(sample=12, result=32, per_integration=16)
    >>> plan_windows((20, 640, 640), 10, 2**30, cost)
    WindowPlan(groups=3, rows=640, ngroups=20, ny=640)
    """
    ngroups, ny, nx = shape
    available -= digests_size(shape, integrations)

    def groups_that_fit(rows: int) -> int:
        pixels = rows * nx
        state = pixels * (cost.per_integration * integrations + cost.per_pixel)
        groups = (available - state) // (pixels * (cost.sample * integrations + cost.result))
        return groups if max_samples is None else min(groups, max_samples // (integrations * pixels))

    bands = max(ny * nx * 4 // _PIECE, 1)
    rows = -(-ny // bands)
    while rows > 1 and groups_that_fit(rows) < 1:
        bands += 1
        rows = -(-ny // bands)
    rows = rows_of_whole_blocks(rows, ny, nx)
    worthwhile = max(_LARGEST_WINDOW // (rows * nx * cost.stored * integrations), 1)
    groups = min(max(groups_that_fit(rows), 1), worthwhile, ngroups)
    return WindowPlan(groups=groups, rows=rows, ngroups=ngroups, ny=ny)


def rows_of_whole_blocks(rows: int, ny: int, nx: int) -> int:
    """Return the rows of a band, rounded down so that few blocks of the ramps' digests lie in two bands.

    Of a block that lies in two bands, all is read with each.

    Parameters
    ----------
    rows : int
        The most that a band may have.
    ny, nx : int
        Of a frame.

    Examples
    --------
    >>> [rows_of_whole_blocks(rows, 2048, 2048) for rows in (2048, 20, 8, 7, 1)]
    [2048, 16, 8, 4, 1]
    """
    block = rows_per_block(nx)
    if rows >= ny:
        return ny
    return rows - rows % block if rows >= block else 1 << (rows.bit_length() - 1)


def _slices(total: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, total)) for start in range(0, total, step))
