"""Up to which group each integration of a pixel is used: one pass over GROUPDQ, before any ramp is combined.

The first bad group of every integration and pixel is kept on disk, because windows of groups need it long
after its flags were read. Flight mode keeps as well where an integration ends for good (DO_NOT_USE, SATURATED
or PERSISTENCE): up to there, steps down can be told.

Jumps that are no hits. A pixel that settles within seconds of the reset rises so fast that jwst flags it in
the same early group of every integration, and with it its four neighbours, which see nothing (step jump,
``flag_4_neighbors``). Taken for hits, each such pixel costs five whole ramps. Flight mode therefore ignores
the jumps of a pixel in the same group, 1 to `EARLY_GROUPS`, of 75 % of the integrations or more: at 50
hits/cm2/s a pixel or a neighbour of it is hit in a given group of 10.7 s with a probability of 0.01, in three
of three integrations with 1e-6. Two integrations agree by chance too often, so every jump of theirs counts.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np

from services.darkref.kernels.blocks import first_bad_group
from services.darkref.kernels.group_flags import first_bad_groups, scan_group_flags
from shared.nircam.dq import GroupFlag
from shared.ramps.cube import Cube
from shared.ramps.window_reader import Integration, wait_all

#: Bytes of GROUPDQ in one read, if that is a group or more: worth a request, and little memory for the system
#: to clear.
_FLAGS_AT_ONCE = 2 * 1024**2
#: Fraction of the integrations that jump in the same early group where it is not hits that make them.
SAME_GROUP_FRACTION = 0.75
#: Of fewer integrations every jump counts.
_LEAST_INTEGRATIONS = 3
#: Pixels of all integrations that are looked at together for jumps in the same group.
_PIXELS_AT_ONCE = 1 << 22


class BadGroups(AbstractContextManager["BadGroups", None]):
    """First bad groups, and ends, of a set's integrations, in files that are removed with the context.

    Parameters
    ----------
    scratch : Path
        Folder for the files.
    shape : (int, int, int)
        (integrations, y, x).
    ngroups : int
    flags : GroupFlag
        That make a group bad.
    ends : bool
        Whether ends and jumps are told apart, as in flight mode.

    Attributes
    ----------
    first_bad : Cube of unsigned int, (integrations, y, x)
        The integration is not used from this group on; larger than any group where it is used to its end.
    ends : Cube or None
        Likewise the first group that has another bad flag than JUMP_DET; None in notebook mode.
    """

    def __init__(
        self, scratch: Path, shape: tuple[int, int, int], ngroups: int, flags: GroupFlag, ends: bool
    ) -> None:
        dtype = np.uint8 if ngroups < np.iinfo(np.uint8).max else np.uint16
        self._shape, self._flags, self._stack = shape, flags, ExitStack()
        self.first_bad = self._cube(scratch / "first_bad_groups.raw", dtype)
        self.ends = self._cube(scratch / "last_groups.raw", dtype) if ends else None
        self._early = self._cube(scratch / "early_jumps.raw", np.uint8) if ends else None

    def _cube(self, path: Path, dtype: type[np.unsignedinteger]) -> Cube:
        self._stack.callback(path.unlink, missing_ok=True)
        return self._stack.enter_context(Cube(path, self._shape, dtype, as_fits=False))

    def read(self, integrations: Sequence[Integration], threads: ThreadPoolExecutor) -> None:
        """Read GROUPDQ of all integrations."""
        # The first kernel that a process calls starts numba, which takes longer than reads that were
        # requested.
        first_bad_group(np.empty((0, 0), np.uint8), np.uint8(0), 0, np.empty(0, self.first_bad.dtype))
        wait_all([threads.submit(self._scan, ramp, n) for n, ramp in enumerate(integrations)])
        if self._early is not None:
            count, ny, nx = self._shape
            rows = max(_PIXELS_AT_ONCE // (count * nx), 1)
            wait_all([threads.submit(self._resolve, slice(y, min(y + rows, ny))) for y in range(0, ny, rows)])

    def _scan(self, integration: Integration, index: int) -> None:
        ramp = integration.ramp
        _, ngroups, ny, nx = ramp.shape("GROUPDQ")
        dtype = self.first_bad.dtype
        first, ends = np.full((2, ny * nx), np.iinfo(dtype).max, dtype)
        early = np.zeros(ny * nx, np.uint8)
        jump, end = GroupFlag.JUMP_DET.mask, (self._flags & ~GroupFlag.JUMP_DET).mask
        depth = max(_FLAGS_AT_ONCE // (ny * nx), 1)
        groupdq = np.empty((min(depth, ngroups), ny, nx), np.uint8)
        for start in range(0, ngroups, depth):
            groups = slice(start, min(start + depth, ngroups))
            part = groupdq[: groups.stop - start]
            ramp.read_stored("GROUPDQ", integration.index, groups, slice(None), part)
            flags = part.reshape(len(part), -1)
            if self.ends is None:
                first_bad_group(flags, self._flags.mask, start, first)
            else:
                scan_group_flags(flags, jump, end, start, first, ends, early)
        for cube, plane in ((self.first_bad, first), (self.ends, ends), (self._early, early)):
            if cube is not None:
                cube.write(index, 0, plane.reshape(1, ny, nx))

    def _resolve(self, rows: slice) -> None:
        if self.ends is None or self._early is None:
            raise ValueError("only flight mode tells jumps from ends")
        count, _, nx = self._shape
        shape = count, rows.stop - rows.start, nx
        planes = [np.empty(shape, cube.dtype) for cube in (self.first_bad, self.ends, self._early)]
        for cube, values in zip((self.first_bad, self.ends, self._early), planes, strict=True):
            for n in range(count):
                cube.read_stored(n, rows, values[n])
        first_bad_groups(*(values.reshape(count, -1) for values in planes), integrations_that_agree(count))
        for n in range(count):
            self.first_bad.write(n, rows.start, planes[0][n : n + 1])

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def integrations_that_agree(count: int) -> int:
    """Return how many of so many integrations have to jump in the same early group where it is no hit."""
    return math.ceil(SAME_GROUP_FRACTION * count) if count >= _LEAST_INTEGRATIONS else count + 1
