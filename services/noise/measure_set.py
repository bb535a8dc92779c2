"""Noise of a complete set of ramps: the first of two passes over its files.

It goes through every group of every ramp, whole planes, and keeps what is per pixel for CDS noise and per
plane for the rest. The second, `services.noise.temporal`, is for what varies from ramp to ramp in each
pixel. Neither holds more than its windows, whatever the number of ramps.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from services.noise.cds import CdsPairs
from services.noise.emulate import EmulatedNoise
from services.noise.jumps import JumpCount, JumpCounter
from services.noise.ktc import FirstGroups
from services.noise.measure_exposure import Tick
from services.noise.one_over_f import SpectrumPairs
from services.noise.pixels import Pixels, pixels_of, planes
from services.noise.reference_pixels import ReferencePairs
from services.noise.spatial import SlopeSpread
from services.noise.spectrum import readout_of
from services.noise.stability import Levels
from shared.configuration import ConfigurationKey
from shared.processors import processors
from shared.ramps import Ramp

#: Opens one exposure of the set, by its place in it; closed with the context.
OpenRamp = Callable[[int], AbstractContextManager[Ramp]]


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
    first_groups : FirstGroups
    spectra : SpectrumPairs
    reference : ReferencePairs
    levels : Levels
    slopes : SlopeSpread
    active_pixels : int
        Pixels with a slope over all groups, in the ramp that has fewest.
    """

    pixels: Pixels
    pairs: CdsPairs
    first_groups: FirstGroups
    spectra: SpectrumPairs
    reference: ReferencePairs = field(default_factory=ReferencePairs)
    levels: Levels = field(default_factory=Levels)
    jumps: list[JumpCount] = field(default_factory=list)
    science_jumps: list[JumpCount] = field(default_factory=list)
    slopes: SlopeSpread = field(default_factory=SlopeSpread)
    active_pixels: int = 0


def measure_planes(
    open_ramp: OpenRamp,
    integrations: Sequence[int],
    key: ConfigurationKey,
    tick: Tick,
    emulated: Sequence[EmulatedNoise] = (),
) -> Planes:
    """Do the first pass.

    Parameters
    ----------
    open_ramp : callable
    integrations : sequence of int
        Of each exposure, at least one.
    key : ConfigurationKey
    tick : callable
        Called after every group of every integration.
    emulated : sequence of EmulatedNoise
        Further readout patterns to make of every plane.

    Raises
    ------
    PermanentError
        If an exposure has no usable science pixel.
    """
    found: Planes | None = None
    pairs = sum(integrations) * (key.ngroups // 2)
    # Four to run, each of them with planes of its own.
    with ThreadPoolExecutor(min(processors(), 4), "plane") as threads:
        for exposure in range(len(integrations)):
            with open_ramp(exposure) as ramp:
                pixels = pixels_of(key, ramp.read_image("PIXELDQ"), ramp.where)
                if found is None:
                    shape = pixels.sky.shape
                    spectra = SpectrumPairs(readout_of(key), pairs)
                    found = Planes(pixels, CdsPairs(shape), FirstGroups(shape), spectra)
                    found.active_pixels = pixels.active.size
                counter = JumpCounter(pixels.sky, key.ngroups)
                for plane in planes(ramp):
                    # Each keeps to itself and sees the planes in order, so they may go side by side.
                    for work in [
                        threads.submit(found.slopes.add, plane, pixels),
                        threads.submit(found.pairs.add, plane, pixels),
                        threads.submit(found.levels.add, plane, pixels),
                        threads.submit(found.first_groups.add, plane, pixels),
                        threads.submit(found.reference.add, plane, pixels),
                        threads.submit(counter.add, plane.group, plane.jumps),
                        *(threads.submit(one.add, plane, pixels) for one in emulated),
                    ]:
                        work.result()
                    # By itself: its transforms take as much memory as the others' planes.
                    found.spectra.add(plane, pixels)
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
