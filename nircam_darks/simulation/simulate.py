"""Simulate realistic darks, with the truth about them and the reference files that they need.

``DIR/darks/*_uncal.fits`` are level-1b exposures with PEDIGREE = SIMULATION in the primary header,
``DIR/truth.json`` is a `nircam_darks.simulation.truth.Truth`, and ``DIR/crds_cache`` is a complete CRDS
cache: with `environment` set before jwst is imported, the pipeline needs no network and no override.

Not simulated: persistence, settling after a reset, random telegraph noise, crosstalk to the pixel that is
read next, the brighter-fatter effect, temperature. Dark rates are constant, with Poisson noise.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.time import Time, TimeDelta
from numpy.typing import NDArray
from pydantic import ValidationError

from nircam_darks.simulation.crds_cache import environment, references_folder, write_cache
from nircam_darks.simulation.detector import SimulatedPixels, draw_pixels
from nircam_darks.simulation.expected_noise import ExpectedNoise, expected_noise
from nircam_darks.simulation.exposure import expose
from nircam_darks.simulation.files import read_real_maps, write_uncal
from nircam_darks.simulation.headers import exposure_headers, exposure_name
from nircam_darks.simulation.jumps import FalsePositives, JumpTally, JumpTotals, false_positives, threshold
from nircam_darks.simulation.plan import SimulationPlan, require_one_detector_each
from nircam_darks.simulation.references import REFTYPES, USEAFTER, cds_noise_dn, write_references
from nircam_darks.simulation.truth import ConfigurationTruth, Expectation, ExposureTruth, Truth
from shared.errors import BadInput
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.detectors import PIXEL_PITCH_UM
from shared.processors import processors
from shared.statistics.verdicts import Value

__all__ = ["SimulationPlan", "SimulationResult", "environment", "simulate"]

#: Called as ``progress(done, total, what)`` with the number of finished exposures.
SimulationProgress = Callable[[int, int, str], None]

#: Raise this when the same plans begin to make other files.
SIMULATION_VERSION = "2"
#: Start of the first exposure unless a plan gives one: about when NRC-09 was taken.
_START = "2022-04-18T00:00:00"
#: Time between two exposures and between two configurations (s): about NIRCam's overheads.
_OVERHEAD, _RECONFIGURATION = 30.0, 120.0
#: Exposures at once: more would need more than 2 GiB of memory in full frame.
_AT_ONCE = 4


@dataclass(frozen=True)
class SimulationResult:
    """The files that `simulate` wrote, and the truth about them.

    Attributes
    ----------
    files : list of Path
        Exposures, in time order.
    truth_path, crds_path : Path
    truth : Truth
    """

    files: list[Path]
    truth_path: Path
    crds_path: Path
    truth: Truth = field(repr=False)


def _silent(done: int, total: int, what: str) -> None:
    pass


def simulate(
    plans: Sequence[SimulationPlan],
    out: Path,
    progress: SimulationProgress = _silent,
    real_references: Path | None = None,
) -> SimulationResult:
    """Simulate exposures in the order of the plans, as many at once as there are processors.

    An exposure takes about 250 MiB in full frame besides the maps of its detector, whatever its length.

    Parameters
    ----------
    plans : sequence of SimulationPlan
        One per configuration.
    out : Path
        Folder for the results; created if it does not exist.
    progress : callable
        Called as ``progress(done, total, what)`` with the number of finished exposures.
    real_references : Path, optional
        Folder with real CRDS references. The MASK and READNOISE of a simulated detector decide which of its
        pixels are dead, and how read noise varies from pixel to pixel.

    Returns
    -------
    SimulationResult

    Raises
    ------
    BadInput
        If the plans contradict each other, or `out` already holds a simulation.

    Examples
    --------
    >>> plan = SimulationPlan("NRCALONG", "SUB64P", ngroups=12, exposures=4)
    >>> simulate([plan], Path("sim")).files  # doctest: +SKIP
    """
    require_one_detector_each(plans)
    darks, crds_path = out / "darks", out / "crds_cache"
    if any(darks.glob("*.fits")):
        raise BadInput("out", f"{darks} already holds exposures; give an empty folder, or empty this one")
    folder = references_folder(crds_path)
    for subfolder in (darks, folder):
        subfolder.mkdir(parents=True, exist_ok=True)

    total = sum(plan.exposures for plan in plans)
    done = 0
    files: list[Path] = []
    configurations: list[ConfigurationTruth] = []
    references: dict[str, dict[tuple[str, str], str]] = {reftype: {} for reftype in REFTYPES}
    readnoise: dict[tuple[str, str], NDArray[np.float32]] = {}
    clock = Time(_START, scale="utc", format="isot", precision=3)
    for observation, plan in enumerate(plans, start=1):
        where = f"{plan.detector} {plan.subarray}"
        progress(done, total, f"{where}: expected noise")
        if plan.start is not None:
            clock = Time(plan.start, scale="utc", format="isot", precision=3)
        pixels = simulated_pixels(plan, real_references)
        place = (plan.detector, plan.subarray)
        if place not in readnoise:
            readnoise[place] = _reference_noise(plan, pixels)
            for reftype, path in write_references(plan, pixels, readnoise[place], folder).items():
                references[reftype][place] = path.name
        noise = expected_noise(plan, pixels, plan.exposures * plan.nints, _generator(plan, observation, 0))
        false = false_positives(plan.ngroups, plan.nints, round(noise.cds.value, 1))
        sigma = np.sqrt(
            (readnoise[place] * pixels.gain) ** 2 / plan.nframes + pixels.rate * np.float32(plan.tgroup)
        )
        starts = []
        for _ in range(plan.exposures):
            starts.append(clock)
            clock = clock + TimeDelta(plan.exposure_seconds + _OVERHEAD, format="sec")
        exposures = []
        write = partial(_write_exposure, plan, observation, darks, pixels, sigma, false)
        with ThreadPoolExecutor(min(_AT_ONCE, processors(), plan.exposures)) as threads:
            for result in threads.map(write, range(1, plan.exposures + 1), starts):
                exposures.append(result)
                done += 1
                progress(done, total, f"{where}: {len(exposures)} of {plan.exposures} exposures")
        files += [darks / exposure.file for exposure, _ in exposures]
        header, _ = exposure_headers(plan, observation, 1, starts[0])
        key = ConfigurationKey.from_header(header, str(files[-1]))
        configurations.append(_configuration_truth(plan, key, pixels, noise, false, exposures))
        clock = clock + TimeDelta(_RECONFIGURATION, format="sec")
    write_cache(crds_path, references, USEAFTER)
    truth = Truth(version=SIMULATION_VERSION, plans=_as_records(plans), configurations=configurations)
    truth_path = out / "truth.json"
    truth_path.write_text(truth.model_dump_json(indent=1))
    progress(total, total, "done")
    return SimulationResult(files, truth_path, crds_path, truth)


def holds_simulation(plans: Sequence[SimulationPlan], out: Path) -> bool:
    """Return whether `out` holds what `simulate` would make of these plans today, complete."""
    try:
        truth = Truth.model_validate_json((out / "truth.json").read_bytes())
    except (OSError, ValidationError):
        return False
    # Written last, so that all files were there once; somebody may have removed some since.
    files = [exposure.file for each in truth.configurations for exposure in each.exposures]
    return (
        truth.version == SIMULATION_VERSION
        and truth.plans == _as_records(plans)
        and all((out / "darks" / name).is_file() for name in files)
    )


def _as_records(plans: Sequence[SimulationPlan]) -> list[dict[str, Any]]:
    return [asdict(plan) for plan in plans]


def simulated_pixels(plan: SimulationPlan, real_references: Path | None = None) -> SimulatedPixels:
    """Return the pixels of the plan's subarray, with real defects where `real_references` has them."""
    geometry = plan.geometry
    real = read_real_maps(real_references, plan.detector)
    return draw_pixels(
        plan.device,
        slice(geometry.substrt2 - 1, geometry.substrt2 - 1 + geometry.subsize2),
        slice(geometry.substrt1 - 1, geometry.substrt1 - 1 + geometry.subsize1),
        plan.seed,
        dead_map=real.dead,
        noise_map=real.read_noise,
    )


def _write_exposure(
    plan: SimulationPlan,
    observation: int,
    folder: Path,
    pixels: SimulatedPixels,
    sigma: NDArray[np.float32],
    false: FalsePositives,
    exposure: int,
    start: Time,
) -> tuple[ExposureTruth, JumpTotals]:
    tally = JumpTally(pixels.science & ~pixels.dead, sigma, plan.ngroups, plan.nints, false)
    rng = _generator(plan, observation, exposure)
    counts = _Counts()
    path = folder / exposure_name(plan, observation, exposure)
    primary, science = exposure_headers(plan, observation, exposure, start)
    write_uncal(path, primary, science, _counted_groups(plan, pixels, rng, tally, counts))
    return _exposure_truth(plan, path, start, counts, tally.totals, false), tally.totals


@dataclass
class _Counts:
    hits: int = 0
    saturated: int = 0


def _counted_groups(
    plan: SimulationPlan,
    pixels: SimulatedPixels,
    rng: np.random.Generator,
    tally: JumpTally,
    counts: _Counts,
) -> Iterator[NDArray[np.uint16]]:
    for group in expose(plan, pixels, rng):
        counts.hits += group.hits
        tally.add(group.group, group.deposit, group.saturated)
        if group.group == plan.ngroups - 1:
            tally.close()
            counts.saturated += int(pixels.science.ravel()[group.saturated].sum())
        yield group.data


def _generator(plan: SimulationPlan, observation: int, exposure: int) -> np.random.Generator:
    # Exposure 0 is the prediction of noise. The numbers of an exposure depend on its own configuration alone.
    name = f"{plan.detector} {plan.subarray} {plan.readpatt} {plan.ngroups} {plan.outputs}"
    return np.random.default_rng([plan.seed, zlib.crc32(name.encode()), observation, exposure])


def _reference_noise(plan: SimulationPlan, pixels: SimulatedPixels) -> NDArray[np.float32]:
    # READNOISE is that of single frames, whatever the pattern; a few of them show how much 1/f noise is left.
    frames = SimulationPlan(
        plan.detector, plan.subarray, "RAPID", ngroups=4, noutputs=plan.outputs, seed=plan.seed
    )
    noise = expected_noise(frames, pixels, 1, np.random.default_rng([plan.seed, 0]))
    return cds_noise_dn(pixels, noise.one_over_f_cds_variance)


def _exposure_truth(
    plan: SimulationPlan, path: Path, start: Time, counts: _Counts, totals: JumpTotals, false: FalsePositives
) -> ExposureTruth:
    return ExposureTruth(
        file=path.name,
        id=path.name.removesuffix("_uncal.fits"),
        start=start.isot,
        integrations=plan.nints,
        hits=counts.hits,
        snowballs=plan.snowballs,
        jump_flags=_expectation(totals.flags, totals.flags_variance, totals.false_flags, false),
        jump_pixels=_expectation(totals.pixels, totals.pixels_variance, totals.false_pixels, false),
        false_positive_flags=totals.false_flags,
        pixels_above_4_sigma=totals.above_threshold,
        saturated_pixels=counts.saturated,
    )


def _expectation(
    value: float, variance: float, by_noise: float, false: FalsePositives, scale: float = 1.0
) -> Expectation:
    sigma = math.sqrt(variance + (by_noise * false.relative_error) ** 2)
    return Expectation(value=value * scale, sigma=sigma * scale)


def _configuration_truth(
    plan: SimulationPlan,
    key: ConfigurationKey,
    pixels: SimulatedPixels,
    noise: ExpectedNoise,
    false: FalsePositives,
    exposures: list[tuple[ExposureTruth, JumpTotals]],
) -> ConfigurationTruth:
    tallies = [totals for _, totals in exposures]
    ramps = plan.exposures * plan.nints
    science = int(pixels.science.sum())
    hits = sum(exposure.hits for exposure, _ in exposures)
    collecting = int((pixels.science & ~pixels.dead).sum())
    exposed = collecting * (PIXEL_PITCH_UM * 1e-4) ** 2 * plan.integration_time * ramps
    quiet = pixels.science & ~pixels.dead & ~pixels.hot
    warm_excess = float(np.mean(pixels.rate[quiet])) - pixels.bulk_rate
    false_flags = sum(tally.false_flags for tally in tallies)
    return ConfigurationTruth(
        configuration=key.slug,
        key=key,
        ramps=ramps,
        group_time=plan.tgroup,
        gain=pixels.gain,
        ktc_e=pixels.ktc,
        amplifiers=plan.outputs,
        science_pixels=science,
        dead_pixels=int(pixels.dead.sum()),
        hot_pixels=int(pixels.hot.sum()),
        warm_pixels=int(pixels.warm.sum()),
        dark_current_e_per_ks=pixels.bulk_rate * 1000,
        dark_current_sigma_e_per_ks=abs(warm_excess) * 500,
        read_noise_e=float(np.median(pixels.white_noise[pixels.science])),
        cds_noise_e=_as_expectation(noise.cds),
        cds_noise_median_removed_e=_as_expectation(noise.cds_median_removed),
        spatial_effective_noise_e=_as_expectation(noise.spatial),
        temporal_effective_noise_e=_as_expectation(noise.temporal),
        scene=plan.scene,
        hits=hits,
        hits_per_cm2_s=hits / exposed,
        hit_rate_asked=plan.hit_rate,
        jump_flags_per_ramp=_expectation(
            sum(tally.flags for tally in tallies),
            sum(tally.flags_variance for tally in tallies),
            false_flags,
            false,
            1 / ramps,
        ),
        jump_pixel_percent=_expectation(
            sum(tally.pixels for tally in tallies),
            sum(tally.pixels_variance for tally in tallies),
            sum(tally.false_pixels for tally in tallies),
            false,
            100 / (ramps * science),
        ),
        false_positive_flags_per_ramp=false_flags / ramps,
        threshold_sigma=float(
            threshold(plan.ngroups, plan.nints, np.full(1, noise.cds.value, np.float32))[0]
        ),
        exposures=[exposure for exposure, _ in exposures],
    )


def _as_expectation(predicted: Value) -> Expectation:
    return Expectation(value=predicted.value, sigma=predicted.error)
