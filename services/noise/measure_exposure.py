"""Noise of one exposure: its jumps, levels and CDS noise, and the ramps of a few pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from services.noise.cds import CdsPairs
from services.noise.jump_events import EventFinder, Events, Search
from services.noise.jumps import JumpCount, JumpCounter
from services.noise.pixel_ramps import central_pixel, check_inside, choose_pixel, grid_start, pixel_ramp
from services.noise.pixels import ENDS_RAMP, JUMP_DET, pixels_of, planes
from services.noise.products import PixelRamp
from services.noise.stability import Levels
from shared.configuration import ConfigurationKey
from shared.ramps import Ramp

#: ``tick()`` after every group of every integration.
Tick = Callable[[], None]


@dataclass(frozen=True)
class ExposureNoise:
    """What one exposure shows.

    Attributes
    ----------
    jumps, science_jumps : JumpCount
        Over all pixels, and over science pixels.
    events : int
    found, search : Events, Search
        Events one by one, and where they were looked for.
    levels : Levels
    cds_noise_dn : list of float
        Per integration, DN.
    ramps : list of PixelRamp
        The 3x3 grid row by row, then the single pixels.
    """

    jumps: JumpCount
    science_jumps: JumpCount
    events: int
    found: Events
    search: Search
    levels: Levels
    cds_noise_dn: list[float]
    ramps: list[PixelRamp]


def measure_exposure(
    ramp: Ramp, key: ConfigurationKey, chosen: Sequence[tuple[int, int]], tick: Tick
) -> ExposureNoise:
    """Go through an exposure once, one group in memory at a time.

    Parameters
    ----------
    ramp : Ramp
        Calibrated and jump-flagged: SCI, GROUPDQ, PIXELDQ.
    key : ConfigurationKey
    chosen : sequence of (int, int)
        (x, y) of the pixels to show, 0-based; the grid is around the first. Without any, the pixel of
        `choose_pixel` in the first integration that has one, else the central one.
    tick : callable

    Raises
    ------
    PermanentError
        If a chosen pixel is outside the exposure, or no science pixel is usable.
    """
    pixels = pixels_of(key, ramp.read_image("PIXELDQ"), ramp.where)
    shape = pixels.sky.shape
    for pixel in chosen:
        check_inside(pixel, shape, ramp.where)
    counter = JumpCounter(pixels.sky, key.ngroups)
    levels, pairs = Levels(), CdsPairs(shape, per_pixel=False)
    finder = EventFinder(pixels.active, key.ngroups)
    shown: tuple[int, int] | None = None
    shown_in = 0
    for plane in planes(ramp):
        counter.add(plane.group, plane.jumps)
        levels.add(plane, pixels)
        pairs.add(plane, pixels)
        finder.add(plane.group, plane.signal, plane.quality)
        if plane.group == key.ngroups - 1 and shown is None and not chosen:
            shown = choose_pixel(counter.first_jumps, key.ngroups, pixels.sky)
            shown_in = plane.integration if shown else 0
        tick()
    jumps, science_jumps = counter.counts()
    found, search = finder.finish()
    if chosen:
        singles = [(pixel, _first_hit(ramp, pixel)) for pixel in chosen]
    else:
        singles = [(shown or central_pixel(shape), shown_in)]
    return ExposureNoise(
        jumps=jumps,
        science_jumps=science_jumps,
        events=counter.events,
        found=found,
        search=search,
        levels=levels,
        cds_noise_dn=pairs.by_ramp(),
        ramps=_grid(ramp, *singles[0]) + [_read_ramp(ramp, *single) for single in singles],
    )


def _first_hit(ramp: Ramp, pixel: tuple[int, int]) -> int:
    """Return the first integration in which a pixel is hit, 0 if it never is."""
    x, y = pixel
    for integration in range(ramp.shape("GROUPDQ")[0]):
        if (ramp.read("GROUPDQ", integration, rows=slice(y, y + 1))[:, 0, x] & JUMP_DET).any():
            return integration
    return 0


def _grid(ramp: Ramp, pixel: tuple[int, int], integration: int) -> list[PixelRamp]:
    ny, nx = ramp.shape("SCI")[-2:]
    x0, y0 = grid_start(pixel, (ny, nx))
    return [_read_ramp(ramp, (x, y), integration) for y in range(y0, y0 + 3) for x in range(x0, x0 + 3)]


def _read_ramp(ramp: Ramp, pixel: tuple[int, int], integration: int) -> PixelRamp:
    x, y = pixel
    row = slice(y, y + 1)
    signal = ramp.read("SCI", integration, rows=row)[:, 0, x]
    quality = ramp.read("GROUPDQ", integration, rows=row)[:, 0, x]
    alive = np.logical_and.accumulate((quality & ENDS_RAMP == 0) & np.isfinite(signal))
    return pixel_ramp(pixel, integration, signal, quality & JUMP_DET != 0, alive)
