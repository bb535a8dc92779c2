"""``set.ready`` -> ``reference.built``: a complete set becomes a dark reference file."""

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from services.darkref import reference_file
from services.darkref.dark_current import DarkCurrent, measure, median_ramps, verdict
from services.darkref.modes import Combiner, combiner
from services.darkref.products import CONTRIBUTIONS, DARK_CURRENT_MAP, INPUT_ROLE, ReferenceFacts
from services.darkref.streaming import CombinedSet, Integration, combine_set
from services.darkref.windows import WindowPlan, plan
from shared.configuration import ConfigurationKey, require_same
from shared.cubes import Cube
from shared.detectors import detectors
from shared.errors import PermanentError
from shared.geometry import amplifiers, science_pixels
from shared.messages import Envelope, ObjectRef, ReferenceBuilt, SetMember, SetReady
from shared.ramps import Ramp
from shared.settings import StageSettings
from shared.stage import Outgoing, StageContext
from shared.store.base import Store
from shared.store.manifest import MANIFEST, Draft, InputDigest, Manifest, find, product_key

ALGORITHM_VERSION = "1"
#: Width of the clip at both ends, in standard deviations: the notebook's.
SIGMA = 3.0


def handle(message: Envelope, context: StageContext) -> list[Outgoing]:
    """Build the dark reference of a complete set, or find it built.

    Raises
    ------
    ConfigurationMismatch
        If the members' configurations differ.
    PermanentError
        If the set has too few integrations, a ramp does not have its configuration's shape, no
        measurement is left anywhere, or the mode is not built.
    """
    ready: SetReady = message.content
    store, settings = context.store, context.settings
    combine = combiner(settings.mode)
    _refuse_small(ready, settings.min_integrations)
    members = sorted(ready.members, key=lambda member: (member.start_mjd, member.exposure_id))
    require_same([(member.exposure_id, _key_of(member, store)) for member in members])

    inputs = [
        InputDigest(
            role=INPUT_ROLE, uri=store.uri(member.ramp.key), sha256=member.ramp.sha256, product=member.product
        )
        for member in members
    ]
    parameters = {
        "mode": settings.mode,
        "sigma": SIGMA,
        "gain": ready.gain,
        "simulated": ready.simulated,
        "author": settings.author,
        "descrip": settings.descrip,
    }
    versions = {"darkref": ALGORITHM_VERSION, "jwst": metadata.version("jwst")}
    identity = product_key(inputs, parameters, versions)
    path = f"darkref/{ready.configuration}/{ready.set_id}/{identity}"
    manifest = find(store, path)
    if manifest is None:
        draft = Draft(store, "reference", path, inputs, parameters, versions)
        manifest = _build(draft, identity, message, members, combine, context)
    return [Outgoing(envelope) for envelope in manifest.messages]


def _build(
    draft: Draft,
    identity: str,
    message: Envelope,
    members: Sequence[SetMember],
    combine: Combiner,
    context: StageContext,
) -> Manifest:
    ready: SetReady = message.content
    store, settings, key = context.store, context.settings, ready.key
    count = sum(member.integrations for member in members)
    windows = plan(
        count,
        key.ngroups,
        key.subsize2,
        key.subsize1,
        settings.max_memory,
        settings.max_equivalent_groups,
    )
    timings: dict[str, float] = {}
    with TemporaryDirectory(dir=store.scratch(), prefix="darkref-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        name = reference_file.file_name(key)
        # All of the file is written at once but for the dark current, which takes the same room in any case.
        places = reference_file.lay_out_dark(scratch / name, key, _describe(ready, members, settings, 0.0))
        nmeas = reference_file.lay_out_contributions(scratch / CONTRIBUTIONS, key)
        combined = CombinedSet(
            sci=stack.enter_context(places["SCI"].cube(scratch / name, np.float32)),
            err=stack.enter_context(places["ERR"].cube(scratch / name, np.float32)),
            nmeas=stack.enter_context(nmeas.cube(scratch / CONTRIBUTIONS, np.uint16)),
            slopes=stack.enter_context(
                Cube(scratch / "slopes.raw", (count, key.subsize2, key.subsize1), np.float32)
            ),
        )
        with _timed(timings, "combine"), _open(members, key, store) as integrations:
            combine_set(integrations, combined, windows, combine, SIGMA, scratch, context.progress)
        if combined.used == 0:
            raise PermanentError(
                f"set {ready.set_id} of {ready.configuration}: all pixels flagged: every pixel of every "
                "integration is hit from its first group on, so no measurement is left; look at GROUPDQ of "
                f"{members[0].exposure_id} (bit 4, JUMP_DET)"
            )
        disk = stack.enter_context(ThreadPoolExecutor(1, "disk"))
        for cube in (combined.sci, combined.nmeas):
            # While the dark current is measured; the store would wait for it otherwise.
            disk.submit(cube.sync)
        with _timed(timings, "dark current"):
            context.progress(0, 1, "measuring the dark current")
            science = science_pixels(key)
            current = measure(
                combined.slope,
                combined.slopes.plane,
                count,
                [partial(combined.sci.plane, group) for group in range(key.ngroups)],
                combined.nmeas.plane(key.ngroups - 1) == count,
                science,
                amplifiers(key),
                ready.gain,
                key.group_time,
            )
            if not (math.isfinite(current.value) and math.isfinite(current.error)):
                raise PermanentError(
                    f"set {ready.set_id} of {ready.configuration}: no science pixel was measured in two "
                    "groups, so there is no dark current to measure; use exposures of more groups, or look "
                    f"at GROUPDQ of {members[0].exposure_id}"
                )
            ramps = median_ramps((combined.sci, combined.err), combined.nmeas, science)
        with _timed(timings, "write"):
            about = _describe(ready, members, settings, current.value)
            reference_file.describe(scratch / name, key, about)
            reference_file.write_dark_current_map(scratch / DARK_CURRENT_MAP, current.image, key)
            entry = draft.add(name, scratch / name)
            draft.add(CONTRIBUTIONS, scratch / CONTRIBUTIONS)
            draft.add(DARK_CURRENT_MAP, scratch / DARK_CURRENT_MAP)
        facts = _facts(ready, members, settings, combined, current, ramps, windows, about.pedigree)
    built = ReferenceBuilt(
        configuration=ready.configuration,
        set_id=ready.set_id,
        reference=ObjectRef(key=entry.key, size=entry.size, sha256=entry.sha256),
        manifest=f"{draft.path}/{MANIFEST}",
        mode=settings.mode,
        dark_current_e_per_ks=facts.dark_current_e_per_ks,
        verdict=facts.verdict,
    )
    return draft.commit(facts, [Envelope.of(built, identity=identity, cause=message)], timings)


def _facts(
    ready: SetReady,
    members: Sequence[SetMember],
    settings: StageSettings,
    combined: CombinedSet,
    current: DarkCurrent,
    ramps: list[list[float]],
    windows: WindowPlan,
    pedigree: str,
) -> ReferenceFacts:
    expected = detectors()[ready.key.detector].expected.dark_current_nrc09
    measured = [
        (rate, mjd)
        for rate, mjd in zip(current.by_integration, _starts(members), strict=True)
        if math.isfinite(rate)
    ]
    return ReferenceFacts(
        configuration=ready.configuration,
        key=ready.key,
        set_id=ready.set_id,
        mode=settings.mode,
        file=reference_file.file_name(ready.key),
        exposures=[member.exposure_id for member in members],
        integrations=len(current.by_integration),
        gain=ready.gain,
        pedigree=pedigree,
        simulated=ready.simulated,
        dark_current_e_per_ks=current.value,
        dark_current_error_e_per_ks=current.error,
        expected_e_per_ks=expected.value,
        expected_sigma_e_per_ks=expected.sigma,
        verdict=verdict(current, expected),
        dark_current_by_integration=[rate for rate, _ in measured],
        integration_mjd=[mjd for _, mjd in measured],
        amplifier_dark_current_e_per_ks=[
            rate if math.isfinite(rate) else None for rate in current.by_amplifier
        ],
        mean_ramp_dn=ramps[0],
        mean_ramp_error_dn=ramps[1],
        group_time=ready.key.group_time,
        hot_pixels=current.hot_pixels,
        unmeasured=combined.unmeasured,
        clipped_fraction=1 - combined.kept / combined.used,
        groups_per_window=windows.groups,
        rows_per_window=windows.rows,
        ramps=[member.ramp.key for member in members],
    )


def _describe(
    ready: SetReady, members: Sequence[SetMember], settings: StageSettings, dark_current: float
) -> reference_file.DarkDescription:
    count = sum(member.integrations for member in members)
    start = members[0].start_mjd
    exposures = [member.exposure_id for member in members]
    return reference_file.DarkDescription(
        pedigree=reference_file.pedigree(ready.simulated, start, max(m.end_mjd for m in members)),
        useafter=f"{reference_file.utc(start):%Y-%m-%dT%H:%M:%S}",
        descrip=reference_file.descrip(ready.key, count, ready.simulated, settings.descrip),
        author=settings.author,
        dark_current=dark_current / 1000,
        history=reference_file.history(ready.key, exposures, count, SIGMA),
    )


def _refuse_small(ready: SetReady, least: int) -> None:
    count = sum(member.integrations for member in ready.members)
    if count < least:
        names = ", ".join(member.exposure_id for member in ready.members)
        raise PermanentError(
            f"set {ready.set_id} of {ready.configuration} has {count} integration{'s' * (count != 1)} "
            f"({names}), but a dark reference needs {least}: add exposures of this configuration, or allow "
            f"it with --min-integrations {count} (DARKS_MIN_INTEGRATIONS={count})"
        )
    if ready.key.ngroups < 2:
        raise PermanentError(
            f"set {ready.set_id} of {ready.configuration}: NGROUPS = {ready.key.ngroups}; a dark current "
            "needs 2 groups or more: leave these exposures out"
        )


def _key_of(member: SetMember, store: Store) -> ConfigurationKey:
    try:
        manifest = Manifest.model_validate_json(store.get(member.manifest))
    except KeyError as error:
        raise PermanentError(
            f"{member.exposure_id}: its manifest {member.manifest} is not in the store; ingest it again"
        ) from error
    return ConfigurationKey.model_validate(manifest.facts["key"])


@contextmanager
def _open(members: Sequence[SetMember], key: ConfigurationKey, store: Store) -> Iterator[list[Integration]]:
    with ExitStack() as stack:
        found = []
        for member in members:
            try:
                reader = store.open(member.ramp.key)
            except KeyError as error:
                raise PermanentError(
                    f"{member.exposure_id}: its ramp {member.ramp.key} is not in the store; ingest it again"
                ) from error
            ramp = stack.enter_context(Ramp(reader, member.ramp.key))
            wanted = (member.integrations, key.ngroups, key.subsize2, key.subsize1)
            for extension in ("SCI", "GROUPDQ"):
                if ramp.shape(extension) != wanted:
                    raise PermanentError(
                        f"{member.exposure_id}: {extension} of {member.ramp.key} has shape "
                        f"{ramp.shape(extension)}, but NINTS, NGROUPS, SUBSIZE2, SUBSIZE1 say {wanted}; "
                        "ingest it again"
                    )
            found += [Integration(ramp, index) for index in range(member.integrations)]
        yield found


def _starts(members: Sequence[SetMember]) -> list[float]:
    starts: list[float] = []
    for member in members:
        step = (member.end_mjd - member.start_mjd) / member.integrations
        starts += [member.start_mjd + n * step for n in range(member.integrations)]
    return starts


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - start
