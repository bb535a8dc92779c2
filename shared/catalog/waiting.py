"""How much of a configuration waits for a dark reference: read from the manifests, the same for everybody."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.store.base import Store
from shared.store.manifest import MANIFEST, find_all


@dataclass(frozen=True)
class Waiting:
    """What is in no dark reference as yet.

    Attributes
    ----------
    integrations : int
        Calibrated integrations.
    oldest, newest : datetime or None
        When the first and the last of their exposures was ingested; None if nothing waits.
    """

    integrations: int
    oldest: datetime | None = None
    newest: datetime | None = None


def what_waits(store: Store, configuration: str) -> Waiting:
    """Return what of a configuration is in no dark reference as yet.

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
        for manifest in find_all(store, f"darkref/{configuration}/")
        if manifest.product == "reference"
        for exposure in manifest.facts["exposures"]
    }
    integrations: dict[str, int] = {}
    came: dict[str, datetime] = {}
    for manifest in find_all(store, f"ingest/{configuration}/"):
        if manifest.product != "ramp" or manifest.facts["exposure_id"] in used:
            continue
        exposure = manifest.facts["exposure_id"]
        integrations[exposure] = int(manifest.facts["integrations"])
        # A ramp may have been made anew, by another version: the exposure waits since the first.
        came[exposure] = min(manifest.created, came.get(exposure, manifest.created))
    return Waiting(
        sum(integrations.values()), min(came.values(), default=None), max(came.values(), default=None)
    )


class Shown(Protocol):
    """Where it is shown, as `shared.metrics.Metrics`."""

    def waiting(self) -> list[str]:
        """Return the configurations to look at."""
        ...

    def set_waiting(
        self, configuration: str, integrations: int, oldest: datetime | None, newest: datetime | None
    ) -> None:
        """Show what waits of one."""
        ...


class WaitingSurvey:
    """Shows, each time it is called with the store, what waits.

    Beside the configurations of which an exposure arrived here it looks at one other a call: what waited
    before this process was started is found too, and a store of ten thousand exposures is not read at once.

    Parameters
    ----------
    shown : Shown
    """

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._others: list[str] | None = None

    def __call__(self, store: Store) -> None:
        """Look through the store once."""
        if self._others is None:
            self._others = _configurations(store)
        known = self._shown.waiting()
        if self._others and (other := self._others.pop()) not in known:
            known.append(other)
        for configuration in known:
            found = what_waits(store, configuration)
            if found.integrations or configuration in self._shown.waiting():
                self._shown.set_waiting(configuration, found.integrations, found.oldest, found.newest)


def _configurations(store: Store) -> list[str]:
    """Return the configurations of which anything was ingested, last in the alphabet first."""
    found = {key.split("/")[1] for key in store.list("ingest/") if key.endswith(f"/{MANIFEST}")}
    return sorted(found, reverse=True)
