"""The index of ingest's products: what forming a set asks of them, readable without reading a manifest.

The manifests are the truth. The index repeats a little of each ramp and rejection in the *key* of an empty
object, so that one request lists a thousand of them. Keys are sorted into folders of ten days by the time of
the exposure, so that a message lists only what lies around its own exposure, however many there are:

    index/arrivals-1/<configuration>/<dd>/<dd>/<start>~<exposure>~<end>~<count>~<kind>/<the rest>
    index/arrivals-1/<configuration>/any/...        the same, of exposures without a usable time
    index/arrivals-1/<configuration>/any/whole      the index has everything that the manifests have
    index/made-1/<digest>.json                      how ramps were made: parameters, versions, references

An entry is written after its manifest was committed and before anything is announced, so a worker that dies
in between leaves a message that is delivered again, and the entry is then written. Entries are only added,
never changed, and two workers that write one write the same: no lock is needed. A store without an index, or
with one of another version, gets it from the manifests when it is first asked (`ArrivalIndex.remake`).
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Self
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ValidationError

from shared.catalog.arrival_keys import (
    ANY_TIME,
    LAST_DAY,
    Arrival,
    IndexedRamp,
    Span,
    days_prefix,
    entry_name,
    entry_of,
    floor_days,
    folders_of_span,
    is_usable,
)
from shared.catalog.exposure_sets import LARGEST_EPOCH, split_at_gaps
from shared.catalog.products import StoredProduct, walk
from shared.contracts.messages import SetMember
from shared.errors import DamagedObject, EnvironmentFault
from shared.nircam.configuration import ConfigurationKey
from shared.products.announced_counts import announced_counts, notes_prefix
from shared.products.provenance import Provenance
from shared.products.ramp import (
    RAMP,
    RampDelivery,
    RampMetadata,
    RejectionMetadata,
    configuration_prefix,
    member_of,
    reference_digests,
)
from shared.store.base import Store
from shared.store.manifest import MANIFEST, DamagedManifest, Manifest, find

_logger = logging.getLogger(__name__)

#: The number is the version of the keys: a program that knows another makes an index of its own.
_ROOT = "index/arrivals-1/"
_MADE = "index/made-1/"
_WHOLE = "whole"
#: Days in a listing: the first two times on each side, the next two times, and from then on.
_STRIDES = (100, 100, 1000, 1000, 10_000)
#: If a gap of so many days ends an epoch, ten days are listed first; else they would be too many requests.
_SHORT_GAP = 4.0
#: Keys that are listed for an epoch before it counts as too large.
_MOST_LISTED = 4 * LARGEST_EPOCH
#: Reads and writes at once while an index is made.
_AT_ONCE = 16


class HowRampWasMade(BaseModel):
    """The part of a ramp's manifest that says how it was made; most ramps of a store share it.

    Attributes
    ----------
    references : dict of str to str
        sha256 of the reference files that replaced CRDS's choice, by type.
    values, before
        Of its `provenance`.
    """

    parameters: dict[str, Any]
    versions: dict[str, str]
    references: dict[str, str]
    values: list[tuple[str, str]]
    before: bool

    @classmethod
    def of(cls, manifest: Manifest, results: RampMetadata) -> Self:
        """Return it from a ramp's manifest and results."""
        return cls(
            parameters=manifest.parameters,
            versions=manifest.versions,
            references=reference_digests(manifest),
            values=list(results.provenance.values),
            before=results.provenance.before,
        )

    @property
    def provenance(self) -> Provenance:
        """With what the ramp was calibrated."""
        return Provenance(tuple(self.values), self.before)

    @property
    def making(self) -> str:
        """Equal for ramps that were made in the same way: versions, parameters, reference overrides."""
        return json.dumps([self.versions, self.parameters, self.references], sort_keys=True)

    @property
    def digest(self) -> str:
        """The first 16 hex digits of a sha256 of it."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Neighbourhood:
    """The arrivals of whole epochs.

    Attributes
    ----------
    arrivals : list of Arrival
        All of every exposure of the epochs that were asked for, and so perhaps parts of others.
    epochs : list of (float, float) or None
        Starts and ends of the stretches of time that are known as a whole, MJD; None: all are.
    too_large : list of (float, float)
        The exposures that were asked for whose epochs have more than
        `shared.catalog.exposure_sets.LARGEST_EPOCH` exposures.
    """

    arrivals: list[Arrival]
    epochs: list[Span] | None = None
    too_large: list[Span] = field(default_factory=list)

    def has_whole(self, start: float) -> bool:
        """Return whether the epoch of an exposure with this start is known as a whole."""
        return self.epochs is None or any(first <= start <= last for first, last in self.epochs)


def arrival_of(manifest: Manifest, count: int = 0) -> Arrival | None:
    """Return what the index has to say of a product; None of one that is neither ramp nor rejection.

    Raises
    ------
    pydantic.ValidationError, KeyError
        If its manifest does not hold what a ramp or a rejection must have.
    """
    if manifest.product not in ("ramp", "rejection"):
        return None
    results: BaseModel = StoredProduct[BaseModel](manifest).results
    if isinstance(results, RejectionMetadata):
        start = results.start_mjd
        span = None if start is None else (start, start)
        return Arrival(results.exposure_id, manifest.path, manifest.created, span, count)
    assert isinstance(results, RampMetadata)
    member = member_of(results, f"{manifest.path}/{MANIFEST}", manifest.object(RAMP))
    delivery = RampDelivery.of(results, manifest.path, manifest.created)
    made = HowRampWasMade.of(manifest, results).digest
    ramp = IndexedRamp(member, delivery, made, results.gain, results.simulated)
    span = (member.start_mjd, member.end_mjd)
    return Arrival(results.exposure_id, manifest.path, manifest.created, span, count, ramp)


class ArrivalIndex:
    """The index of one configuration.

    Parameters
    ----------
    store : Store
    configuration : str
        Slug of the configuration key.
    """

    def __init__(self, store: Store, configuration: str) -> None:
        self.store = store
        self.configuration = configuration
        self._root = f"{_ROOT}{configuration}/"
        self._key: ConfigurationKey | None = None

    def key_of(self, member: SetMember) -> ConfigurationKey:
        """Return the configuration key, which all members share, from a manifest that has it.

        Raises
        ------
        EnvironmentFault
            If the member's manifest is gone.
        """
        if self._key is None:
            path = member.manifest.removesuffix(f"/{MANIFEST}")
            manifest = find(self.store, path)
            if manifest is None:
                raise self._gone(path)
            self._key = ConfigurationKey.model_validate(manifest.results["key"])
        return self._key

    def record(self, manifest: Manifest) -> list[Arrival]:
        """Write the entries of an exposure, and return them.

        Call this after the manifest is committed and the announced number noted. The entries of all products
        of the exposure are written into the folders of all of them: whoever lists one of its times then sees
        whether another of its files counts, and when that was taken.

        Parameters
        ----------
        manifest : Manifest
            A ramp or rejection of the exposure.
        """
        exposure_id = str(manifest.results["exposure_id"])
        if "key" in manifest.results:
            self._key = ConfigurationKey.model_validate(manifest.results["key"])
        manifests = [manifest, *self._others(exposure_id, manifest.path)]
        arrivals = self._arrivals_of(manifests, self._count(exposure_id))
        for each in manifests:
            self._note_made(each)
        for key in self.keys_of(arrivals):
            self.store.put(key, b"")
        return arrivals

    def of_exposures(self, exposure_ids: Iterable[str]) -> list[Arrival]:
        """Return the arrivals of some exposures, from their manifests."""
        arrivals = []
        for exposure_id in dict.fromkeys(exposure_ids):
            arrivals += self._arrivals_of(self._others(exposure_id, ""), self._count(exposure_id))
        return arrivals

    def everything(self) -> Neighbourhood:
        """Return all arrivals of the configuration: a request for a thousand of them."""
        self._require_whole(set(self.store.list(self._root + ANY_TIME)))
        return Neighbourhood(list(self._read(self.store.list(self._root)).values()))

    def around(self, spans: Iterable[Span], gap_days: float) -> Neighbourhood:
        """Return the arrivals of the epochs in which exposures lie.

        Parameters
        ----------
        spans : iterable of (float, float)
            Starts and ends of the exposures, MJD; those for which `is_usable` holds.
        gap_days : float
            See `shared.catalog.exposure_sets.split_at_gaps`.
        """
        listing = _Listing(self._read, self.store, self._root)
        if self._require_whole(set(listing.add(ANY_TIME))):
            listing = _Listing(self._read, self.store, self._root)
            listing.add(ANY_TIME)
        too_large: list[Span] = []
        for span in spans:
            if not listing.extend(span, gap_days):
                too_large.append(span)
        return Neighbourhood(listing.of_epochs(), listing.epochs, too_large)

    def made(self, arrival: Arrival) -> HowRampWasMade:
        """Return how a ramp was made.

        Raises
        ------
        EnvironmentFault
            If neither the index nor the ramp's manifest can tell.
        """
        assert arrival.ramp is not None
        digest = arrival.ramp.made
        if digest not in _how_made:
            try:
                _how_made[digest] = HowRampWasMade.model_validate_json(self.store.get(_made_key(digest)))
            except (KeyError, ValidationError, DamagedObject):
                manifest = find(self.store, arrival.path)
                if manifest is None:
                    raise self._gone(arrival.path) from None
                self._note_made(manifest)
        return _how_made[digest]

    def is_whole(self) -> bool:
        """Return whether the index was made."""
        return self._root + ANY_TIME + _WHOLE in set(self.store.list(self._root + ANY_TIME + _WHOLE))

    def remake(self) -> tuple[int, int]:
        """Make the index agree with the manifests, all of which are read.

        Workers may go on: what they add meanwhile stays.

        Returns
        -------
        (int, int)
            Numbers of entries that were missing, and of those that stood for products that are gone.
        """
        before = {key for key in self.store.list(self._root) if not key.endswith(f"/{ANY_TIME}{_WHOLE}")}
        counts = announced_counts(self.store.list(notes_prefix(self.configuration)))
        noted = counts.get(self.configuration, {})
        by_exposure: dict[str, list[Manifest]] = {}
        for product in walk(self.store, configuration_prefix(self.configuration)):
            by_exposure.setdefault(str(product.manifest.results.get("exposure_id")), []).append(
                _without_messages(product.manifest)
            )
        wanted: set[str] = set()
        for exposure_id, manifests in by_exposure.items():
            wanted.update(self.keys_of(self._arrivals_of(manifests, noted.get(exposure_id, 0))))
            for manifest in manifests:
                self._note_made(manifest)
        missing, gone = wanted - before, before - wanted
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda key: self.store.put(key, b""), missing))
            list(pool.map(self.store.delete, gone))
        self.store.put(self._root + ANY_TIME + _WHOLE, b"")
        return len(missing), len(gone)

    def _gone(self, path: str) -> EnvironmentFault:
        where = self.store.uri(path)
        return EnvironmentFault(
            f"{where} is in the index and is gone; run `nircam-darks reconcile`", where=where
        )

    def _require_whole(self, listed: set[str]) -> bool:
        """Make the index if it is not whole; return whether it was made."""
        if self._root + ANY_TIME + _WHOLE in listed:
            return False
        prefix = configuration_prefix(self.configuration)
        _logger.info(
            "%s has no index yet; it is made from the manifests under %s", self.configuration, prefix
        )
        added, _ = self.remake()
        _logger.info("the index of %s is made: %d entries", self.configuration, added)
        return True

    def _others(self, exposure_id: str, known: str) -> list[Manifest]:
        """Return the manifests of an exposure, except the one whose path is `known`."""
        prefix = f"{configuration_prefix(self.configuration)}{exposure_id}/"
        paths = [key.rpartition("/")[0] for key in self.store.list(prefix) if key.endswith(f"/{MANIFEST}")]
        manifests = []
        for path in paths:
            if path == known:
                continue
            try:
                manifest = find(self.store, path)
            except DamagedManifest as error:
                _logger.error("skipped: %s", error)
                continue
            if manifest is not None:
                manifests.append(manifest)
        return manifests

    def _count(self, exposure_id: str) -> int:
        notes = self.store.list(f"{notes_prefix(self.configuration)}{exposure_id}/")
        return announced_counts(notes).get(self.configuration, {}).get(exposure_id, 0)

    def _arrivals_of(self, manifests: Iterable[Manifest], count: int) -> list[Arrival]:
        arrivals = []
        for manifest in manifests:
            try:
                arrival = arrival_of(manifest, count)
            except (ValidationError, KeyError) as error:
                where = self.store.uri(f"{manifest.path}/{MANIFEST}")
                _logger.error("skipped: %s is not a manifest of this program: %s", where, error)
                continue
            if arrival is not None:
                arrivals.append(arrival)
        return arrivals

    def _note_made(self, manifest: Manifest) -> None:
        """Write how a ramp was made, unless this process has done so in this store."""
        results: BaseModel = StoredProduct[BaseModel](manifest).results
        if not isinstance(results, RampMetadata):
            return
        made = HowRampWasMade.of(manifest, results)
        digest = made.digest
        noted = _noted_in.setdefault(self.store, set())
        if digest not in noted:
            self.store.put_if_absent(_made_key(digest), made.model_dump_json().encode())
            noted.add(digest)
        _how_made[digest] = made

    def keys_of(self, arrivals: list[Arrival]) -> Iterator[str]:
        """Yield the keys of all products of an exposure."""
        folders = {folder for arrival in arrivals for folder in folders_of_span(arrival.span)}
        for arrival in arrivals:
            name = entry_name(arrival)
            for folder in sorted(folders):
                yield f"{self._root}{folder}{name}"

    def _read(self, keys: Iterable[str]) -> dict[str, Arrival]:
        """Return the arrivals of some keys, by path."""
        arrivals: dict[str, Arrival] = {}
        for key in keys:
            name = key.removeprefix(self._root)
            if name == ANY_TIME + _WHOLE:
                continue
            try:
                arrival = entry_of(name.split("/"), self.configuration, self._manifest_entry)
            except (ValueError, IndexError, KeyError) as error:
                _logger.warning("%s is no entry of the index: %s", key, error)
                continue
            other = arrivals.get(arrival.path)
            arrivals[arrival.path] = arrival if other is None else _newer(arrival, other)
        return arrivals

    def _manifest_entry(self, path: str, count: int) -> Arrival:
        """Return an arrival that no key could hold."""
        manifest = find(self.store, path)
        arrival = None if manifest is None else arrival_of(manifest, count)
        if arrival is None:
            raise KeyError(f"{path} is gone")
        return arrival


#: How ramps were made, by digest; and which digests a store is known to have.
_how_made: dict[str, HowRampWasMade] = {}
_noted_in: WeakKeyDictionary[Store, set[str]] = WeakKeyDictionary()


class _Listing:
    """The arrivals listed so far, and the epochs among them that are known without holes."""

    def __init__(self, read: Callable[[Iterable[str]], dict[str, Arrival]], store: Store, root: str) -> None:
        self._read = read
        self._store = store
        self._root = root
        self._listed: set[str] = set()
        self._keys = 0
        self.arrivals: dict[str, Arrival] = {}
        self.epochs: list[Span] = []

    def add(self, prefix: str) -> list[str]:
        """List what begins with `prefix`, at most once; return its keys."""
        if any(prefix.startswith(listed) for listed in self._listed):
            return []
        self._listed.add(prefix)
        keys: list[str] = []
        for key in self._store.list(self._root + prefix):
            keys.append(key)
            self._keys += 1
            if self._keys > _MOST_LISTED and prefix != ANY_TIME:
                # What is left out is no part of an epoch that is known as a whole.
                self._listed.discard(prefix)
                break
        for path, arrival in self._read(keys).items():
            other = self.arrivals.get(path)
            self.arrivals[path] = arrival if other is None else _newer(arrival, other)
        return keys

    def extend(self, span: Span, gap_days: float) -> bool:
        """List the whole epoch of an exposure; return False if it is too large.

        The epoch ends where more than the gap was listed without an exposure. An entry lies in every folder
        that its exposure touches, so nothing reaches into a listed stretch unseen.
        """
        start, end = span
        if any(first <= start and end <= last for first, last in self.epochs):
            return True
        self._keys = 0
        stride = 10 if gap_days <= _SHORT_GAP else _STRIDES[0]
        low = floor_days(start - gap_days, stride)
        high = floor_days(end + gap_days, stride) + stride
        self._add_days(low, high, stride)
        for stride in [*_STRIDES, *[_STRIDES[-1]] * (LAST_DAY // _STRIDES[-1])]:
            first, last, exposures = self._epoch(span, (low, high), gap_days)
            if exposures > LARGEST_EPOCH or self._keys > _MOST_LISTED:
                return False
            before = low > 0 and first - low <= gap_days
            after = high < LAST_DAY and high - last <= gap_days
            if not (before or after):
                break
            if before:
                new = floor_days(low - 1, stride)
                self._add_days(new, low, stride)
                low = new
            if after:
                new = floor_days(high, stride) + stride
                self._add_days(high, new, stride)
                high = new
        self.epochs.append((first, last))
        return True

    def of_epochs(self) -> list[Arrival]:
        """Return all arrivals of every exposure that any epoch holds, or may hold."""
        names = {
            each.exposure_id
            for each in self.arrivals.values()
            if each.span is None
            or not is_usable(each.span)
            or any(first <= each.span[0] and each.span[1] <= last for first, last in self.epochs)
        }
        return [each for each in self.arrivals.values() if each.exposure_id in names]

    def _add_days(self, low: int, high: int, stride: int) -> None:
        for day in range(floor_days(low, stride), high, stride):
            if 0 <= day < LAST_DAY:
                self.add(days_prefix(day, stride))

    def _epoch(self, span: Span, listed: Span, gap_days: float) -> tuple[float, float, int]:
        """Return start, end and number of exposures of the epoch of `span`, as far as it was listed."""
        low, high = listed
        spans = {
            (each.exposure_id, each.span)
            for each in self.arrivals.values()
            if each.span is not None
            # What claims an impossible time is in every epoch that it touches.
            and (each.span[1] >= low and each.span[0] < high)
        }
        for epoch in split_at_gaps({*spans, ("", span)}, lambda pair: pair[1], gap_days):
            if ("", span) in epoch:
                exposures = {name for name, _ in epoch if name}
                first = min(start for _, (start, _) in epoch)
                return first, max(end for _, (_, end) in epoch), len(exposures)
        raise AssertionError("every exposure lies in an epoch")


def _newer(one: Arrival, other: Arrival) -> Arrival:
    """Return the newer entry of one product: a damaged manifest was made again, or a number announced."""
    newest = one if one.created >= other.created else other
    return replace(newest, count=max(one.count, other.count))


def _made_key(digest: str) -> str:
    return f"{_MADE}{digest}.json"


def _without_messages(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"messages": [], "timings": {}})
