"""How much of a configuration is waiting for a dark reference, for the metric of that name.

The answer comes from the manifests, so every worker shows the same.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.catalog.products import walk
from shared.catalog.store_contents import HowMade
from shared.products.ramp import RampMetadata, configuration_prefix
from shared.products.reference import ReferenceResults
from shared.store.base import Store
from shared.store.manifest import MANIFEST


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


def what_waits(store: Store, configuration: str) -> Waiting:
    """Return how much of a configuration is in no dark reference yet.

    Parameters
    ----------
    store : Store
    configuration : str
        Slug of the configuration key.

    Raises
    ------
    StoreUnavailable
        If the store does not answer.
    """
    used = {
        exposure
        for product in walk(store, f"darkref/{configuration}/", kind=ReferenceResults)
        for exposure in product.exposures
    }
    integrations: dict[str, int] = {}
    ingested: dict[str, datetime] = {}
    made: list[tuple[datetime, str, str, HowMade]] = []
    for product in walk(store, configuration_prefix(configuration), kind=RampMetadata):
        exposure, created = product.subject, product.manifest.created
        made.append((created, product.path, exposure, HowMade.of(product.manifest)))
        count = product.manifest.results.get("integrations")
        # Without a number nothing can be built from it: `status` names the manifest as damaged.
        if exposure in used or not isinstance(count, int):
            continue
        integrations[exposure] = count
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

    def __call__(self, store: Store) -> None:
        """Survey the store once."""
        if self._others is None:
            self._others = _configurations(store)
        known = self._metric.waiting()
        if self._others and (other := self._others.pop()) not in known:
            known.append(other)
        for configuration in known:
            waiting = what_waits(store, configuration)
            if waiting.integrations or configuration in self._metric.waiting():
                self._metric.set_waiting(configuration, waiting)


def _configurations(store: Store) -> list[str]:
    """Return the configurations of which anything was ingested, in reverse alphabetical order."""
    names = {key.split("/")[1] for key in store.list("ingest/") if key.endswith(f"/{MANIFEST}")}
    return sorted(names, reverse=True)
