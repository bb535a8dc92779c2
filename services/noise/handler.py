"""Noise: ``exposure.ingested`` and ``set.ready`` -> ``noise.measured``."""

import io
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from pydantic import TypeAdapter

from services.noise.effective import emulate
from services.noise.effective.effective_noise import temporal_refusal
from services.noise.effective.temporal import temporal_sigmas
from services.noise.exposure import measure_exposure, summarize_exposure
from services.noise.exposure_set import measure_first_pass
from services.noise.jumps.counts import jump_refusal
from services.noise.jumps.rates import set_hits
from services.noise.memory_plan import plan_noise, resident_memory
from services.noise.noise_budget import noise_spectrum
from services.noise.planes import integrations_in_use
from services.noise.read_noise.one_over_f import OneOverF
from services.noise.set_summary import SetMeasurements, summarize_set
from services.noise.stability.outlying import outlying_integrations
from shared.catalog.exposure_sets import in_time_order
from shared.catalog.products import product_at
from shared.contracts.messages import Envelope, ExposureIngested, NoiseMeasured, SetMember, SetReady
from shared.errors import BadMessage, PermanentError
from shared.nircam.pedigree import pedigree_of_data
from shared.products.figures import figures_of, headline_of
from shared.products.jumps import JumpEvents
from shared.products.noise import (
    CDS_MAP,
    EMULATED_NOISE,
    NOISE_SPECTRUM,
    PIXEL_RAMPS,
    EmulatedPattern,
    ExposureNoiseResults,
    PixelRamp,
    SetNoiseResults,
)
from shared.products.ramp import member_inputs
from shared.products.reference import LeftOutExposure
from shared.ramps.members import open_member
from shared.ramps.ramp import Ramp
from shared.ramps.window_reader import Integration
from shared.runtime.handler import Outgoing, StageContext, outbox
from shared.statistics.verdicts import not_measured
from shared.store.manifest import BuiltProduct, Draft, Manifest, ProductSpec, get_or_build

ALGORITHM_VERSION = "4"
_EXTENSIONS = ("SCI", "GROUPDQ", "PIXELDQ")
_VERSIONS = {"noise": ALGORITHM_VERSION}


def handle(message: Envelope, context: StageContext) -> list[Outgoing]:
    """Measure the noise of an exposure or of a set, unless the store has the result already.

    Parameters
    ----------
    message : Envelope
        `exposure.ingested` or `set.ready`.
    context : StageContext

    Returns
    -------
    list of Outgoing
        `noise.measured`.

    Raises
    ------
    PermanentError
        If no science pixel or no integration is usable, a chosen pixel is outside the exposure, or a ramp is
        missing from the store or does not have its configuration's shape.
    EnvironmentFault
        If the memory limit is too small for the configuration.
    BadMessage
        If noise does not handle this message.
    """
    content = message.content
    if isinstance(content, ExposureIngested):
        return outbox(_exposure_noise(content, message, context))
    if isinstance(content, SetReady):
        return outbox(_set_noise(content, message, context))
    raise BadMessage(
        f"message {message.id}: noise does not handle {message.schema_name}; bind its queue as "
        "shared/contracts/routing.py says"
    )


def _exposure_noise(ingested: ExposureIngested, message: Envelope, context: StageContext) -> Manifest:
    member, store = ingested.member, context.store
    spec = ProductSpec(
        "exposure-noise",
        f"noise/{ingested.configuration}/{member.exposure_id}",
        member_inputs([member], store),
        {"gain": ingested.gain, "pixels": context.settings.pixels},
        _VERSIONS,
    )

    def build(draft: Draft) -> BuiltProduct:
        start = time.perf_counter()
        with open_member(store, member, ingested.key, _EXTENSIONS) as ramp:
            tick = _ticker(context, member.integrations * ingested.key.ngroups, "groups")
            noise = measure_exposure(ramp, ingested.key, context.settings.pixels, tick)
        results = summarize_exposure(ingested, noise)
        figures = figures_of(results)
        draft.add(PIXEL_RAMPS, TypeAdapter(list[PixelRamp]).dump_json(noise.ramps))
        measured = NoiseMeasured(
            configuration=ingested.configuration,
            manifest=spec.manifest_key,
            exposure_id=member.exposure_id,
            headline={"hits_per_cm2_s": None, **headline_of(figures)},
            verdict=results.jump_pixels_judged.verdict,
            figures=figures,
        )
        return BuiltProduct(results, measured, {"measure": time.perf_counter() - start})

    return get_or_build(store, spec, build, cause=message)


def _set_noise(ready: SetReady, message: Envelope, context: StageContext) -> Manifest:
    store, key, patterns = context.store, ready.key, context.settings.emulate
    members = in_time_order(ready.members)
    parameters: dict[str, Any] = {"gain": ready.gain}
    if patterns:
        parameters["emulate"] = patterns
    spec = ProductSpec(
        "set-noise",
        f"noise/{ready.configuration}/{ready.set_id}",
        member_inputs(members, store),
        parameters,
        _VERSIONS,
    )

    def build(draft: Draft) -> BuiltProduct:
        timings: dict[str, float] = {}
        part = _part_in_use(ready, members, context)
        results, cds_map, one_over_f, emulated = _measure(ready, members, part, context, timings)
        hits = set_hits(part.events)
        refusal = jump_refusal(key.ngroups)
        if hits is None and refusal:
            hits = not_measured(refusal)
        results = results.model_copy(update={"hits_per_cm2_s": hits})
        figures = figures_of(results)
        pedigree = pedigree_of_data(results.simulated, max(member.end_mjd for member in ready.members))
        draft.add(CDS_MAP, _cds_file(cds_map, results, pedigree))
        if one_over_f is not None:
            spectrum = noise_spectrum(one_over_f, key, ready.gain)
            draft.add(NOISE_SPECTRUM, spectrum.model_dump_json().encode())
        if patterns:
            draft.add(EMULATED_NOISE, TypeAdapter(list[EmulatedPattern]).dump_json(emulated))
        measured = NoiseMeasured(
            configuration=ready.configuration,
            manifest=spec.manifest_key,
            set_id=ready.set_id,
            headline={
                "hits_per_cm2_s": None,
                "hits_per_cm2_s_error": None if hits is None else hits.error,
                **headline_of(figures),
            },
            verdict=results.verdict,
            figures=figures,
        )
        return BuiltProduct(results, measured, timings)

    return get_or_build(store, spec, build, cause=message)


@dataclass(frozen=True)
class _Part:
    """The part of a set that is measured.

    Attributes
    ----------
    in_use : list of list of int
        Integrations of each member, 0-based.
    left_out : list of LeftOutExposure
        What was never read, and what stands apart.
    events : list of JumpEvents
        Of the exposures in use.
    """

    in_use: list[list[int]]
    left_out: list[LeftOutExposure]
    events: list[JumpEvents]


def _part_in_use(ready: SetReady, members: list[SetMember], context: StageContext) -> _Part:
    """Return which exposures and integrations of a set are measured: those that were read and belong to it.

    That is judged by the exposures' own products. An exposure that is not measured yet is measured now, as
    its own message asks: the results of a set must not depend on the order of the messages.
    """
    in_use: list[list[int]] = []
    left_out: list[LeftOutExposure] = []
    for member in members:
        with open_member(context.store, member, ready.key, _EXTENSIONS) as ramp:
            in_use.append(integrations_in_use(ramp))
        lost = [n for n in range(member.integrations) if n not in in_use[-1]]
        numbers = lost if in_use[-1] else [None]
        left_out += [
            LeftOutExposure(exposure=member.exposure_id, integration=n, quantity="telemetry") for n in numbers
        ]
    if not any(in_use):
        raise PermanentError(
            f"set {ready.set_id} of {ready.configuration}: GROUPDQ marks every integration DO_NOT_USE, so "
            "there is no noise to measure; the messages of ingest say what was never read",
            keyword="GROUPDQ",
        )
    read = [member for member, integrations in zip(members, in_use, strict=True) if integrations]
    exposures = _exposure_results(read, context)
    if len(exposures) == len(read):
        apart = outlying_integrations(exposures, ready.gain, ready.key.group_time)
        gone = {(entry.exposure, entry.integration) for entry in apart if entry.left_out}
        left_out += apart
        in_use = [
            [n for n in integrations if not {(member.exposure_id, n), (member.exposure_id, None)} & gone]
            for member, integrations in zip(members, in_use, strict=True)
        ]
    used = {member.exposure_id for member, n in zip(members, in_use, strict=True) if n}
    events = [each.events for each in exposures if each.events is not None and each.exposure_id in used]
    return _Part(in_use, left_out, events)


def _exposure_results(members: list[SetMember], context: StageContext) -> list[ExposureNoiseResults]:
    """Return the noise products of exposures, made now where they are not there yet."""
    results = []
    for member in members:
        ramp = product_at(context.store, member.manifest)
        for message in ramp.manifest.messages if ramp is not None else []:
            if isinstance(message.content, ExposureIngested):
                measured = _exposure_noise(message.content, message, context)
                results.append(ExposureNoiseResults.model_validate(measured.results))
    return results


def _measure(
    ready: SetReady,
    members: list[SetMember],
    part: _Part,
    context: StageContext,
    timings: dict[str, float],
) -> tuple[SetNoiseResults, NDArray[np.float32], OneOverF | None, list[EmulatedPattern]]:
    key, patterns, in_use = ready.key, context.settings.emulate, part.in_use
    count = sum(map(len, in_use))

    def open_ramp(exposure: int) -> Ramp:
        return open_member(context.store, members[exposure], key, _EXTENSIONS)

    emulations = emulate.emulations(key, patterns)
    windows = plan_noise(
        key,
        count,
        context.settings.max_memory,
        resident_memory(),
        emulate.PER_PIXEL * len(emulations),
    )
    with_temporal = key.ngroups > 1 and temporal_refusal(count) is None
    start = time.perf_counter()
    ticker = _ticker(context, count * key.ngroups, "groups")
    first_pass = measure_first_pass(open_ramp, in_use, key, ticker, emulations)
    timings["planes"] = time.perf_counter() - start
    one_over_f = first_pass.spectra.fit()
    cds_map = np.where(first_pass.pixels.sky, first_pass.pairs.per_pixel() * np.float32(ready.gain), np.nan)
    temporal = None
    if with_temporal:
        start = time.perf_counter()
        tick = _ticker(context, windows.windows, "windows of all ramps")
        with ExitStack() as stack:
            folder = stack.enter_context(TemporaryDirectory(dir=context.store.scratch(), prefix="noise-"))
            opened = [stack.enter_context(open_ramp(n)) for n in range(len(members))]
            ramps = [
                Integration(ramp, n)
                for ramp, integrations in zip(opened, in_use, strict=True)
                for n in integrations
            ]
            temporal = temporal_sigmas(ramps, key, windows, Path(folder), tick)
        timings["ramp to ramp"] = time.perf_counter() - start
    results = summarize_set(
        SetMeasurements(ready, members, in_use, first_pass, temporal, one_over_f, part.left_out)
    )
    emulated = [emulation.result(ready.gain, first_pass.active_pixels) for emulation in emulations]
    emulated += emulate.refused_patterns(key, patterns)
    return results, cds_map.astype(np.float32), one_over_f, emulated


def _ticker(context: StageContext, total: int, what: str) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        context.progress(done, total, what)

    return tick


def _cds_file(noise: NDArray[np.float32], results: SetNoiseResults, pedigree: str) -> bytes:
    key = results.key
    image = fits.ImageHDU(noise, name="CDSNOISE")
    image.header["BUNIT"] = ("electron", "CDS noise: std (ddof 1) over pairs of groups")
    primary = fits.PrimaryHDU()
    primary.header["TELESCOP"] = "JWST"
    primary.header["INSTRUME"] = "NIRCAM"
    primary.header["PEDIGREE"] = pedigree
    for keyword, value in (
        ("DETECTOR", key.detector),
        ("SUBARRAY", key.subarray),
        ("SUBSTRT1", key.substrt1),
        ("SUBSTRT2", key.substrt2),
        ("SUBSIZE1", key.subsize1),
        ("SUBSIZE2", key.subsize2),
        ("READPATT", key.readpatt),
        ("NGROUPS", key.ngroups),
    ):
        primary.header[keyword] = value
    primary.header["GAIN"] = (results.gain, "[electron/DN] used")
    primary.header["NRAMPS"] = (results.ramps, "Integrations of the set")
    written = io.BytesIO()
    fits.HDUList([primary, image]).writeto(written)
    return written.getvalue()
