"""The sets in a store: which are complete, which are waiting and for what, and what was made from each.

`status`, `coverage` and `reconcile` ask this module. It forms sets with the same functions as ingest
(`shared.catalog.exposure_sets`), so that all agree.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.catalog.exposure_sets import (
    BuiltSet,
    Epoch,
    RejectedExposure,
    complete_sets,
    epoch_groups,
    form_epochs,
    superseded_by,
    waiting_for,
)
from shared.catalog.store_contents import ProductSummary, Stored
from shared.products.ramp import counting_ramps
from shared.settings.stage import StageSettings

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class StoredSet:
    """One set of a configuration.

    Attributes
    ----------
    complete : bool
        Whether ingest would announce it now.
    expected : int or None
        Number of exposures announced for its epoch; None if none was announced.
    groups : int
        NGROUPS.
    newest : datetime
        When its last ramp was committed.
    references, noise : tuple of ProductSummary
        Products made from exactly this set, by its id.
    calibrated_before : str
        With what its exposures had been calibrated when they arrived, in words; empty if that was done here,
        or in the same way.
    """

    set_id: str
    exposures: tuple[str, ...]
    integrations: int
    groups: int
    complete: bool
    expected: int | None
    newest: datetime
    references: tuple[ProductSummary, ...]
    noise: tuple[ProductSummary, ...]
    calibrated_before: str = ""


@dataclass(frozen=True)
class StoredConfiguration:
    """The exposures and sets of one configuration.

    Attributes
    ----------
    ingested, rejected : int
        Number of exposures.
    expected : int or None
        Number of exposures announced, over all epochs with such a number.
    waits_for : str or None
        What it is waiting for, in words; None if every set is complete and no exposure is `outdated`.
    superseded : dict of str to (str or None)
        Path of each reference -> path of the reference that supersedes it, None if it is current.
    outdated : tuple of ProductSummary
        Ramps of exposures that were made in another way than the newest ramp only, such as with an earlier
        CRDS context: they are in no set until they are made again, and no set of their epoch is complete.
    newest : datetime or None
        When the last of its ramps and rejections was committed.
    """

    configuration: str
    ingested: int
    rejected: int
    expected: int | None
    waits_for: str | None
    sets: tuple[StoredSet, ...]
    superseded: dict[str, str | None]
    outdated: tuple[ProductSummary, ...] = ()
    newest: datetime | None = None


def stored_sets(stored: Stored, settings: StageSettings, now: datetime) -> list[StoredConfiguration]:
    """Form the sets of every configuration as ingest would.

    Ingest leaves out ramps that it would make differently today. Its plan is not known here, so the newest
    ramp of a configuration stands for it: ramps made in another way, and those of superseded files, do not
    count.

    Parameters
    ----------
    stored : Stored
    settings : StageSettings
        ``settle_seconds``, ``min_integrations`` and ``epoch_gap_days`` as the services have them.
    now : datetime
    """
    names = {name for product in stored.products if (name := product.configuration) is not None}
    by_name: dict[str, list[ProductSummary]] = defaultdict(list)
    for product in stored.products:
        by_name[product.configuration or ""].append(product)
    return [
        _configuration(name, by_name[name], stored.counts.get(name, {}), settings, now)
        for name in sorted(names | stored.counts.keys())
    ]


def _configuration(
    name: str,
    products: list[ProductSummary],
    counts: Mapping[str, int],
    settings: StageSettings,
    now: datetime,
) -> StoredConfiguration:
    every_ramp = [product for product in products if product.kind == "ramp"]
    ramps = _alike(every_ramp)
    outdated = _outdated(every_ramp, ramps)
    rejections = [product for product in products if product.kind == "rejection"]
    references = [product for product in products if product.kind == "reference"]
    noise = [product for product in products if product.kind == "set-noise"]
    groups = _groups(ramps, settings.epoch_gap_days)
    epochs = _epochs(ramps, outdated, rejections, counts, settings, groups)
    arrivals = [product.created for product in products if product.kind in ("ramp", "rejection")]
    settle = settings.settle_seconds
    settled = settle is not None and bool(arrivals) and max(arrivals) <= now - timedelta(seconds=settle)
    rules = (settled, False, settings.min_integrations)
    complete = {ready.set_id for ready in complete_sets(epochs, *rules)}
    ingested = {ramp.subject for ramp in ramps}
    announced = [epoch.expected for epoch in epochs if epoch.expected is not None]
    by_path = {ramp.path: ramp for ramp in ramps}
    references_of, noise_of = _by_subject(references), _by_subject(noise)
    sets = []
    for epoch in epochs:
        for ready in epoch.sets:
            members = [by_path[member.manifest.rpartition("/")[0]] for member in ready.members]
            sets.append(
                StoredSet(
                    set_id=ready.set_id,
                    exposures=tuple(member.exposure_id for member in ready.members),
                    integrations=ready.integrations,
                    groups=members[0].groups,
                    complete=ready.set_id in complete,
                    expected=epoch.expected,
                    newest=max(ramp.created for ramp in members),
                    references=tuple(references_of.get(ready.set_id, [])),
                    noise=tuple(noise_of.get(ready.set_id, [])),
                    calibrated_before=groups.get(ready.members[0].manifest, ""),
                )
            )
    return StoredConfiguration(
        configuration=name,
        ingested=len(ingested),
        rejected=len({rejection.subject for rejection in rejections} - ingested),
        expected=sum(announced) if announced else None,
        waits_for="; ".join(filter(None, [waiting_for(epochs, *rules), _describe(outdated, ramps)])) or None,
        sets=tuple(sets),
        superseded=superseded_by(
            BuiltSet(product.path, name, product.exposures, product.created, product.withheld)
            for product in references
        ),
        outdated=tuple(outdated),
        newest=max(arrivals, default=None),
    )


def _by_subject(products: Iterable[ProductSummary]) -> dict[str, list[ProductSummary]]:
    by_subject: dict[str, list[ProductSummary]] = defaultdict(list)
    for product in products:
        by_subject[product.subject].append(product)
    return by_subject


def _groups(ramps: list[ProductSummary], gap_days: float) -> dict[str, str]:
    """Return by manifest which ramps may be combined, see `epoch_groups`."""
    known = [(ramp.member, ramp.provenance) for ramp in ramps if ramp.member and ramp.provenance]
    provenances = {member.manifest: provenance for member, provenance in known}
    return epoch_groups([member for member, _ in known], provenances, gap_days)


def _epochs(
    ramps: list[ProductSummary],
    outdated: list[ProductSummary],
    rejections: list[ProductSummary],
    counts: Mapping[str, int],
    settings: StageSettings,
    groups: Mapping[str, str],
) -> list[Epoch]:
    refused = {rejection.subject: rejection.created for rejection in sorted(rejections, key=_created)}
    return form_epochs(
        [ramp.member for ramp in ramps if ramp.member is not None],
        [RejectedExposure(rejection.subject, rejection.start_mjd) for rejection in rejections],
        counts,
        settings.epoch_gap_days,
        groups,
        # A newer version may have refused what an earlier one took.
        [
            ramp.member
            for ramp in outdated
            if ramp.member is not None and refused.get(ramp.subject, _NEVER) < ramp.created
        ],
    )


def _created(product: ProductSummary) -> datetime:
    return product.created


def _outdated(ramps: list[ProductSummary], alike: list[ProductSummary]) -> list[ProductSummary]:
    """Return the newest ramp of each exposure that has none made like the newest of all."""
    current = {ramp.subject for ramp in alike}
    newest = {
        ramp.subject: ramp
        for ramp in sorted(ramps, key=lambda ramp: (ramp.created, ramp.path))
        if ramp.subject not in current
    }
    return [newest[subject] for subject in sorted(newest)]


def _describe(outdated: list[ProductSummary], alike: list[ProductSummary]) -> str:
    """Return with what the ramps were made, and how to make them alike; empty if they are."""
    if not outdated:
        return ""
    total = len(outdated) + len(alike)
    parts = []
    for version, name in (("crds_context", ""), ("jwst", "jwst "), ("algorithm", "version ")):
        made = [ramp.made.versions.get(version, "?") for ramp in [*outdated, *alike] if ramp.made]
        if len(counts := Counter(made)) > 1:
            parts = [f"{count} made with {name}{value}" for value, count in counts.items()]
            break
    parts = parts or [f"{len(outdated)} made with other settings"]
    return (
        f"of {total} exposures {', '.join(parts)}; a set never mixes them: "
        "`nircam-darks reconcile --outdated` announces the older ones again"
    )


def _alike(ramps: list[ProductSummary]) -> list[ProductSummary]:
    newest = max(ramps, key=lambda ramp: (ramp.created, ramp.path), default=None)
    if newest is None or newest.made is None:
        return []
    # Of the ramps of a pack, most share what they were made with: it is compared once.
    is_like: dict[int, bool] = {}
    for ramp in ramps:
        if ramp.made is not None and id(ramp.made) not in is_like:
            is_like[id(ramp.made)] = newest.made.like(ramp.made)
    alike = [(ramp, ramp.delivery) for ramp in ramps if is_like.get(id(ramp.made))]
    known = [(ramp, delivery) for ramp, delivery in alike if delivery is not None]
    return [ramp for ramp, _ in counting_ramps(known, lambda pair: pair[1])]
