"""How much of a configuration is waiting for a dark reference, for the metric of that name.

The answer comes from the store, so every worker shows the same: of ramps from the index
(`shared.catalog.arrival_index`), of references from their manifests, each of which is read once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.catalog.arrival_index import ArrivalIndex
from shared.catalog.products import walk
from shared.catalog.store_contents import HowMade
from shared.products.ramp import REFERENCE_ROLE, RampMetadata, configuration_prefix
from shared.products.reference import ReferenceResults
from shared.store.base import Store
from shared.store.manifest import MANIFEST

#: So many new references are read one by one; more are read together, at several requests at once.
_FEW = 4


@dataclass(frozen=True)
class Waiting:
    """The exposures of a configuration that are in no dark reference yet.

    Attributes
    ----------
    integrations : int
        Number of calibrated integrations.
    oldest, newest : datetime or None
        When the first and the last of these exposures was ingested; None if there is none.
    outdated : int
        Number of these exposures that are in no set, because their ramps were made with another CRDS context,
        version or settings than the newest ramp of the configuration.
    outdated_since : datetime or None
        When the first of the outdated exposures was ingested; None if there is none.
    """

    integrations: int
    oldest: datetime | None = None
    newest: datetime | None = None
    outdated: int = 0
    outdated_since: datetime | None = None


def what_waits(store: Store, configuration: str, known: dict[str, frozenset[str]] | None = None) -> Waiting:
    """Return how much of a configuration is in no dark reference yet.

    Parameters
    ----------
    store : Store
    configuration : str
        Slug of the configuration key.
    known : dict of str to frozenset of str, optional
        The exposures of references by the key of their manifests, as far as they were read before; takes
        those that are read now. Manifests never change.

    Raises
    ------
    StoreUnavailable
        If the store does not answer.
    """
    used = _referenced(store, configuration, {} if known is None else known)
    integrations: dict[str, int] = {}
    ingested: dict[str, datetime] = {}
    made: list[tuple[datetime, str, str, HowMade]] = []
    for ramp in _ramps(store, configuration):
        exposure, created = ramp.exposure, ramp.created
        made.append((created, ramp.path, exposure, ramp.made))
        # Without a number nothing can be built from it: `status` names the manifest as damaged.
        if exposure in used or ramp.integrations is None:
            continue
        integrations[exposure] = ramp.integrations
        # Another version may have made the ramp again: the exposure has waited since the first.
        ingested[exposure] = min(created, ingested.get(exposure, created))
    outdated = ingested.keys() - _up_to_date(made)
    return Waiting(
        sum(integrations.values()),
        min(ingested.values(), default=None),
        max(ingested.values(), default=None),
        len(outdated),
        min((ingested[exposure] for exposure in outdated), default=None),
    )


@dataclass(frozen=True)
class _Ramp:
    """What the survey asks of a ramp."""

    exposure: str
    path: str
    created: datetime
    integrations: int | None
    made: HowMade


def _ramps(store: Store, configuration: str) -> Iterator[_Ramp]:
    """Yield every ramp, from the index if there is one."""
    index = ArrivalIndex(store, configuration)
    if index.is_whole():
        for arrival in index.everything().arrivals:
            if arrival.ramp is not None:
                how = index.made(arrival)
                references = {f"{REFERENCE_ROLE}{name}": sha256 for name, sha256 in how.references.items()}
                made = HowMade(how.versions, how.parameters, references)
                member = arrival.ramp.member
                yield _Ramp(arrival.exposure_id, arrival.path, arrival.created, member.integrations, made)
        return
    for product in walk(store, configuration_prefix(configuration), kind=RampMetadata):
        count = product.manifest.results.get("integrations")
        number = count if isinstance(count, int) else None
        made = HowMade.of(product.manifest)
        yield _Ramp(product.subject, product.path, product.manifest.created, number, made)


def _referenced(store: Store, configuration: str, known: dict[str, frozenset[str]]) -> frozenset[str]:
    """Return the exposures that are in a reference; `known` takes those of references that are read."""
    prefix = f"darkref/{configuration}/"
    keys = {key for key in store.list(prefix) if key.endswith(f"/{MANIFEST}")}
    new = sorted(keys - known.keys())
    for place in [prefix] if len(new) > _FEW else new:
        for product in walk(store, place, kind=ReferenceResults):
            known[f"{product.path}/{MANIFEST}"] = product.exposures
    for key in new:
        # What cannot be read is not read again either.
        known.setdefault(key, frozenset())
    return frozenset().union(*(known[key] for key in keys))


def _up_to_date(made: list[tuple[datetime, str, str, HowMade]]) -> set[str]:
    """Return the exposures with a ramp that was made like the newest, as `shared.catalog.sets` does."""
    if not made:
        return set()
    newest = max(made, key=lambda ramp: ramp[:2])[3]
    return {exposure for _, _, exposure, how in made if newest.like(how)}


class WaitingMetric(Protocol):
    """Where the survey shows its result; implemented by `shared.runtime.metrics.Metrics`."""

    def waiting(self) -> list[str]:
        """Return the configurations that are shown."""
        ...

    def set_waiting(self, configuration: str, waiting: Waiting) -> None:
        """Show how much of a configuration is waiting."""
        ...


class WaitingSurvey:
    """Shows how much is waiting, each time it is called with the store.

    A call looks at the configurations of which an exposure arrived in this process, and at one other. So it
    also finds what was waiting before the process started, without reading a store of ten thousand exposures
    at once.

    Parameters
    ----------
    metric : WaitingMetric
    """

    def __init__(self, metric: WaitingMetric) -> None:
        self._metric = metric
        self._others: list[str] | None = None
        self._references: dict[str, frozenset[str]] = {}

    def __call__(self, store: Store) -> None:
        """Survey the store once."""
        if self._others is None:
            self._others = _configurations(store)
        known = self._metric.waiting()
        if self._others and (other := self._others.pop()) not in known:
            known.append(other)
        for configuration in known:
            waiting = what_waits(store, configuration, self._references)
            if waiting.integrations or configuration in self._metric.waiting():
                self._metric.set_waiting(configuration, waiting)


def _configurations(store: Store) -> list[str]:
    """Return the configurations of which anything was ingested, in reverse alphabetical order."""
    names = {key.split("/")[1] for key in store.list("ingest/") if key.endswith(f"/{MANIFEST}")}
    return sorted(names, reverse=True)
