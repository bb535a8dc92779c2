"""Which pixels take part in a noise figure, and for how many groups of a ramp."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import PermanentError
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.dq import BAD_GROUP_FLAGS, GroupFlag, PixelFlag
from shared.nircam.geometry import amplifiers, science_pixels
from shared.ramps.ramp import Ramp
from shared.ramps.window_plan import Place
from shared.ramps.window_reader import Integration, WindowReader
from shared.statistics.jit import kernel

_JUMP_DET, _BAD_GROUP = int(GroupFlag.JUMP_DET), int(BAD_GROUP_FLAGS)
#: Planes in memory: one that is read, the current one, and the one before, which is compared with it.
_SLOTS = 3


@dataclass(frozen=True)
class ExposurePixels:
    """The pixels of one exposure, by kind.

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


def exposure_pixels(key: ConfigurationKey, pixeldq: NDArray[Any], where: str) -> ExposurePixels:
    """Sort the pixels of an exposure by kind.

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
    good = pixeldq & PixelFlag.DO_NOT_USE.mask == 0
    active = sky & good
    if not active.any():
        raise PermanentError(
            f"{where}: PIXELDQ marks every science pixel DO_NOT_USE, so there is no noise to measure; "
            "check the mask reference file that ingest used",
            where=where,
            keyword="PIXELDQ",
        )
    return ExposurePixels(sky, active, ~sky & good, amplifiers(key))


@dataclass(frozen=True)
class Plane:
    """One group of one integration.

    Attributes
    ----------
    integration, group : int
    signal : ndarray of float32, 2D (y, x)
        DN. Valid until the plane after the next is taken.
    quality : ndarray of uint8, 2D (y, x)
        GROUPDQ. Valid until the plane after the next is taken.
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


def integrations_in_use(ramp: Ramp) -> list[int]:
    """Return the integrations of a ramp, 0-based, that are not DO_NOT_USE throughout.

    Ingest marks an integration so of which too few groups were read: it is no sample of any noise.
    """
    nints, ngroups, ny, _ = ramp.shape("SCI")
    middle = slice(ny // 2, ny // 2 + 1)

    def is_lost(integration: int) -> bool:
        # A row of one group tells that nearly every integration is in use.
        return _unusable(ramp.read("GROUPDQ", integration, slice(0, 1), middle)) and all(
            _unusable(ramp.read("GROUPDQ", integration, slice(group, group + 1))) for group in range(ngroups)
        )

    return [integration for integration in range(nints) if not is_lost(integration)]


def _unusable(quality: NDArray[Any]) -> bool:
    return bool((quality & GroupFlag.DO_NOT_USE.mask != 0).all())


def planes(ramp: Ramp, in_use: Sequence[int] | None = None) -> Iterator[Plane]:
    """Yield every group of every integration of a ramp, ascending, while the next one is read.

    Parameters
    ----------
    ramp : Ramp
    in_use : sequence of int, optional
        The integrations to read, ascending; by default all.
    """
    nints, ngroups, ny, nx = ramp.shape("SCI")
    places = [
        Place(slice(integration, integration + 1), slice(group, group + 1), slice(0, ny))
        for integration in (range(nints) if in_use is None else in_use)
        for group in range(ngroups)
    ]
    integrations = [Integration(ramp, integration) for integration in range(nints)]
    alive, jumps = np.empty((2, ny, nx), np.bool_)
    with ThreadPoolExecutor(1, "plane") as requests:
        for window in WindowReader(integrations, places, requests, _SLOTS, quality=True, native=True):
            signal = window.signal.view(np.float32).reshape(ny, nx)
            assert window.quality is not None
            quality = window.quality.reshape(ny, nx)
            if window.groups.start == 0:
                alive[:] = True
            _update_flags(signal, quality, alive, jumps)
            yield Plane(window.place.integrations.start, window.groups.start, signal, quality, jumps, alive)


@kernel
def _update_flags(signal, quality, alive, jumps):  # type: ignore[no-untyped-def]
    for row in range(signal.shape[0]):
        for column in range(signal.shape[1]):
            flags = quality[row, column]
            jumps[row, column] = (flags & _JUMP_DET) != 0
            alive[row, column] &= ((flags & _BAD_GROUP) == 0) & np.isfinite(signal[row, column])
