"""Which pixels take part in a noise figure, and for how many groups of a ramp."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.configuration import ConfigurationKey
from shared.errors import PermanentError
from shared.geometry import amplifiers, science_pixels
from shared.ramps import Ramp

# JWST data quality bits: PIXELDQ and GROUPDQ DO_NOT_USE, GROUPDQ SATURATED, JUMP_DET, PERSISTENCE.
DO_NOT_USE = 1
JUMP_DET = 4
#: A ramp is left out of noise figures from the first group with one of these on.
ENDS_RAMP = DO_NOT_USE | 2 | JUMP_DET | 32


@dataclass(frozen=True)
class Pixels:
    """The pixels of one exposure.

    Attributes
    ----------
    sky : ndarray of bool, 2D (y, x)
        Pixels that are not reference pixels.
    active : ndarray of bool, 2D (y, x)
        Those of them that PIXELDQ does not mark DO_NOT_USE.
    reference : ndarray of bool, 2D (y, x)
        Reference pixels that PIXELDQ does not mark DO_NOT_USE; none where the subarray touches no edge.
    amplifiers : list of slice
        Columns of each output.
    """

    sky: NDArray[np.bool_]
    active: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    amplifiers: list[slice]


def pixels_of(key: ConfigurationKey, pixeldq: NDArray[Any], where: str) -> Pixels:
    """Sort an exposure's pixels.

    Parameters
    ----------
    key : ConfigurationKey
    pixeldq : ndarray of unsigned int, 2D (y, x)
    where : str
        Name of the file, for the error.

    Raises
    ------
    PermanentError
        If no science pixel is usable.
    """
    sky = science_pixels(key)
    good = pixeldq & DO_NOT_USE == 0
    active = sky & good
    if not active.any():
        raise PermanentError(
            f"{where}: PIXELDQ marks every science pixel DO_NOT_USE, so there is no noise to measure; "
            "check the mask reference file that ingest used"
        )
    return Pixels(sky, active, ~sky & good, amplifiers(key))


@dataclass(frozen=True)
class Plane:
    """One group of one integration.

    Attributes
    ----------
    signal : ndarray of float32, 2D (y, x)
        DN.
    jumps : ndarray of bool, 2D (y, x)
        GROUPDQ & JUMP_DET.
    alive : ndarray of bool, 2D (y, x)
        Pixels of any kind that are finite and unflagged in this group and all before it. The next
        plane overwrites it.
    """

    integration: int
    group: int
    signal: NDArray[Any]
    jumps: NDArray[np.bool_]
    alive: NDArray[np.bool_]


def planes(ramp: Ramp) -> Iterator[Plane]:
    """Yield every group of every integration, ascending; only one is in memory."""
    nints, ngroups, ny, nx = ramp.shape("SCI")
    alive = np.empty((ny, nx), np.bool_)
    for integration in range(nints):
        alive[:] = True
        for group in range(ngroups):
            at = slice(group, group + 1)
            signal = ramp.read("SCI", integration, at)[0]
            quality = ramp.read("GROUPDQ", integration, at)[0]
            alive &= quality & ENDS_RAMP == 0
            alive &= np.isfinite(signal)
            yield Plane(integration, group, signal, quality & JUMP_DET != 0, alive)
