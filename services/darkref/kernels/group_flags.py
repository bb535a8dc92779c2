"""Compiled scan of GROUPDQ for flight mode: where a ramp jumps, and where it ends.

Flags are of two kinds. After DO_NOT_USE, SATURATED or PERSISTENCE nothing of the integration can be used:
that is its end. A JUMP_DET divides it. Jumps in the first groups after group 0 are kept as bits, because a
pixel that settles fast after the reset jumps in the same early group of every integration; `first_bad_groups`
takes those out once all integrations are known.
"""

import numpy as np

from shared.statistics.jit import kernel

#: Groups from 1 on whose jumps are kept as bits of a byte.
EARLY_GROUPS = 8


@kernel
def scan_group_flags(groupdq, jump, end, first_group, first_jump, ends, early):  # type: ignore[no-untyped-def]
    """Take the flags of some consecutive groups of an integration into account.

    Parameters
    ----------
    groupdq : ndarray of uint8, 2D (groups, pixels)
    jump, end : uint8
        Bits that divide an integration, and bits that end it.
    first_group : int
        Index in the ramp of the first of `groupdq`.
    first_jump, ends : ndarray of unsigned int, 1D (pixels)
        First group with a jump that is not in `early`, and first group with a flag of `end`; updated in
        place. Start from the largest number of their type.
    early : ndarray of uint8, 1D (pixels)
        Bit g - 1 is set for a jump in group g, 1 to `EARLY_GROUPS`; updated in place.
    """
    for g in range(groupdq.shape[0]):
        number = first_group + g
        group = first_jump.dtype.type(number)
        is_early = 1 <= number <= EARLY_GROUPS
        bit = np.uint8(1 << (number - 1)) if is_early else np.uint8(0)
        row = groupdq[g]
        for p in range(row.size):
            flags = row[p]
            if flags & end:
                if group < ends[p]:
                    ends[p] = group
            elif flags & jump:
                if is_early:
                    early[p] |= bit
                elif group < first_jump[p]:
                    first_jump[p] = group


@kernel
def first_bad_groups(first_jump, ends, early, most):  # type: ignore[no-untyped-def]
    """Return in `first_jump` the first bad group of every integration, without what the reset makes jump.

    A jump in the same early group of `most` integrations or more is none: cosmic rays do not come back.

    Parameters
    ----------
    first_jump, ends : ndarray of unsigned int, 2D (integrations, pixels)
        Of `scan_group_flags`; `first_jump` is updated in place.
    early : ndarray of uint8, 2D (integrations, pixels)
        Likewise.
    most : int
        More than the number of integrations, if every jump counts.
    """
    count, pixels = early.shape
    for p in range(pixels):
        any_bits = 0
        for i in range(count):
            any_bits |= early[i, p]
        if any_bits:
            for g in range(EARLY_GROUPS):
                times = 0
                for i in range(count):
                    times += (early[i, p] >> g) & 1
                if times >= most:
                    any_bits &= ~(1 << g)
            for i in range(count):
                bits = early[i, p] & any_bits
                for g in range(EARLY_GROUPS):
                    if (bits >> g) & 1:
                        first_jump[i, p] = min(first_jump[i, p], first_jump.dtype.type(g + 1))
                        break
    for i in range(count):
        for p in range(pixels):
            first_jump[i, p] = min(first_jump[i, p], ends[i, p])
