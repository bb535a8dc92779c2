"""Which pixels take part in a noise figure, and for how many groups of a ramp."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.compiled import kernel
from shared.configuration import ConfigurationKey
from shared.errors import PermanentError
from shared.geometry import amplifiers, science_pixels
from shared.ramps import Ramp

# JWST data quality bits: PIXELDQ and GROUPDQ DO_NOT_USE, GROUPDQ SATURATED, JUMP_DET, PERSISTENCE.
DO_NOT_USE = 1
JUMP_DET = 4
#: A ramp is left out of noise figures from the first group with one of these on.
ENDS_RAMP = DO_NOT_USE | 2 | JUMP_DET | 32
_BIG_ENDIAN = sys.byteorder == "big"


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
        DN. The plane after the next overwrites it.
    quality : ndarray of uint8, 2D (y, x)
        GROUPDQ. The next plane overwrites it.
    jumps : ndarray of bool, 2D (y, x)
        GROUPDQ & JUMP_DET. The next plane overwrites it.
    alive : ndarray of bool, 2D (y, x)
        Pixels of any kind that are finite and unflagged in this group and all before it. The next
        plane overwrites it.
    """

    integration: int
    group: int
    signal: NDArray[Any]
    quality: NDArray[np.uint8]
    jumps: NDArray[np.bool_]
    alive: NDArray[np.bool_]


def planes(ramp: Ramp) -> Iterator[Plane]:
    """Yield every group of every integration, ascending; reads the next one meanwhile."""
    nints, ngroups, ny, nx = ramp.shape("SCI")
    places = [(integration, group) for integration in range(nints) for group in range(ngroups)]
    # One that comes, one that is at hand, and one that may still be compared with.
    signals = [np.empty((1, ny, nx), ">f4") for _ in range(3)]
    qualities = [np.empty((1, ny, nx), np.uint8) for _ in range(2)]

    def read(number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        integration, group = places[number]
        signal, quality = signals[number % 3], qualities[number % 2]
        at = slice(group, group + 1)
        ramp.read_stored("SCI", integration, at, slice(None), signal)
        ramp.read_stored("GROUPDQ", integration, at, slice(None), quality)
        native = signal[0].view(np.uint32)
        if not _BIG_ENDIAN:
            _turn(native)
        return native.view(np.float32), quality[0]

    alive, jumps = np.empty((2, ny, nx), np.bool_)
    with ThreadPoolExecutor(1, "plane") as ahead:
        coming = ahead.submit(read, 0)
        for number, (integration, group) in enumerate(places):
            signal, quality = coming.result()
            if number + 1 < len(places):
                coming = ahead.submit(read, number + 1)
            if group == 0:
                alive[:] = True
            _look_at_flags(signal, quality, alive, jumps)
            yield Plane(integration, group, signal, quality, jumps, alive)


@kernel
def _turn(values):  # type: ignore[no-untyped-def]
    # The bytes of each value the other way round; numpy's byteswap takes seven times as long.
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            value = values[row, column]
            values[row, column] = (
                ((value & np.uint32(0xFF)) << np.uint32(24))
                | ((value & np.uint32(0xFF00)) << np.uint32(8))
                | ((value >> np.uint32(8)) & np.uint32(0xFF00))
                | (value >> np.uint32(24))
            )


@kernel
def _look_at_flags(signal, quality, alive, jumps):  # type: ignore[no-untyped-def]
    for row in range(signal.shape[0]):
        for column in range(signal.shape[1]):
            flags = quality[row, column]
            jumps[row, column] = (flags & JUMP_DET) != 0
            alive[row, column] &= ((flags & ENDS_RAMP) == 0) & np.isfinite(signal[row, column])
