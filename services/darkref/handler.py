"""``set.ready`` -> ``reference.built``: a complete set becomes a dark reference file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from services.darkref.build import build_dark
from services.darkref.build_config import SIGMA, BuildConfig, Stopwatch
from services.darkref.combine.methods import mode_named
from services.darkref.describe import pedigree_of, reference_metadata
from services.darkref.previous import GivenReference, given_reference, previous_reference
from services.darkref.read_noise_map import ReadNoiseMap, read_noise_map
from shared.catalog.exposure_sets import in_time_order
from shared.catalog.products import product_at
from shared.contracts.messages import Envelope, ObjectRef, ReferenceBuilt, SetMember, SetReady
from shared.errors import PermanentError
from shared.nircam.configuration import ConfigurationKey, require_same
from shared.products.figures import figures_of
from shared.products.ramp import RampCalibration, SupersededRamp, member_inputs
from shared.products.reference import (
    CONTRIBUTIONS,
    DARK_CURRENT_MAP,
    DIFFERENCE_MAP,
    PREVIOUS_ROLE,
    LeftOutExposure,
)
from shared.ramps.members import open_member
from shared.ramps.window_reader import Integration
from shared.runtime.handler import Outgoing, StageContext, outbox
from shared.store.base import Store
from shared.store.manifest import (
    MANIFEST,
    BuiltProduct,
    Draft,
    InputDigest,
    ProductSpec,
    get_or_build,
)

ALGORITHM_VERSION = "4"


def handle(message: Envelope, context: StageContext) -> list[Outgoing]:
    """Build the dark reference of a complete set, or find the one that was built before.

    Raises
    ------
    ConfigurationMismatch
        If the members' configurations differ.
    PermanentError
        If the set has too few integrations, a ramp does not have its configuration's shape, no
        measurement is left anywhere, the mode does not exist, none of the references that were given to
        compare with is of this configuration, or PEDIGREE would pass simulated exposures off as measured.
    EnvironmentFault
        If a reference that was given cannot be read.
    """
    ready: SetReady = message.content
    store, settings = context.store, context.settings
    mode = mode_named(settings.mode)
    _refuse_small(ready, sum(member.integrations for member in ready.members), settings.min_integrations)
    members = in_time_order(ready.members)
    ramps = [(member, _results_of(member, store)) for member in members]
    require_same(
        [(member.exposure_id, ConfigurationKey.model_validate(results["key"])) for member, results in ramps]
    )
    open_ramps = partial(_open_ramps, key=ready.key, store=store)
    noise_map = read_noise_map(ramps[0][1], settings) if settings.verify else None
    config = BuildConfig(
        ready,
        members,
        mode,
        settings,
        open_ramps,
        context.progress,
        left_out=_never_read(ramps),
        read_noise_map=None if noise_map is None else noise_map.path,
        superseded={
            member.exposure_id: [SupersededRamp.model_validate(entry) for entry in results["supersedes"]]
            for member, results in ramps
            if results.get("supersedes")
        },
        calibrated={member.exposure_id: RampCalibration.model_validate(results) for member, results in ramps},
    )
    _refuse_small(ready, config.integrations, settings.min_integrations)
    # Refused now, not after minutes of work.
    pedigree_of(config, members)
    with given_reference(ready.key, config.set_name, settings, store.scratch) as given:
        product = _product(config, store, given, noise_map)
        manifest = get_or_build(store, product, lambda draft: _build(draft, config, store, given), message)
    return outbox(manifest)


def _product(
    config: BuildConfig, store: Store, given: GivenReference | None, noise_map: ReadNoiseMap | None
) -> ProductSpec:
    """Return what identifies the product: its inputs, parameters and versions."""
    ready, settings = config.ready, config.settings
    inputs = member_inputs(config.members, store)
    if given is not None:
        # HISTORY says what changes against it.
        inputs.append(InputDigest(role=PREVIOUS_ROLE, uri=given.uri, sha256=given.sha256))
    if noise_map is not None:
        inputs.append(noise_map.digest)
    parameters: dict[str, Any] = {
        "mode": config.mode.name,
        "sigma": SIGMA,
        "gain": ready.gain,
        "simulated": ready.simulated,
        "author": settings.author,
        "descrip": settings.descrip,
        "verify": settings.verify,
    }
    if config.mode.flags_pixels or settings.verify:
        # Under the name that product keys have always had.
        parameters["min_measurements"] = settings.min_valid
    # Only where they are given, so that what was built without them keeps its key.
    for name in ("pedigree", "useafter"):
        if (value := getattr(settings, name)) is not None:
            parameters[name] = value
    versions = {"darkref": ALGORITHM_VERSION, "jwst": metadata.version("jwst")}
    return ProductSpec(
        "reference", f"darkref/{ready.configuration}/{ready.set_id}", inputs, parameters, versions
    )


def _build(draft: Draft, config: BuildConfig, store: Store, given: GivenReference | None) -> BuiltProduct:
    """Build the reference in the scratch folder, and add its files to the product."""
    ready, watch = config.ready, Stopwatch()
    config = config.comparing_with(partial(previous_reference, ready, config.members, store, given))
    with (
        TemporaryDirectory(dir=store.scratch(), prefix="darkref-") as folder,
        build_dark(config, Path(folder), watch) as built,
    ):
        with watch.step("store"):
            entry = draft.add(built.dark.path.name, built.dark.path)
            for name in (CONTRIBUTIONS, DARK_CURRENT_MAP):
                draft.add(name, Path(folder) / name)
            if (difference := Path(folder) / DIFFERENCE_MAP).exists():
                draft.add(DIFFERENCE_MAP, difference)
        results = reference_metadata(config, built)
    verification = results.verification
    announcement = ReferenceBuilt(
        configuration=ready.configuration,
        set_id=ready.set_id,
        reference=ObjectRef(key=entry.key, size=entry.size, sha256=entry.sha256),
        manifest=f"{draft.path}/{MANIFEST}",
        mode=results.mode,
        dark_current_e_per_ks=results.dark_current_e_per_ks,
        dark_current_error_e_per_ks=results.dark_current_error_e_per_ks,
        verdict=results.verdict,
        comparison=results.comparison,
        figures=figures_of(results),
        accepted=None if verification is None else verification.accepted,
        acceptance=None if verification is None else verification.acceptance,
        verification=None if verification is None else verification.verdict,
        verification_outcome=None if verification is None else verification.outcome,
    )
    return BuiltProduct(results, announcement, watch.timings)


def _refuse_small(ready: SetReady, count: int, least: int) -> None:
    if count < least:
        names = ", ".join(member.exposure_id for member in ready.members)
        raise PermanentError(
            f"set {ready.set_id} of {ready.configuration} has {count} integration{'s' * (count != 1)} "
            f"({names}), but a dark reference needs {least}: add exposures of this configuration, or allow "
            f"it with --min-integrations {count} (DARKS_MIN_INTEGRATIONS={count})",
            setting="--min-integrations",
        )
    if ready.key.ngroups < 2:
        raise PermanentError(
            f"set {ready.set_id} of {ready.configuration}: NGROUPS = {ready.key.ngroups}; a dark current "
            "needs 2 groups or more: leave these exposures out",
            keyword="NGROUPS",
        )


def _results_of(member: SetMember, store: Store) -> Mapping[str, Any]:
    ramp = product_at(store, member.manifest)
    if ramp is None:
        raise PermanentError(
            f"{member.exposure_id}: its manifest {member.manifest} is not in the store; ingest it again",
            where=member.manifest,
        )
    return ramp.manifest.results


def _never_read(ramps: Sequence[tuple[SetMember, Mapping[str, Any]]]) -> tuple[LeftOutExposure, ...]:
    """Return the integrations whose telemetry is lost, as ingest found them."""
    return tuple(
        LeftOutExposure(exposure=member.exposure_id, integration=index, quantity="telemetry")
        for member, results in ramps
        for index in results.get("lost_integrations", ())
    )


@contextmanager
def _open_ramps(
    members: Sequence[SetMember], key: ConfigurationKey, store: Store
) -> Iterator[list[Integration]]:
    with ExitStack() as stack:
        ramps = [stack.enter_context(open_member(store, member, key)) for member in members]
        yield [
            Integration(ramp, index)
            for ramp, member in zip(ramps, members, strict=True)
            for index in range(member.integrations)
        ]
