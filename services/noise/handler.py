"""``exposure.ingested`` and ``set.ready`` -> ``noise.measured``."""

import io
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from pydantic import TypeAdapter

from services.noise import emulate
from services.noise.effective_noise import temporal_refusal
from services.noise.emulated_products import EMULATED_NOISE, EmulatedPattern
from services.noise.exposure_facts import exposure_facts
from services.noise.facts import set_facts
from services.noise.jump_products import JumpEvents
from services.noise.measure_exposure import measure_exposure
from services.noise.measure_set import measure_planes
from services.noise.memory import plan, resident
from services.noise.noise_parts import noise_spectrum
from services.noise.one_over_f import OneOverF
from services.noise.products import (
    CDS_MAP,
    NOISE_SPECTRUM,
    PIXEL_RAMPS,
    ExposureNoiseFacts,
    PixelRamp,
    SetNoiseFacts,
)
from services.noise.set_hits import set_hits
from services.noise.temporal import temporal_sigmas, windows_of
from shared.configuration import ConfigurationKey
from shared.errors import BadMessage, PermanentError
from shared.messages import Envelope, ExposureIngested, NoiseMeasured, SetMember, SetReady
from shared.ramps import Ramp
from shared.stage import Outgoing, StageContext
from shared.store.base import Store
from shared.store.manifest import MANIFEST, Draft, InputDigest, Manifest, find, product_key

ALGORITHM_VERSION = "3"
_VERSIONS = {"noise": ALGORITHM_VERSION}


def handle(message: Envelope, context: StageContext) -> list[Outgoing]:
    """Measure the noise of an exposure or of a set, or find it measured.

    Raises
    ------
    PermanentError
        If no science pixel is usable, a chosen pixel is outside the exposure, the ramps have a single
        group, or a ramp is not in the store or not of its configuration's shape.
    EnvironmentFault
        If the memory bound is too small for the configuration.
    BadMessage
        If the message is for another stage.
    """
    content = message.content
    if isinstance(content, ExposureIngested):
        return _outgoing(_exposure(content, message, context))
    if isinstance(content, SetReady):
        return _outgoing(_set(content, message, context))
    raise BadMessage(
        f"message {message.id}: noise does not handle {message.schema_name}; bind its queue as "
        "shared/topology.py says"
    )


def _exposure(ingested: ExposureIngested, message: Envelope, context: StageContext) -> Manifest:
    member, store = ingested.member, context.store
    inputs = _inputs([member], store)
    parameters = {"gain": ingested.gain, "pixels": context.settings.pixels}
    identity = product_key(inputs, parameters, _VERSIONS)
    path = f"noise/{ingested.configuration}/{member.exposure_id}/{identity}"
    manifest = find(store, path)
    if manifest is None:
        start = time.perf_counter()
        with _open(member, ingested.key, store) as ramp:
            tick = _ticker(context, member.integrations * ingested.key.ngroups, "groups")
            noise = measure_exposure(ramp, ingested.key, context.settings.pixels, tick)
        facts = exposure_facts(ingested, noise)
        draft = Draft(store, "exposure-noise", path, inputs, parameters, _VERSIONS)
        draft.add(PIXEL_RAMPS, TypeAdapter(list[PixelRamp]).dump_json(noise.ramps))
        said = NoiseMeasured(
            configuration=ingested.configuration,
            manifest=f"{path}/{MANIFEST}",
            exposure_id=member.exposure_id,
            headline={
                "jump_flags": facts.jump_flags,
                "jump_pixel_percent": facts.jump_pixel_percent,
                "science_jump_pixel_percent": facts.science_jump_pixel_percent,
                "hits_per_cm2_s": None if facts.events is None else facts.events.hits_per_cm2_s,
            },
            verdict=facts.jump_pixels_judged.verdict,
        )
        outbox = [Envelope.of(said, identity=identity, cause=message)]
        manifest = draft.commit(facts, outbox, {"measure": time.perf_counter() - start})
    return manifest


def _set(ready: SetReady, message: Envelope, context: StageContext) -> Manifest:
    store, key, patterns = context.store, ready.key, context.settings.emulate
    # Sums of floating point depend on their order; members may come in any.
    members = sorted(ready.members, key=lambda member: (member.start_mjd, member.exposure_id))
    inputs = _inputs(members, store)
    parameters: dict[str, Any] = {"gain": ready.gain}
    if patterns:
        parameters["emulate"] = patterns
    identity = product_key(inputs, parameters, _VERSIONS)
    path = f"noise/{ready.configuration}/{ready.set_id}/{identity}"
    manifest = find(store, path)
    if manifest is None:
        if key.ngroups < 2:
            raise PermanentError(
                f"set {ready.set_id} of {ready.configuration}: NGROUPS = {key.ngroups}; noise needs "
                "2 groups or more: leave these exposures out"
            )
        timings: dict[str, float] = {}
        facts, cds_map, one_over_f, emulated = _measure(ready, members, context, timings)
        hits = set_hits(_events(members, context))
        facts = facts.model_copy(update={"hits_per_cm2_s": hits})
        draft = Draft(store, "set-noise", path, inputs, parameters, _VERSIONS)
        draft.add(CDS_MAP, _cds_file(cds_map, facts))
        if one_over_f is not None:
            spectrum = noise_spectrum(one_over_f, key, ready.gain)
            draft.add(NOISE_SPECTRUM, spectrum.model_dump_json().encode())
        if patterns:
            draft.add(EMULATED_NOISE, TypeAdapter(list[EmulatedPattern]).dump_json(emulated))
        said = NoiseMeasured(
            configuration=ready.configuration,
            manifest=f"{path}/{MANIFEST}",
            set_id=ready.set_id,
            headline={
                "cds_noise_e": facts.cds_noise.value,
                "spatial_effective_noise_e": facts.spatial_effective_noise.value,
                "temporal_effective_noise_e": facts.temporal_effective_noise.value,
                "jump_flags": facts.jump_flags,
                "jump_pixel_percent": facts.jump_pixel_percent.value,
                "hits_per_cm2_s": None if hits is None else hits.value,
                "hits_per_cm2_s_error": None if hits is None else hits.error,
            },
            verdict=facts.verdict,
        )
        manifest = draft.commit(facts, [Envelope.of(said, identity=identity, cause=message)], timings)
    return manifest


def _events(members: list[SetMember], context: StageContext) -> list[JumpEvents]:
    """Return what hit each exposure of a set, from the exposures' own products.

    One that is not measured yet is measured now, as its own message asks for: what a set says must not
    depend on which message came first.
    """
    found = []
    for member in members:
        try:
            ramp = Manifest.model_validate_json(context.store.get(member.manifest))
        except KeyError:
            continue
        for message in ramp.messages:
            if isinstance(message.content, ExposureIngested):
                facts = ExposureNoiseFacts.model_validate(_exposure(message.content, message, context).facts)
                found += [] if facts.events is None else [facts.events]
    return found


def _measure(
    ready: SetReady, members: list[SetMember], context: StageContext, timings: dict[str, float]
) -> tuple[SetNoiseFacts, NDArray[np.float32], OneOverF | None, list[EmulatedPattern]]:
    key, patterns = ready.key, context.settings.emulate
    integrations = [member.integrations for member in members]
    made = emulate.emulated(key, patterns)
    windows = plan(
        key, sum(integrations), context.settings.max_memory, resident(), emulate.PER_PIXEL * len(made)
    )
    with_temporal = temporal_refusal(sum(integrations)) is None
    groups = sum(integrations) * key.ngroups

    def open_ramp(exposure: int) -> Ramp:
        return _open(members[exposure], key, context.store)

    start = time.perf_counter()
    found = measure_planes(open_ramp, integrations, key, _ticker(context, groups, "groups"), made)
    timings["planes"] = time.perf_counter() - start
    one_over_f = found.spectra.fit()
    cds_map = np.where(found.pixels.sky, found.pairs.per_pixel() * np.float32(ready.gain), np.nan)
    temporal = None
    if with_temporal:
        start = time.perf_counter()
        tick = _ticker(context, windows_of(key, windows), "windows of all ramps")
        with ExitStack() as stack:
            folder = stack.enter_context(TemporaryDirectory(dir=context.store.scratch(), prefix="noise-"))
            opened = [stack.enter_context(open_ramp(n)) for n in range(len(members))]
            ramps = [
                (ramp, n) for ramp, count in zip(opened, integrations, strict=True) for n in range(count)
            ]
            temporal = temporal_sigmas(ramps, key, windows, Path(folder), tick)
        timings["ramp to ramp"] = time.perf_counter() - start
    facts = set_facts(ready, members, found, temporal, one_over_f)
    emulated = [one.facts(ready.gain, found.active_pixels) for one in made] + emulate.refused(key, patterns)
    return facts, cds_map.astype(np.float32), one_over_f, emulated


def _inputs(members: list[SetMember], store: Store) -> list[InputDigest]:
    return [
        InputDigest(
            role="ramp", uri=store.uri(member.ramp.key), sha256=member.ramp.sha256, product=member.product
        )
        for member in members
    ]


def _outgoing(manifest: Manifest) -> list[Outgoing]:
    return [Outgoing(envelope) for envelope in manifest.messages]


def _open(member: SetMember, key: ConfigurationKey, store: Store) -> Ramp:
    where = f"{member.exposure_id} ({member.ramp.key})"
    try:
        ramp = Ramp(store.open(member.ramp.key), where)
    except KeyError as error:
        raise PermanentError(f"{where}: the ramp is not in the store; ingest the exposure again") from error
    wanted = (member.integrations, key.ngroups, key.subsize2, key.subsize1)
    for extension, shape in (("SCI", wanted), ("GROUPDQ", wanted), ("PIXELDQ", wanted[2:])):
        if ramp.shape(extension) != shape:
            found = ramp.shape(extension)
            ramp.close()
            raise PermanentError(
                f"{where}: {extension} has shape {found}, but NINTS, NGROUPS, SUBSIZE2, SUBSIZE1 say "
                f"{shape}; ingest the exposure again"
            )
    return ramp


def _ticker(context: StageContext, total: int, what: str) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        context.progress(done, total, what)

    return tick


def _cds_file(noise: NDArray[np.float32], facts: SetNoiseFacts) -> bytes:
    key = facts.key
    image = fits.ImageHDU(noise, name="CDSNOISE")
    image.header["BUNIT"] = ("electron", "CDS noise: std (ddof 1) over pairs of groups")
    primary = fits.PrimaryHDU()
    primary.header["TELESCOP"] = "JWST"
    primary.header["INSTRUME"] = "NIRCAM"
    primary.header["PEDIGREE"] = "SIMULATION" if facts.simulated else "INFLIGHT"
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
    primary.header["GAIN"] = (facts.gain, "[electron/DN] used")
    primary.header["NRAMPS"] = (facts.ramps, "Integrations of the set")
    written = io.BytesIO()
    fits.HDUList([primary, image]).writeto(written)
    return written.getvalue()
