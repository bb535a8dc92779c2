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
from services.darkref.building import SIGMA, CombinedDark, Recipe, built_without_one, combined_dark
from services.darkref.dark_current import measure, median_ramps
from services.darkref.difference import Dark
from services.darkref.facts import Judged, describe_dark, facts_of, pedigree_of
from services.darkref.flag_thresholds import Thresholds
from services.darkref.judging import estimate_single_errors, judge_pixels
from services.darkref.modes import Mode, mode_named
from services.darkref.pixel_flags import average_rates
from services.darkref.products import CONTRIBUTIONS, DARK_CURRENT_MAP, INPUT_ROLE, PREVIOUS_ROLE
from services.darkref.replaced.given import GivenReference, given_reference
from services.darkref.replaced.handler import differences, replaced_by
from services.darkref.verification_products import Verification
from services.darkref.walk import Integration
from shared.configuration import ConfigurationKey, require_same
from shared.errors import PermanentError
from shared.geometry import amplifiers, science_pixels
from shared.messages import Envelope, ObjectRef, ReferenceBuilt, SetMember, SetReady
from shared.ramps import Ramp
from shared.stage import Outgoing, StageContext
from shared.store.base import Store
from shared.store.manifest import MANIFEST, Draft, InputDigest, Manifest, find, product_key

ALGORITHM_VERSION = "3"


def handle(message: Envelope, context: StageContext) -> list[Outgoing]:
    """Build the dark reference of a complete set, or find it built.

    Raises
    ------
    ConfigurationMismatch
        If the members' configurations differ.
    PermanentError
        If the set has too few integrations, a ramp does not have its configuration's shape, no
        measurement is left anywhere, the mode is not built, no reference that was given to compare with is
        of its configuration, or PEDIGREE would pass simulated exposures off as measured ones.
    EnvironmentFault
        If a reference that was given cannot be read.
    """
    ready: SetReady = message.content
    store, settings = context.store, context.settings
    mode = mode_named(settings.mode)
    _refuse_small(ready, settings.min_integrations)
    members = sorted(ready.members, key=lambda member: (member.start_mjd, member.exposure_id))
    require_same([(member.exposure_id, _key_of(member, store)) for member in members])

    # At once, not after minutes of work.
    pedigree_of(ready, members, settings)

    what = f"set {ready.set_id} of {ready.configuration}"
    with given_reference(ready.key, what, settings, store.scratch) as given:
        manifest = _found_or_built(message, members, mode, context, given)
    return [Outgoing(envelope) for envelope in manifest.messages]


def _found_or_built(
    message: Envelope,
    members: Sequence[SetMember],
    mode: Mode,
    context: StageContext,
    given: GivenReference | None,
) -> Manifest:
    ready: SetReady = message.content
    store, settings = context.store, context.settings
    inputs = [
        InputDigest(
            role=INPUT_ROLE, uri=store.uri(member.ramp.key), sha256=member.ramp.sha256, product=member.product
        )
        for member in members
    ]
    if given is not None:
        # HISTORY tells what changes against it.
        inputs.append(InputDigest(role=PREVIOUS_ROLE, uri=given.uri, sha256=given.sha256))
    parameters = {
        "mode": mode.name,
        "sigma": SIGMA,
        "gain": ready.gain,
        "simulated": ready.simulated,
        "author": settings.author,
        "descrip": settings.descrip,
        "verify": settings.verify,
    }
    if mode.flags_pixels:
        parameters["min_measurements"] = settings.min_measurements
    # Only where they are given: what was made without them stays what it is.
    for name in ("pedigree", "useafter"):
        if (said := getattr(settings, name)) is not None:
            parameters[name] = said
    versions = {"darkref": ALGORITHM_VERSION, "jwst": metadata.version("jwst")}
    identity = product_key(inputs, parameters, versions)
    path = f"darkref/{ready.configuration}/{ready.set_id}/{identity}"
    manifest = find(store, path)
    if manifest is None:
        draft = Draft(store, "reference", path, inputs, parameters, versions)
        manifest = _build(draft, identity, message, members, mode, context, given)
    return manifest


def _build(
    draft: Draft,
    identity: str,
    message: Envelope,
    members: Sequence[SetMember],
    mode: Mode,
    context: StageContext,
    given: GivenReference | None,
) -> Manifest:
    ready: SetReady = message.content
    store, settings, key = context.store, context.settings, ready.key
    count = sum(member.integrations for member in members)
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
        judged = changes = rates = None
        if mode.flags_pixels:
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
                replaced = replaced_by(ready, members, store, given)
                if replaced is not None:
                    new = Dark(
                        name, combined.sci.plane, combined.err.plane, key.ngroups, quality, mode.errors
                    )
                    changes = differences(replaced, new, ready, science, thresholds)
        with _timed(timings, "write"):
            ramps = median_ramps((combined.sci, combined.err), combined.nmeas, science)
            about = describe_dark(ready, members, mode, settings, SIGMA, current.value, judged, changes)
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
            mode,
            settings,
            SIGMA,
            combined,
            current,
            ramps,
            dark.windows,
            about.pedigree,
            judged,
            changes,
            verification,
        )
    built = ReferenceBuilt(
        configuration=ready.configuration,
        set_id=ready.set_id,
        reference=ObjectRef(key=entry.key, size=entry.size, sha256=entry.sha256),
        manifest=f"{draft.path}/{MANIFEST}",
        mode=mode.name,
        dark_current_e_per_ks=facts.dark_current_e_per_ks,
        dark_current_error_e_per_ks=facts.dark_current_error_e_per_ks,
        verdict=facts.verdict,
        accepted=None if verification is None else verification.accepted,
        verification=None if verification is None else verification.verdict,
    )
    return draft.commit(facts, [Envelope.of(built, identity=identity, cause=message)], timings)


def _verified(dark: CombinedDark, recipe: Recipe, members: Sequence[SetMember]) -> Verification:
    # What only this takes costs as much to load as all the rest.
    from services.darkref.acceptance import verify

    key, pedestal_free = recipe.ready.key, recipe.mode.pedestals
    recipe.progress(0, 1, "verifying: the dark without one exposure")
    with (
        TemporaryDirectory(dir=dark.path.parent, prefix="without-") as folder,
        built_without_one(Path(folder), recipe, members) as withheld,
    ):
        recipe.progress(0, 1, "verifying: rules, noise, and the exposure left out")
        return verify(dark.path, key, recipe.ready.gain, dark.measurements(key), pedestal_free, withheld)


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
