"""Noise of a complete set of ramps, in two passes over its files.

The first goes through every group of every ramp, whole planes, and keeps what is per pixel for CDS noise
and per plane for the rest. The second takes all ramps of a window of rows at a time, for what varies
from ramp to ramp in each pixel. Neither holds more than its windows, whatever the number of ramps.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.noise.cds import CdsPairs
from services.noise.effective_noise import MINIMUM_PER_PIXEL, corrected_variance
from services.noise.jumps import JumpCount, JumpCounter
from services.noise.measure_exposure import Tick
from services.noise.memory import Windows
from services.noise.pixels import DO_NOT_USE, ENDS_RAMP, Pixels, Plane, pixels_of, planes
from services.noise.robust import gather, median, median_and_sigma
from services.noise.slopes import RampVariance, SlopePlanes
from services.noise.stability import Levels
from shared.configuration import ConfigurationKey
from shared.geometry import amplifiers, science_pixels
from shared.ramps import Ramp

#: Opens one exposure of the set, by its place in it; closed with the context.
OpenRamp = Callable[[int], AbstractContextManager[Ramp]]

# Fewer pixels than this have no robust width.
_FEWEST_PIXELS = 10


@dataclass
class Planes:
    """What the first pass leaves; DN and DN/group.

    Attributes
    ----------
    pixels : Pixels
        Of the last exposure; a mask reference is the same for all of a configuration.
    jumps, science_jumps : list of JumpCount
        Per exposure.
    pairs : CdsPairs
    levels : Levels
    slope_medians, slope_sigmas : list of list of list of float
        Per (ramp, number of groups from 2 on, amplifier): median and robust sigma of the slopes.
    reference_sigmas : list of list of float
        Robust sigma of reference pixels' slopes per (ramp, number of groups).
    active_pixels : int
        Pixels with a slope over all groups, in the ramp that has fewest.
    """

    pixels: Pixels
    pairs: CdsPairs
    levels: Levels = field(default_factory=Levels)
    jumps: list[JumpCount] = field(default_factory=list)
    science_jumps: list[JumpCount] = field(default_factory=list)
    slope_medians: list[list[list[float]]] = field(default_factory=list)
    slope_sigmas: list[list[list[float]]] = field(default_factory=list)
    reference_sigmas: list[list[float]] = field(default_factory=list)
    active_pixels: int = 0


def measure_planes(open_ramp: OpenRamp, exposures: int, key: ConfigurationKey, tick: Tick) -> Planes:
    """Do the first pass.

    Parameters
    ----------
    open_ramp : callable
    exposures : int
    key : ConfigurationKey
    tick : callable
        Called after every group of every integration.

    Raises
    ------
    PermanentError
        If an exposure has no usable science pixel.
    """
    found: Planes | None = None
    slopes = SlopePlanes((key.subsize2, key.subsize1))
    for exposure in range(exposures):
        with open_ramp(exposure) as ramp:
            pixels = pixels_of(key, ramp.read_image("PIXELDQ"), ramp.where)
            if found is None:
                found = Planes(pixels, CdsPairs(pixels.sky.shape))
                found.active_pixels = pixels.active.size
            counter = JumpCounter(pixels.sky, key.ngroups)
            for plane in planes(ramp):
                counter.add(plane.group, plane.jumps)
                found.levels.add(plane, pixels)
                found.pairs.add(plane, pixels)
                _add_slopes(found, slopes.add(plane.group, plane.signal), plane, pixels)
                if plane.group == key.ngroups - 1:
                    alive = int(np.count_nonzero(plane.alive & pixels.active))
                    found.active_pixels = min(found.active_pixels, alive)
                tick()
        jumps, science_jumps = counter.counts()
        found.jumps.append(jumps)
        found.science_jumps.append(science_jumps)
    if found is None:
        raise ValueError("a set has at least one exposure")
    return found


def _add_slopes(found: Planes, slopes: NDArray[np.float64], plane: Plane, pixels: Pixels) -> None:
    if plane.group == 0:
        found.slope_medians.append([])
        found.slope_sigmas.append([])
        found.reference_sigmas.append([])
        return
    use = plane.alive & pixels.active
    both = [_spread(gather(slopes, use, columns)) for columns in pixels.amplifiers]
    found.slope_medians[-1].append([centre for centre, _ in both])
    found.slope_sigmas[-1].append([sigma for _, sigma in both])
    everywhere = slice(0, use.shape[1])
    found.reference_sigmas[-1].append(_spread(gather(slopes, plane.alive & pixels.reference, everywhere))[1])


def _spread(values: NDArray[np.float64]) -> tuple[float, float]:
    return median_and_sigma(values) if values.size >= _FEWEST_PIXELS else (np.nan, np.nan)


def temporal_sigmas(
    open_ramp: OpenRamp, integrations: Sequence[int], key: ConfigurationKey, windows: Windows, tick: Tick
) -> NDArray[np.float64]:
    """Do the second pass: root of the median over pixels of the variance over ramps of slope_n.

    Each pixel's variance is that of the ramps in which its first n groups are unflagged, at least
    `MINIMUM_PER_PIXEL` of them, corrected for the median of a sample variance of so many.

    Parameters
    ----------
    open_ramp : callable
    integrations : sequence of int
        Of each exposure.
    key : ConfigurationKey
    windows : Windows
    tick : callable
        Called after every window of every exposure.

    Returns
    -------
    ndarray of float64, 2D (numbers of groups from 2 on, amplifiers)
        DN/group; NaN where no pixel has ramps enough.
    """
    with ExitStack() as stack:
        ramps = [
            (stack.enter_context(open_ramp(exposure)), count) for exposure, count in enumerate(integrations)
        ]
        blocks = []
        for first in range(2, key.ngroups + 1, windows.slopes):
            last = min(first + windows.slopes - 1, key.ngroups)
            blocks.append(_temporal_block(ramps, key, windows.rows, first, last, tick))
    return np.concatenate(blocks)


def _temporal_block(
    ramps: Sequence[tuple[Ramp, int]], key: ConfigurationKey, height: int, first: int, last: int, tick: Tick
) -> NDArray[np.float64]:
    sky = science_pixels(key)
    variances = np.empty((last - first + 1, key.subsize2, key.subsize1), np.float32)
    for top in range(0, key.subsize2, height):
        rows = slice(top, min(top + height, key.subsize2))
        sums = RampVariance((rows.stop - top, key.subsize1), first, last)
        for ramp, count in ramps:
            active = sky[rows] & (ramp.read_image("PIXELDQ", rows) & DO_NOT_USE == 0)
            for integration in range(count):
                signal = ramp.read("SCI", integration, slice(0, last), rows)
                quality = ramp.read("GROUPDQ", integration, slice(0, last), rows)
                usable = quality & ENDS_RAMP == 0
                usable &= np.isfinite(signal)
                usable &= active
                sums.add(signal, usable)
            tick()
        variances[:, rows] = corrected_variance(*sums.variance(), MINIMUM_PER_PIXEL)
    sigmas = []
    for plane in variances:
        known = np.isfinite(plane)
        sigmas.append([np.sqrt(median(gather(plane, known, columns))) for columns in amplifiers(key)])
    return np.array(sigmas)
