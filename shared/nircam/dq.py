"""Data-quality flags: the one home of every bit that this program sets or reads.

The bits are those of the JWST pipeline; a test compares them with `stdatamodels.jwst.datamodels.dqflags`,
which is not imported here because it takes longer to load than most jobs' first read.

Arrays take a flag's `mask` (``groupdq & GroupFlag.JUMP_DET.mask``), a NumPy scalar of the plane's own type:
the flag itself would widen the plane to int64. Numba kernels need plain integers as module constants:
``_JUMP_DET = int(GroupFlag.JUMP_DET)``.
"""

from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray


class GroupFlag(IntFlag):
    """Flags of GROUPDQ (8 bits): one group of one integration of one pixel."""

    @property
    def mask(self) -> np.uint8:
        """The bits, for an array of GROUPDQ."""
        return np.uint8(self)

    DO_NOT_USE = 1 << 0
    SATURATED = 1 << 1
    JUMP_DET = 1 << 2
    DROPOUT = 1 << 3
    PERSISTENCE = 1 << 5
    AD_FLOOR = 1 << 6
    CHARGELOSS = 1 << 7


class PixelFlag(IntFlag):
    """Flags of PIXELDQ and of the DQ plane of reference files (32 bits): one pixel, the whole exposure."""

    @property
    def mask(self) -> np.uint32:
        """The bits, for an array of PIXELDQ or DQ."""
        return np.uint32(self)

    @property
    def bit(self) -> int:
        """The bit number of a single flag, from 0, as the DQ_DEF table of a file gives it."""
        return self.bit_length() - 1

    DO_NOT_USE = 1 << 0
    SATURATED = 1 << 1
    JUMP_DET = 1 << 2
    DROPOUT = 1 << 3
    OUTLIER = 1 << 4
    PERSISTENCE = 1 << 5
    AD_FLOOR = 1 << 6
    CHARGELOSS = 1 << 7
    RESERVED = 1 << 8
    NON_SCIENCE = 1 << 9
    DEAD = 1 << 10
    HOT = 1 << 11
    WARM = 1 << 12
    LOW_QE = 1 << 13
    RC = 1 << 14
    TELEGRAPH = 1 << 15
    NONLINEAR = 1 << 16
    BAD_REF_PIXEL = 1 << 17
    NO_FLAT_FIELD = 1 << 18
    NO_GAIN_VALUE = 1 << 19
    NO_LIN_CORR = 1 << 20
    NO_SAT_CHECK = 1 << 21
    UNRELIABLE_BIAS = 1 << 22
    UNRELIABLE_DARK = 1 << 23
    UNRELIABLE_SLOPE = 1 << 24
    UNRELIABLE_FLAT = 1 << 25
    OPEN = 1 << 26
    ADJ_OPEN = 1 << 27
    FLUX_ESTIMATED = 1 << 28
    MSA_FAILED_OPEN = 1 << 29
    OTHER_BAD_PIXEL = 1 << 30
    REFERENCE_PIXEL = 1 << 31


#: A ramp is used up to its first group with any of these: after a jump or saturation its later groups do
#: not continue the earlier ones, and a pixel inside a persistence window shows an earlier exposure.
BAD_GROUP_FLAGS = GroupFlag.DO_NOT_USE | GroupFlag.SATURATED | GroupFlag.JUMP_DET | GroupFlag.PERSISTENCE
#: No value was measured in such a group.
UNUSABLE_GROUP_FLAGS = GroupFlag.DO_NOT_USE | GroupFlag.SATURATED


def flag_unused_pixels(groupdq: NDArray[np.uint8], pixeldq: NDArray[Any]) -> None:
    """Flag the pixels that PIXELDQ marks DO_NOT_USE as DO_NOT_USE in every group.

    jwst's dq_init does this to a raw exposure (`jwst.dq_init.dq_initialization`). A file that was calibrated
    elsewhere may lack it, and hold NaN in a pixel whose groups have no flag.

    Parameters
    ----------
    groupdq : ndarray of uint8, 4D (integrations, groups, y, x), or any part of one
        Changed in place.
    pixeldq : ndarray of uint32, 2D (y, x)
        Of the same rows and columns.
    """
    unused = (pixeldq & PixelFlag.DO_NOT_USE.mask) != 0
    groupdq |= np.where(unused, GroupFlag.DO_NOT_USE.mask, np.uint8(0))
