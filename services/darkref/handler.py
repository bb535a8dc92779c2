"""``set.ready`` -> ``reference.built``: a complete set becomes a dark reference file."""

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from services.darkref import reference_file
from services.darkref.building import SIGMA, CombinedDark, Recipe, built_without_one, combined_dark
from services.darkref.dark_current import measure, median_ramps
from services.darkref.difference import Dark, compare
from services.darkref.facts import Differences, Judged, describe_dark, facts_of
from services.darkref.judging import estimate_single_errors, judge_pixels
from services.darkref.modes import Mode, mode_named
from services.darkref.pixel_flags import Thresholds, average_rates
from services.darkref.products import CONTRIBUTIONS, DARK_CURRENT_MAP, INPUT_ROLE, ReferenceFacts, is_rejected
from services.darkref.reference_history import STANDARD_ERROR
from services.darkref.stored_dark import StoredDark
from services.darkref.streaming import Integration
from services.darkref.verification_products import Verification
from shared.configuration import ConfigurationKey, require_same
from shared.errors import PermanentError
from shared.geometry import amplifiers, science_pixels
from shared.messages import Envelope, ObjectRef, ReferenceBuilt, SetMember, SetReady
from shared.ramps import Ramp
from shared.stage import Outgoing, StageContext
from shared.store.base import Store
from shared.store.manifest import MANIFEST, Draft, InputDigest, Manifest, find, find_all, product_key

ALGORITHM_VERSION = "2"


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
    mode = mode_named(settings.mode)
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
        "verify": settings.verify,
    }
    if mode.name == "flight":
        parameters["min_measurements"] = settings.min_measurements
    versions = {"darkref": ALGORITHM_VERSION, "jwst": metadata.version("jwst")}
    identity = product_key(inputs, parameters, versions)
    path = f"darkref/{ready.configuration}/{ready.set_id}/{identity}"
    manifest = find(store, path)
    if manifest is None:
        draft = Draft(store, "reference", path, inputs, parameters, versions)
        manifest = _build(draft, identity, message, members, mode, context)
    return [Outgoing(envelope) for envelope in manifest.messages]


def _build(
    draft: Draft,
    identity: str,
    message: Envelope,
    members: Sequence[SetMember],
    mode: Mode,
    context: StageContext,
) -> Manifest:
    ready: SetReady = message.content
    store, settings, key = context.store, context.settings, ready.key
    count = sum(member.integrations for member in members)
    flight = mode.name == "flight"
    recipe = Recipe(ready, mode, settings, partial(_open, key=key, store=store), context.progress)
    timings: dict[str, float] = {}
    with TemporaryDirectory(dir=store.scratch(), prefix="darkref-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        with _timed(timings, "combine"):
            dark = stack.enter_context(combined_dark(scratch, recipe, members))
        combined, places, name = dark.combined, dark.places, dark.path.name
        if combined.used == 0:
            raise PermanentError(
                f"set {ready.set_id} of {ready.configuration}: all pixels flagged: every pixel of every "
                "integration is flagged from its first group on, so no measurement is left; look at GROUPDQ "
                f"of {members[0].exposure_id} ({mode.ended_by})"
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
        judged = differences = rates = None
        if flight:
            with _timed(timings, "bad pixels"):
                context.progress(0, 1, "looking for bad pixels")
                estimate_single_errors(combined, count, science)
                thresholds = Thresholds(min_measurements=settings.min_measurements)
                quality, counts = judge_pixels(
                    combined, count, science, ready.gain, key.group_time, thresholds
                )
                with places["DQ"].cube(scratch / name, np.uint32) as cube:
                    cube.write(0, 0, quality[None])
                judged = Judged(counts, thresholds)
                rates = average_rates(
                    current.image / np.float32(1000), quality, science, current.value / 1000
                )
                replaced = _replaced(store, ready, members)
                if replaced is not None:
                    new = Dark(
                        name, combined.sci.plane, combined.err.plane, key.ngroups, quality, STANDARD_ERROR
                    )
                    differences = _differences(store, replaced, new, ready, science, thresholds)
        with _timed(timings, "write"):
            ramps = median_ramps((combined.sci, combined.err), combined.nmeas, science)
            about = describe_dark(ready, members, settings, SIGMA, current.value, judged, differences)
            reference_file.describe(scratch / name, key, about)
            reference_file.write_dark_current_map(scratch / DARK_CURRENT_MAP, current.image, key, rates)
        verification = None
        if settings.verify:
            with _timed(timings, "verification"):
                verification = _verified(dark, recipe, members)
        with _timed(timings, "store"):
            entry = draft.add(name, scratch / name)
            draft.add(CONTRIBUTIONS, scratch / CONTRIBUTIONS)
            draft.add(DARK_CURRENT_MAP, scratch / DARK_CURRENT_MAP)
        facts = facts_of(
            ready,
            members,
            settings,
            SIGMA,
            combined,
            current,
            ramps,
            dark.windows,
            about.pedigree,
            judged,
            differences,
            verification,
        )
    built = ReferenceBuilt(
        configuration=ready.configuration,
        set_id=ready.set_id,
        reference=ObjectRef(key=entry.key, size=entry.size, sha256=entry.sha256),
        manifest=f"{draft.path}/{MANIFEST}",
        mode=settings.mode,
        dark_current_e_per_ks=facts.dark_current_e_per_ks,
        verdict=facts.verdict,
        accepted=None if verification is None else verification.accepted,
        verification=None if verification is None else verification.verdict,
    )
    return draft.commit(facts, [Envelope.of(built, identity=identity, cause=message)], timings)


def _verified(dark: CombinedDark, recipe: Recipe, members: Sequence[SetMember]) -> Verification:
    # What only this takes costs as much to load as all the rest.
    from services.darkref.acceptance import verify

    key, flight = recipe.ready.key, recipe.mode.name == "flight"
    recipe.progress(0, 1, "verifying: the dark without one exposure")
    with (
        TemporaryDirectory(dir=dark.path.parent, prefix="without-") as folder,
        built_without_one(Path(folder), recipe, members) as withheld,
    ):
        recipe.progress(0, 1, "verifying: rules, noise, and the exposure left out")
        return verify(dark.path, key, recipe.ready.gain, dark.measurements(key), flight, withheld)


def _replaced(store: Store, ready: SetReady, members: Sequence[SetMember]) -> Manifest | None:
    """Return the reference of this configuration that a new one takes the place of; None if there is none.

    That is one of no other exposures, or one whose integrations all began before the set does, and that
    was not rejected; of several, the one whose exposures are newest, then the one of most exposures, then
    the one made last.
    """
    exposures = {member.exposure_id for member in members}

    def age(manifest: Manifest) -> tuple[float, int, datetime]:
        facts = ReferenceFacts.model_validate(manifest.facts)
        return max(facts.integration_mjd, default=-math.inf), len(facts.exposures), manifest.created

    candidates = [
        manifest
        for manifest in find_all(store, f"darkref/{ready.configuration}/")
        if manifest.product == "reference"
        and not is_rejected(manifest.facts)
        and (set(manifest.facts["exposures"]) <= exposures or age(manifest)[0] < members[0].start_mjd)
    ]
    return max(candidates, key=age, default=None)


def _differences(
    store: Store,
    replaced: Manifest,
    new: Dark,
    ready: SetReady,
    science: NDArray[np.bool_],
    thresholds: Thresholds,
) -> Differences:
    facts = ReferenceFacts.model_validate(replaced.facts)
    entry = replaced.object(facts.file)
    name = f"{facts.file} of set {facts.set_id} ({replaced.created:%Y-%m-%d})"
    errors = STANDARD_ERROR if facts.mode == "flight" else "population standard deviation"
    try:
        with ExitStack() as stack:
            reader = stack.enter_context(store.open(entry.key))
            if reader.size != entry.size:
                raise ValueError(f"it has {reader.size} bytes, and had {entry.size} when it was made")
            dark = stack.enter_context(StoredDark(reader.read, reader.size))
            earlier = Dark(name, dark.sci, dark.err, dark.groups, dark.quality, errors)
            difference = compare(
                new, earlier, science, amplifiers(ready.key), ready.gain, ready.key.group_time, thresholds
            )
    except (KeyError, OSError, ValueError) as error:
        # A file that somebody removed or changed is no reason to have no new one.
        return Differences(name, entry.key, None, " ".join(str(error).split()))
    return Differences(name, entry.key, difference, None)


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


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - start
