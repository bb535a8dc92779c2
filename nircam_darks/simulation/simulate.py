"""nircam-darks simulate: darks that look real, the truth about them, and the references they need.

``DIR/darks/*_uncal.fits`` are level-1b exposures with PEDIGREE = SIMULATION in the primary header,
``DIR/truth.json`` is a `services.simulation.truth.Truth`, and ``DIR/crds_cache`` is a complete CRDS
cache: with `environment` set before jwst is imported, the pipeline needs no network and no override.

Not simulated: persistence, settling after a reset, random telegraph noise, charge that a pixel gives to
the next one read, brighter-fatter, temperature. Dark rates are constant, with Poisson noise.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.time import Time, TimeDelta
from numpy.typing import NDArray

from services.simulation.crds_cache import environment, references_folder, write_cache
from services.simulation.detector import Pixels, draw_pixels
from services.simulation.exposure import expose
from services.simulation.files import read_real_maps, write_uncal
from services.simulation.headers import exposure_headers, exposure_name
from services.simulation.jumps import FalsePositives, JumpTally, false_positives, threshold
from services.simulation.plan import SimulationPlan, require_one_detector_each
from services.simulation.references import REFTYPES, USEAFTER, cds_noise_dn, write_references
from services.simulation.rehearsal import ExpectedNoise, Predicted, expected_noise
from services.simulation.truth import ConfigurationTruth, Expectation, ExposureTruth, Truth
from shared.configuration import ConfigurationKey
from shared.detectors import PIXEL_PITCH_UM
from shared.errors import BadInput

__all__ = ["SimulationPlan", "SimulationResult", "environment", "simulate"]

#: ``progress(done, total, what)``: exposures done.
Progress = Callable[[int, int, str], None]

#: Start of the first exposure where a plan does not say one: about when NRC-09 was taken.
_START = "2022-04-18T00:00:00"
#: Between two exposures and between two configurations, s: about what NIRCam's overheads are.
_OVERHEAD, _RECONFIGURATION = 30.0, 120.0


@dataclass(frozen=True)
class SimulationResult:
    """What `simulate` wrote.

    Attributes
    ----------
    files : list of Path
        In time order.
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
    progress: Progress = _silent,
    real_references: Path | None = None,
) -> SimulationResult:
    """Simulate exposures one after another, in the order of the plans.

    Parameters
    ----------
    plans : sequence of SimulationPlan
        One a configuration.
    out : Path
        Folder; made if need be.
    progress : callable
        Called as ``progress(done, total, what)`` with exposures done.
    real_references : Path, optional
        Folder with real CRDS references; a MASK or READNOISE of a simulated detector in it decides which
        pixels are dead, and how the read noise is spread over them.

    Raises
    ------
    BadInput
        If the plans contradict each other, or `out` holds a simulation already.
    """
    require_one_detector_each(plans)
    darks, crds_path = out / "darks", out / "crds_cache"
    if any(darks.glob("*.fits")):
        raise BadInput("out", f"{darks} holds exposures already; give an empty folder, or empty this one")
    folder = references_folder(crds_path)
    for wanted in (darks, folder):
        wanted.mkdir(parents=True, exist_ok=True)

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
        pixels = pixels_of(plan, real_references)
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
        exposures = []
        for exposure in range(1, plan.exposures + 1):
            progress(done, total, f"{where}: exposure {exposure} of {plan.exposures}")
            tally = JumpTally(pixels.science & ~pixels.dead, sigma, plan.ngroups, plan.nints, false)
            rng = _generator(plan, observation, exposure)
            counts = _Counts()
            path = darks / exposure_name(plan, observation, exposure)
            primary, science = exposure_headers(plan, observation, exposure, clock)
            write_uncal(path, primary, science, _watched(plan, pixels, rng, tally, counts))
            exposures.append((_exposure_truth(plan, path, clock, counts, tally, false), tally))
            files.append(path)
            clock = clock + TimeDelta(plan.exposure_seconds + _OVERHEAD, format="sec")
            done += 1
        key = ConfigurationKey.from_header(primary, str(path))
        configurations.append(_configuration_truth(plan, key, pixels, noise, false, exposures))
        clock = clock + TimeDelta(_RECONFIGURATION, format="sec")
    write_cache(crds_path, references, USEAFTER)
    truth = Truth(configurations=configurations)
    truth_path = out / "truth.json"
    truth_path.write_text(truth.model_dump_json(indent=1))
    progress(total, total, "done")
    return SimulationResult(files, truth_path, crds_path, truth)


def pixels_of(plan: SimulationPlan, real_references: Path | None = None) -> Pixels:
    """Return the pixels of the plan's subarray."""
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


@dataclass
class _Counts:
    hits: int = 0
    saturated: int = 0


def _watched(
    plan: SimulationPlan,
    pixels: Pixels,
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
    # Exposure 0 is the rehearsal. An exposure's numbers hang on its own configuration alone.
    name = f"{plan.detector} {plan.subarray} {plan.readpatt} {plan.ngroups} {plan.outputs}"
    return np.random.default_rng([plan.seed, zlib.crc32(name.encode()), observation, exposure])


def _reference_noise(plan: SimulationPlan, pixels: Pixels) -> NDArray[np.float32]:
    # READNOISE speaks of single frames, whatever the pattern; a few of them say how much 1/f noise is left.
    frames = SimulationPlan(
        plan.detector, plan.subarray, "RAPID", ngroups=4, noutputs=plan.outputs, seed=plan.seed
    )
    noise = expected_noise(frames, pixels, 1, np.random.default_rng([plan.seed, 0]))
    return cds_noise_dn(pixels, noise.pink_cds_variance)


def _exposure_truth(
    plan: SimulationPlan, path: Path, start: Time, counts: _Counts, tally: JumpTally, false: FalsePositives
) -> ExposureTruth:
    return ExposureTruth(
        file=path.name,
        id=path.name.removesuffix("_uncal.fits"),
        start=start.isot,
        integrations=plan.nints,
        hits=counts.hits,
        snowballs=plan.snowballs,
        jump_flags=_expectation(tally.flags, tally.flags_variance, tally.false_flags, false),
        jump_pixels=_expectation(tally.pixels, tally.pixels_variance, tally.false_pixels, false),
        false_positive_flags=tally.false_flags,
        pixels_above_4_sigma=tally.above_threshold,
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
    pixels: Pixels,
    noise: ExpectedNoise,
    false: FalsePositives,
    exposures: list[tuple[ExposureTruth, JumpTally]],
) -> ConfigurationTruth:
    tallies = [tally for _, tally in exposures]
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
        cds_noise_e=_said(noise.cds),
        cds_noise_median_removed_e=_said(noise.cds_median_removed),
        spatial_effective_noise_e=_said(noise.spatial),
        temporal_effective_noise_e=_said(noise.temporal),
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


def _said(predicted: Predicted) -> Expectation:
    return Expectation(value=predicted.value, sigma=predicted.sigma)
