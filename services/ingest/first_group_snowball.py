"""Masks the ring around a snowball that fell before the first group was read.

The core of a snowball holds more charge than its pixels can, and spills into its neighbours for several
groups after the hit (Regan, jwst issue 10355). For a snowball of a later group jwst's jump step knows: it
extends the saturated core by `sat_expand` pixels. In the first group there is no jump by which it could
find one, so that in every later group a ring rises that no flag explains, and in a mean of a few
integrations it stays.

A saturated region of group 0 as large as those that the jump step extends, in pixels that are not saturated
from the start in most integrations, is such a core. The ring of `RING` pixels around it is flagged
DO_NOT_USE in all groups of that integration. Flags that the jump step raised there are kept in the first
difference alone, where the spill began: one event, not one for every group in which it goes on. The
afterglow of the core in the next integrations is flagged by the persistence step, since the core is
saturated.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from shared.nircam.dq import GroupFlag

#: Pixels by which jwst's jump step extends the radius of a saturated core (`sat_expand`).
RING = 2
#: Fewest pixels of a core: those of a disc with the radius from which the jump step extends cores
#: (`min_sat_radius_extend`, 2.5), and one pixel more, by which the saturation step has grown it.
LEAST_CORE = 38
_EIGHT = np.ones((3, 3), bool)
_DISC = np.hypot(*np.mgrid[-RING : RING + 1, -RING : RING + 1]) <= RING + 0.5


def mask_first_group_snowballs(groupdq: NDArray[np.uint8]) -> int:
    """Flag the rings around the snowballs of first groups; return how many there are.

    Parameters
    ----------
    groupdq : ndarray, 4D (integrations, groups, y, x)
        As the jump step left it; changed in place.
    """
    # One integration at a time: there may be thousands.
    counts = np.zeros(groupdq.shape[2:], np.uint32)
    for flags in groupdq:
        counts += (flags[0] & GroupFlag.SATURATED.mask) != 0
    if not counts.any():
        return 0
    always = 2 * counts > len(groupdq) if len(groupdq) > 1 else np.zeros(counts.shape, bool)
    snowballs = 0
    for flags in groupdq:
        saturated = ((flags[0] & GroupFlag.SATURATED.mask) != 0) & ~always
        regions, _ = ndimage.label(saturated, structure=_EIGHT)
        sizes = np.bincount(regions.ravel())
        cores = np.flatnonzero(sizes[1:] >= LEAST_CORE) + 1
        if not cores.size:
            continue
        snowballs += len(cores)
        core = np.isin(regions, cores)
        ring = ndimage.binary_dilation(core, structure=_DISC) & ~core
        flags[2:, ring] &= ~GroupFlag.JUMP_DET.mask
        flags[:, ring] |= GroupFlag.DO_NOT_USE.mask
    return snowballs
