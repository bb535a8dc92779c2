"""How much of a configuration is waiting for a dark reference, for the metric of that name.

The answer comes from the store, so every worker shows the same: from the catalog (`shared.catalog.packs`), of
all configurations at once. In a store without one, a configuration is looked at by itself: its ramps come
from the index (`shared.catalog.arrival_index`), its references from their manifests, each read once.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.catalog.arrival_index import ArrivalIndex
from shared.catalog.packs import Catalog, CatalogPart, DamagedCatalog
from shared.catalog.products import walk
from shared.catalog.store_contents import HowMade
from shared.products.ramp import REFERENCE_ROLE, RampMetadata, configuration_prefix
from shared.products.reference import ReferenceResults
from shared.store.base import Store
from shared.store.manifest import MANIFEST

_logger = logging.getLogger(__name__)
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
    return _waiting(_ramps(store, configuration), used)


def _waiting(ramps: Iterable["_Ramp"], used: Iterable[str]) -> Waiting:
    """Return what waits of the ramps of a configuration, if references were made from some exposures."""
    in_references = frozenset(used)
    integrations: dict[str, int] = {}
    ingested: dict[str, datetime] = {}
    made: list[tuple[datetime, str, str, HowMade]] = []
    for ramp in ramps:
        exposure, created = ramp.exposure, ramp.created
        made.append((created, ramp.path, exposure, ramp.made))
        # Without a number nothing can be built from it: `status` names the manifest as damaged.
        if exposure in in_references or ramp.integrations is None:
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
    is_like: dict[int, bool] = {}
    for *_, how in made:
        if id(how) not in is_like:
            is_like[id(how)] = newest.like(how)
    return {exposure for _, _, exposure, how in made if is_like[id(how)]}


@dataclass
class _Configuration:
    """The ramps of a configuration, by path, and the exposures of its references."""

    ramps: dict[str, _Ramp] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


def what_waits_in_all(parts: Iterable[CatalogPart]) -> dict[str, Waiting]:
    """Return how much of each configuration is in no dark reference yet, from what the catalog reads.

    Of a product only what is asked is kept, so that no more than one part is held in memory.
    """
    configurations: dict[str, _Configuration] = defaultdict(_Configuration)
    for part in parts:
        for path, product in part.products.items():
            found = configurations[product.configuration or ""]
            if product.kind == "reference":
                found.used |= product.exposures
            elif product.kind == "ramp" and product.member is not None and product.made is not None:
                other = found.ramps.get(path)
                if other is None or other.created <= product.created:
                    integrations = product.member.integrations
                    found.ramps[path] = _Ramp(
                        product.subject, path, product.created, integrations, product.made
                    )
    return {
        name: _waiting(found.ramps.values(), found.used) for name, found in configurations.items() if name
    }


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

    In a store with a catalog, a call looks at all configurations, unless nothing was added since the last. In
    one without, it looks at those of which an exposure arrived in this process, and at one other. So it
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
        self._state: object = None
        self._is_settled = False

    def __call__(self, store: Store) -> None:
        """Survey the store once."""
        catalog = Catalog(store)
        if catalog.is_whole():
            try:
                self._survey_all(catalog)
                return
            except DamagedCatalog as error:
                _logger.error("%s", error)
        if self._others is None:
            self._others = _configurations(store)
        known = self._metric.waiting()
        if self._others and (other := self._others.pop()) not in known:
            known.append(other)
        for configuration in known:
            self._show(configuration, what_waits(store, configuration, self._references))

    def _survey_all(self, catalog: Catalog) -> None:
        state = catalog.state()
        # Once more after the last change: a product may be committed just after it was marked.
        if state == self._state and self._is_settled:
            return
        self._state, self._is_settled = state, state == self._state
        found = what_waits_in_all(catalog.read())
        for configuration in sorted({*found, *self._metric.waiting()}):
            self._show(configuration, found.get(configuration, Waiting(0)))

    def _show(self, configuration: str, waiting: Waiting) -> None:
        if waiting.integrations or configuration in self._metric.waiting():
            self._metric.set_waiting(configuration, waiting)


def _configurations(store: Store) -> list[str]:
    """Return the configurations of which anything was ingested, in reverse alphabetical order."""
    names = {key.split("/")[1] for key in store.list("ingest/") if key.endswith(f"/{MANIFEST}")}
    return sorted(names, reverse=True)
