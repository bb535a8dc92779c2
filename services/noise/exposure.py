"""The noise product of one exposure: jumps, hits, levels, CDS noise, and the ramps of a few pixels."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.noise.jumps.counts import JumpCount, JumpCounter, false_positive_percent, live_seconds
from services.noise.jumps.events import Events, FlagCollector, Search
from services.noise.jumps.pixel_ramps import central_pixel, check_inside, choose_pixel, grid_start, pixel_ramp
from services.noise.jumps.rates import compare_jumps, event_statistics, false_flags, ramp_seconds
from services.noise.planes import exposure_pixels, integrations_in_use, planes
from services.noise.read_noise.cds import CdsPairs
from services.noise.stability.stability import Levels, integration_starts, level_rate
from shared.contracts.messages import ExposureIngested
from shared.errors import PermanentError
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.dq import BAD_GROUP_FLAGS, GroupFlag
from shared.products.noise import ExposureNoiseResults, PixelRamp
from shared.ramps.ramp import Ramp
from shared.statistics.verdicts import Measured, not_compared, not_measured

#: Called without arguments after every group of every integration.
Tick = Callable[[], None]


@dataclass(frozen=True)
class ExposureNoise:
    """What one pass over an exposure measures.

    Attributes
    ----------
    jumps, science_jumps : JumpCount
        Over all pixels, and over science pixels.
    events : int
        Groups of 8-connected flags.
    hits, search : Events, Search
        Every event that hit the detector, and where events were searched for.
    levels : Levels
    cds_noise_dn : list of float
        Per integration, DN.
    ramps : list of PixelRamp
        The 3x3 grid row by row, then the single pixels.
    in_use : list of int
        Integrations that were measured, 0-based; what is per integration is of these.
    """

    jumps: JumpCount
    science_jumps: JumpCount
    events: int
    hits: Events
    search: Search
    levels: Levels
    cds_noise_dn: list[float]
    ramps: list[PixelRamp]
    in_use: list[int]


def measure_exposure(
    ramp: Ramp, key: ConfigurationKey, chosen: Sequence[tuple[int, int]], tick: Tick
) -> ExposureNoise:
    """Go once through an exposure, with one group in memory at a time.

    Parameters
    ----------
    ramp : Ramp
        Calibrated and jump-flagged: SCI, GROUPDQ, PIXELDQ.
    key : ConfigurationKey
    chosen : sequence of (int, int)
        (x, y) of the pixels whose ramps are shown, 0-based; the grid is centred on the first. If empty, the
        pixel that `choose_pixel` takes in the first integration that has one, else the central pixel.
    tick : callable

    Returns
    -------
    ExposureNoise

    Raises
    ------
    PermanentError
        If a chosen pixel is outside the exposure, or no science pixel or no integration is usable.
    """
    pixels = exposure_pixels(key, ramp.read_image("PIXELDQ"), ramp.where)
    shape = pixels.sky.shape
    for pixel in chosen:
        check_inside(pixel, shape, ramp.where)
    in_use = integrations_in_use(ramp)
    if not in_use:
        raise PermanentError(
            f"{ramp.where}: GROUPDQ marks every integration DO_NOT_USE, so there is no noise to measure; the "
            "messages of ingest say what was never read",
            where=ramp.where,
            keyword="GROUPDQ",
        )
    counter = JumpCounter(pixels.sky, key.ngroups)
    levels, pairs = Levels(), CdsPairs(shape, per_pixel=False)
    finder = FlagCollector(pixels.active, key.ngroups)
    shown: tuple[int, int] | None = None
    shown_in = in_use[0]
    for plane in planes(ramp, in_use):
        counter.add(plane.group, plane.jumps)
        levels.add(plane, pixels)
        pairs.add(plane, pixels)
        finder.add(plane.group, plane.signal, plane.quality)
        if plane.group == key.ngroups - 1 and shown is None and not chosen:
            shown = choose_pixel(counter.first_jumps, key.ngroups, pixels.sky)
            shown_in = plane.integration if shown else shown_in
        tick()
    jumps, science_jumps = counter.counts()
    hits, search = finder.finish()
    if chosen:
        singles = [(pixel, _first_hit(ramp, pixel, in_use)) for pixel in chosen]
    else:
        singles = [(shown or central_pixel(shape), shown_in)]
    return ExposureNoise(
        jumps=jumps,
        science_jumps=science_jumps,
        events=counter.events,
        hits=hits,
        search=search,
        levels=levels,
        cds_noise_dn=pairs.by_ramp(),
        ramps=_grid(ramp, *singles[0]) + [_read_ramp(ramp, *single) for single in singles],
        in_use=in_use,
    )


def _first_hit(ramp: Ramp, pixel: tuple[int, int], in_use: Sequence[int]) -> int:
    """Return the first integration in use in which a pixel is hit; the first of all if it is never hit."""
    x, y = pixel
    for integration in in_use:
        if (ramp.read("GROUPDQ", integration, rows=slice(y, y + 1))[:, 0, x] & GroupFlag.JUMP_DET.mask).any():
            return integration
    return in_use[0]


def _grid(ramp: Ramp, pixel: tuple[int, int], integration: int) -> list[PixelRamp]:
    ny, nx = ramp.shape("SCI")[-2:]
    x0, y0 = grid_start(pixel, (ny, nx))
    return [_read_ramp(ramp, (x, y), integration) for y in range(y0, y0 + 3) for x in range(x0, x0 + 3)]


def _read_ramp(ramp: Ramp, pixel: tuple[int, int], integration: int) -> PixelRamp:
    x, y = pixel
    row = slice(y, y + 1)
    signal = ramp.read("SCI", integration, rows=row)[:, 0, x]
    quality = ramp.read("GROUPDQ", integration, rows=row)[:, 0, x]
    alive = np.logical_and.accumulate((quality & BAD_GROUP_FLAGS.mask == 0) & np.isfinite(signal))
    return pixel_ramp(pixel, integration, signal, quality & GroupFlag.JUMP_DET.mask != 0, alive)


#: Further figures of an exposure, by their names in `shared.products.figures`.
FURTHER_EXPOSURE_FIGURES: Mapping[str, Callable[[ExposureIngested, ExposureNoise], Measured]] = {
    "jump_pixel_percent_integration_0": lambda ingested, noise: compare_jumps(
        noise.jumps.first_percent, noise.jumps.first_percent_error, ingested.key, 1
    ),
    "dark_rate_e_per_ks": lambda ingested, noise: _dark_rate(ingested, noise.levels),
}


def _dark_rate(ingested: ExposureIngested, levels: Levels) -> Measured:
    rate = level_rate(levels).times(ingested.gain / ingested.key.group_time * 1000)
    if not math.isfinite(rate.value):
        return not_measured("it takes 2 groups or more: a single group has no slope")
    return not_compared(rate, "what is expected is for the dark reference of its set")


def summarize_exposure(ingested: ExposureIngested, noise: ExposureNoise) -> ExposureNoiseResults:
    """Return the noise product of one exposure: its measurements in electrons, with verdicts."""
    key, member = ingested.key, ingested.member
    jumps, science = noise.jumps, noise.science_jumps
    seconds, integrations = ramp_seconds(key), len(noise.in_use)
    starts = integration_starts(member.start_mjd, member.end_mjd, member.integrations)
    return ExposureNoiseResults(
        configuration=ingested.configuration,
        exposure_id=member.exposure_id,
        jump_flags=jumps.flags,
        jump_flags_error=jumps.flags_error,
        jump_pixels=jumps.pixels,
        jump_pixel_percent=jumps.percent,
        jump_pixel_percent_error=jumps.percent_error,
        science_jump_flags=science.flags,
        science_jump_flags_error=science.flags_error,
        science_jump_pixels=science.pixels,
        science_jump_pixel_percent=science.percent,
        science_jump_pixel_percent_error=science.percent_error,
        jump_events=noise.events,
        flags_per_group=jumps.per_group,
        science_flags_per_group=science.per_group,
        expected_false_positive_percent=false_positive_percent(key.ngroups, integrations),
        expected_false_positive_flags=false_flags(key, integrations),
        live_seconds=live_seconds(seconds, integrations),
        jump_pixels_judged=compare_jumps(science.percent, science.percent_error, key, integrations),
        median_dn=noise.levels.detector,
        amplifier_median_dn=noise.levels.amplifiers,
        cds_noise_e=[cds_noise * ingested.gain for cds_noise in noise.cds_noise_dn],
        integration_mjd=[starts[n] for n in noise.in_use],
        lost_integrations=[n for n in range(member.integrations) if n not in noise.in_use],
        seconds_per_integration=seconds,
        simulated=ingested.simulated,
        events=event_statistics(
            noise.hits, noise.search, key, ingested.gain, (member.start_mjd, member.end_mjd)
        ),
        figures={name: figure(ingested, noise) for name, figure in FURTHER_EXPOSURE_FIGURES.items()},
    )
