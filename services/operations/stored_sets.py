"""The sets that the store's exposures form: which are complete, which wait and why, what was made of them."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.operations.stored import Product, Stored
from shared.exposure_sets import (
    BuiltSet,
    RejectedExposure,
    campaigns,
    complete_sets,
    superseded_by,
    waiting_for,
)
from shared.settings import StageSettings


@dataclass(frozen=True)
class StoredSet:
    """One set of a configuration.

    Attributes
    ----------
    complete : bool
    expected : int or None
        Exposures announced for its campaign, where somebody said.
    groups : int
        NGROUPS.
    newest : datetime
        When the last of its ramps was committed.
    references, noise : tuple of Product
        Made of this very set, by its id.
    """

    set_id: str
    exposures: tuple[str, ...]
    integrations: int
    groups: int
    complete: bool
    expected: int | None
    newest: datetime
    references: tuple[Product, ...]
    noise: tuple[Product, ...]


@dataclass(frozen=True)
class StoredConfiguration:
    """What came of one configuration.

    Attributes
    ----------
    ingested, rejected : int
        Exposures.
    expected : int or None
        Exposures announced, of all campaigns of which somebody said.
    waits_for : str or None
        In words; None if every set is complete.
    superseded : dict of str to (str or None)
        Path of each reference -> path of the one that stands in its place, None for a current one.
    """

    configuration: str
    ingested: int
    rejected: int
    expected: int | None
    waits_for: str | None
    sets: tuple[StoredSet, ...]
    superseded: dict[str, str | None]


def stored_sets(stored: Stored, settings: StageSettings, now: datetime) -> list[StoredConfiguration]:
    """Form the sets of every configuration as ingest would.

    Ingest leaves out ramps that it would make otherwise now. What it would do is not known here, so the
    newest ramp of a configuration stands for it: those made in another way than that one do not count.

    Parameters
    ----------
    stored : Stored
    settings : StageSettings
        ``settle_seconds``, ``min_integrations`` and ``epoch_gap_days`` as the services have them.
    now : datetime
    """
    names = {name for product in stored.products if (name := product.configuration) is not None}
    by_name: dict[str, list[Product]] = defaultdict(list)
    for product in stored.products:
        by_name[product.configuration or ""].append(product)
    return [
        _configuration(name, by_name[name], stored.counts.get(name, {}), settings, now)
        for name in sorted(names | stored.counts.keys())
    ]


def _configuration(
    name: str,
    products: list[Product],
    counts: Mapping[str, int],
    settings: StageSettings,
    now: datetime,
) -> StoredConfiguration:
    ramps = _alike([product for product in products if product.kind == "ramp"])
    members = [ramp.member for ramp in ramps if ramp.member is not None]
    came = {ramp.subject for ramp in ramps}
    rejections = [one for one in products if one.kind == "rejection"]
    arrivals = [one.created for one in products if one.kind in ("ramp", "rejection")]
    settle = settings.settle_seconds
    settled = settle is not None and bool(arrivals) and max(arrivals) <= now - timedelta(seconds=settle)
    rejected = [RejectedExposure(one.subject, one.start_mjd) for one in rejections]
    formed = campaigns(members, rejected, counts, settings.epoch_gap_days)
    said = (settled, False, settings.min_integrations)
    complete = {one.set_id for one in complete_sets(formed, *said)}
    expected = [campaign.expected for campaign in formed if campaign.expected is not None]
    references = [one for one in products if one.kind == "reference"]
    noise = [one for one in products if one.kind == "set-noise"]
    of_path = {ramp.path: ramp for ramp in ramps}
    sets = []
    for one, announced in ((one, campaign.expected) for campaign in formed for one in campaign.sets):
        made_from = [of_path[member.manifest.rpartition("/")[0]] for member in one.members]
        sets.append(
            StoredSet(
                set_id=one.set_id,
                exposures=tuple(member.exposure_id for member in one.members),
                integrations=one.integrations,
                groups=made_from[0].groups,
                complete=one.set_id in complete,
                expected=announced,
                newest=max(ramp.created for ramp in made_from),
                references=tuple(product for product in references if product.subject == one.set_id),
                noise=tuple(product for product in noise if product.subject == one.set_id),
            )
        )
    return StoredConfiguration(
        configuration=name,
        ingested=len(came),
        rejected=len({one.subject for one in rejections} - came),
        expected=sum(expected) if expected else None,
        waits_for=waiting_for(formed, *said),
        sets=tuple(sets),
        superseded=superseded_by(
            BuiltSet(one.path, name, one.exposures, one.created, one.rejected) for one in references
        ),
    )


def _alike(ramps: list[Product]) -> list[Product]:
    newest = max(ramps, key=lambda ramp: (ramp.created, ramp.path), default=None)
    if newest is None or newest.made is None:
        return []
    return [ramp for ramp in ramps if ramp.made is not None and newest.made.like(ramp.made)]
