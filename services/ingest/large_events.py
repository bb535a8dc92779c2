"""Runs stcal's search for large events (snowballs) on a ramp on disk, one integration at a time.

stcal looks at each integration by itself, plane by plane. One thing reaches further: the cores of an
integration's snowballs are flagged in the first groups of the next. For this, stcal keeps a plane of cores
for each integration and copies it for each of these groups, 8 MiB a full-frame group. It is therefore given
two integrations at a time, of which the second has no pixels: what stcal would flag there, in one group, is
the plane of cores, and it is written where it belongs when the next integration has been searched.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stcal.jump.jump import flag_large_events

from shared.nircam.dq import GroupFlag

#: Groups that stcal flags in the next integration, if it is to flag one.
_ONE_GROUP = slice(1, 2)


class _Integration:
    """GROUPDQ of an integration, as stcal indexes it, and after it one that has no pixels.

    Parameters
    ----------
    groupdq : ndarray of uint8, 4D (integrations, groups, y, x)
        Of the exposure; may be mapped.
    number : int
        The integration.

    Attributes
    ----------
    cores : ndarray of uint8, 2D (y, x), or None
        What stcal flagged in a group of the integration after it.
    """

    def __init__(self, groupdq: NDArray[np.uint8], number: int) -> None:
        self._groupdq, self._number = groupdq, number
        self.shape = (2, *groupdq.shape[1:])
        self.cores: NDArray[np.uint8] | None = None

    def __getitem__(self, index: tuple[Any, ...]) -> Any:
        if index[0] == 0:
            return self._groupdq[self._number, *index[1:]]
        return np.zeros((1, 1) if isinstance(index[1], int) else (1, 1, 1), np.uint8)

    def __setitem__(self, index: tuple[Any, ...], value: NDArray[np.uint8]) -> None:
        if index[0] == 1:
            if index[1] == _ONE_GROUP:
                self.cores = value[0]
        elif index[1] != slice(None):  # All groups at once are what it was given, changed in place.
            self._groupdq[self._number, *index[1:]] = value


def expand_large_events(groupdq: NDArray[np.uint8], integrations: Sequence[int], jump_data: Any) -> int:
    """Expand the jump flags of snowballs as `stcal.jump.jump.flag_large_events` does.

    Parameters
    ----------
    groupdq : ndarray of uint8, 4D (integrations, groups, y, x)
        As the search for jumps left it; changed in place.
    integrations : sequence of int
        Those to look at; each takes over the cores of the one before it in this sequence.
    jump_data : JumpData
        Parameters of the jump step.

    Returns
    -------
    int
        Number of snowballs.
    """
    masked = min(jump_data.persist_grps_flagged, groupdq.shape[1])
    for_one_group = copy(jump_data)
    for_one_group.persist_grps_flagged = min(masked, 2)
    events, before = 0, None
    for number in integrations:
        flags = _Integration(groupdq, number)
        events += int(
            flag_large_events(flags, GroupFlag.JUMP_DET.mask, GroupFlag.SATURATED.mask, for_one_group)[1]
        )
        if before is not None:
            for group in range(1, masked):
                groupdq[number, group] |= before
        before = flags.cores if masked > 1 else None
    return events
