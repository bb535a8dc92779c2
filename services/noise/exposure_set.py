"""The first of two passes over the ramps of a set.

It reads every group of every ramp as a whole plane; it keeps CDS noise per pixel, and everything else per
plane. The second pass, `services.noise.effective.temporal`, measures how each pixel varies from ramp to ramp.
The memory of both is bounded, whatever the number of ramps.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from services.noise.effective.emulate import EmulatedNoise
from services.noise.effective.spatial import SlopeSpread
from services.noise.exposure import Tick
from services.noise.jumps.counts import JumpCount, JumpCounter
from services.noise.planes import ExposurePixels, Plane, exposure_pixels, planes
from services.noise.read_noise.cds import CdsPairs, ReferencePairs
from services.noise.read_noise.ktc import FirstGroups
from services.noise.read_noise.one_over_f import SpectrumPairs
from services.noise.read_noise.spectrum import readout_of
from services.noise.stability.patterns import ColumnParity
from services.noise.stability.stability import Levels
from shared.nircam.configuration import ConfigurationKey
from shared.processors import processors
from shared.ramps.ramp import Ramp

#: Opens one exposure of the set, by its index; the context closes it.
OpenRamp = Callable[[int], AbstractContextManager[Ramp]]


@dataclass
class FirstPass:
    """What the first pass measures; DN and DN/group.

    Attributes
    ----------
    pixels : ExposurePixels
        Of the last exposure. The mask reference is the same for all exposures of a configuration.
    jumps, science_jumps : list of JumpCount
        Per exposure with an integration in use.
    pairs : CdsPairs
    first_groups : FirstGroups
    spectra : SpectrumPairs
    reference : ReferencePairs
    levels : Levels
    slopes : SlopeSpread
    parity : ColumnParity
    active_pixels : int
        Pixels with a slope over all groups, in the ramp that has the fewest but has any.
    """

    pixels: ExposurePixels
    pairs: CdsPairs
    first_groups: FirstGroups
    spectra: SpectrumPairs
    reference: ReferencePairs = field(default_factory=ReferencePairs)
    levels: Levels = field(default_factory=Levels)
    jumps: list[JumpCount] = field(default_factory=list)
    science_jumps: list[JumpCount] = field(default_factory=list)
    slopes: SlopeSpread = field(default_factory=SlopeSpread)
    parity: ColumnParity = field(default_factory=ColumnParity)
    active_pixels: int = 0


def measure_first_pass(
    open_ramp: OpenRamp,
    in_use: Sequence[Sequence[int]],
    key: ConfigurationKey,
    tick: Tick,
    emulated: Sequence[EmulatedNoise] = (),
) -> FirstPass:
    """Go once through all groups of all ramps of a set.

    Parameters
    ----------
    open_ramp : callable
    in_use : sequence of sequence of int
        Integrations of each exposure that are measured, 0-based; at least one of all.
    key : ConfigurationKey
    tick : callable
        Called after every group of every integration.
    emulated : sequence of EmulatedNoise
        Further readout patterns to emulate from the planes.

    Returns
    -------
    FirstPass

    Raises
    ------
    PermanentError
        If an exposure has no usable science pixel.
    """
    if not any(in_use):
        raise ValueError("a set has at least one integration in use")
    first: FirstPass | None = None
    # Four at a time: each has planes of its own in memory.
    with ThreadPoolExecutor(min(processors(), 4), "plane") as threads:
        for exposure, integrations in enumerate(in_use):
            if not integrations:
                continue
            with open_ramp(exposure) as ramp:
                pixels = exposure_pixels(key, ramp.read_image("PIXELDQ"), ramp.where)
                if first is None:
                    first = _empty(pixels, key, sum(map(len, in_use)))
                counter = JumpCounter(pixels.sky, key.ngroups)
                for plane in planes(ramp, integrations):
                    _add_plane(first, counter, plane, pixels, emulated, threads)
                    if plane.group == key.ngroups - 1:
                        alive = int(np.count_nonzero(plane.alive & pixels.active))
                        # A ramp with a group that was never read has no slope over all of them.
                        first.active_pixels = min(first.active_pixels, alive or first.active_pixels)
                    tick()
            jumps, science_jumps = counter.counts()
            first.jumps.append(jumps)
            first.science_jumps.append(science_jumps)
    assert first is not None
    return first


def _empty(pixels: ExposurePixels, key: ConfigurationKey, ramps: int) -> FirstPass:
    shape = pixels.sky.shape
    spectra = SpectrumPairs(readout_of(key), ramps * (key.ngroups // 2))
    first = FirstPass(pixels, CdsPairs(shape), FirstGroups(shape), spectra)
    first.active_pixels = pixels.active.size
    return first


def _add_plane(
    first: FirstPass,
    counter: JumpCounter,
    plane: Plane,
    pixels: ExposurePixels,
    emulated: Sequence[EmulatedNoise],
    threads: ThreadPoolExecutor,
) -> None:
    """Give one plane to everything that accumulates planes.

    The accumulators are independent and see the planes in order, so they run side by side.
    """
    add_to = (
        first.slopes.add,
        first.pairs.add,
        first.levels.add,
        first.first_groups.add,
        first.reference.add,
        first.parity.add,
    )
    jobs = [threads.submit(add, plane, pixels) for add in add_to]
    jobs += [threads.submit(pattern.add, plane, pixels) for pattern in emulated]
    jobs.append(threads.submit(counter.add, plane.group, plane.jumps))
    for job in jobs:
        job.result()
    # Alone: its Fourier transforms take as much memory as the planes of all others.
    first.spectra.add(plane, pixels)
