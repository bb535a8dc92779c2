"""The catalog: what `status`, `coverage`, `stability` and the metrics ask of every product, in few objects.

The manifests are the truth, and reading them takes a request for each. The catalog repeats the small part of
them that these commands ask, in *packs*: immutable objects, each of some thousand products, named by their
content.

    index/catalog-1/new/...                 marks of what is not packed yet, see `shared.store.changes`
    index/catalog-1/anew/...                marks of what is read each time
    index/catalog-1/packs/<items>~<sha256>  a pack
    index/catalog-1/whole                   everything in the store has a mark or is in a pack

A reader lists the marks first, then the packs, reads these, and reads singly what has a mark. Nothing is
missed: a mark is written before its object and removed after the pack that has it. Packs that are not full
are merged into the next; one that is gone when it is read was merged into another, which the next listing
shows. No lock is needed: whoever removes an object wrote another before that holds all of it, so two
processes that pack at once write the same things twice, and a reader counts each product once.

A store without a catalog is read from its manifests, as is one whose catalog is damaged; `Catalog.remake`,
which `nircam-darks reconcile` calls, makes it again. What a person removes by hand stays in a pack until
then.
"""

import contextlib
import gc
import hashlib
import itertools
import json
import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from shared.catalog.products import StoredProduct, walk, walk_keys
from shared.catalog.series_products import SeriesProduct, series_product_of
from shared.catalog.store_contents import HowMade, ProductSummary, Stored, read_stored, summary_of
from shared.contracts.routing import PRODUCT_FOLDERS
from shared.errors import DamagedObject, EnvironmentFault
from shared.nircam.configuration import ConfigurationKey
from shared.products.announced_counts import announced_counts, notes_prefix
from shared.products.claim import Claim, exposure_claim
from shared.products.provenance import Provenance
from shared.products.sign_off import SIGN_OFF
from shared.products.unserved import unserved_configurations, unserved_key
from shared.store.base import Store, get_many
from shared.store.changes import ANEW, CATALOG, NEW, mark_changing, mark_new, marked, unmark
from shared.store.manifest import MANIFEST

_logger = logging.getLogger(__name__)

_PACKS = f"{CATALOG}packs/"
_WHOLE = f"{CATALOG}whole"
_BETWEEN = "~"
#: Products and notes in a pack that is full.
_FULL = 8192
#: Marks that are worth a pack: a reader pays a request for each.
FEWEST_TO_PACK = 50
#: Manifests up to which the metrics' survey makes a catalog by itself.
MOST_TO_REMAKE = 1000
#: From this number of manifests on it is worth saying that they were read one by one.
_MANY = 1000
_AT_ONCE = 16
_STAGE_NUMBERS = {folder.rstrip("/"): number for number, folder in enumerate(PRODUCT_FOLDERS)}
#: Products of these folders are followed in time.
_SERIES_FOLDERS = ("darkref/", "noise/")


_Item = TypeVar("_Item", ProductSummary, SeriesProduct)


class DamagedCatalog(EnvironmentFault):
    """A pack is not what was written; the manifests have to be read."""


class _Shared(BaseModel):
    """What most ramps of a pack have in common; written once."""

    model_config = ConfigDict(frozen=True)

    made: HowMade | None = None
    key: ConfigurationKey | None = None
    provenance: Provenance | None = None


_Summaries = TypeAdapter(tuple[list[_Shared], list[tuple[int, ProductSummary]]])
_Series = TypeAdapter(list[SeriesProduct])


@dataclass
class CatalogPart:
    """Some of what a store holds: the content of a pack, or what was read singly.

    Attributes
    ----------
    products : dict of str to ProductSummary
        By path.
    series : dict of str to SeriesProduct
        By path, of those products that are followed in time.
    notes : set of str
        Keys of `shared.products.announced_counts`.
    damaged : list of str
        Addresses of manifests that cannot be read.
    """

    products: dict[str, ProductSummary] = field(default_factory=dict)
    series: dict[str, SeriesProduct] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)
    damaged: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.products) + len(self.notes)

    def add(self, other: "CatalogPart", without: frozenset[str] = frozenset()) -> None:
        """Take over what another part has, except products of some paths; of a product, the newer counts."""
        _add_newer(self.products, other.products, without)
        _add_newer(self.series, other.series, without)
        self.notes |= other.notes
        self.damaged += other.damaged


def _add_newer(into: dict[str, _Item], items: dict[str, _Item], without: frozenset[str]) -> None:
    for path, item in items.items():
        if path in without:
            continue
        other = into.get(path)
        if other is None or item.created >= other.created:
            into[path] = item


class Catalog:
    """The catalog of a store.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def is_whole(self) -> bool:
        """Return whether the store has a catalog."""
        try:
            self.store.get(_WHOLE)
        except (KeyError, DamagedObject):
            return False
        return True

    def state(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return what tells whether anything was added since: the marks, and the names of the packs."""
        return frozenset(marked(self.store, NEW)), frozenset(self.store.list(_PACKS))

    def read(self, summaries: bool = True, series: bool = False) -> Iterator[CatalogPart]:
        """Yield everything, a pack at a time; a product may be in several parts, of which the newest counts.

        Parameters
        ----------
        summaries, series : bool, optional
            What is wanted of each product.

        Raises
        ------
        DamagedCatalog
            If a pack cannot be read.
        """
        folders = PRODUCT_FOLDERS if summaries else _SERIES_FOLDERS
        new, anew = list(marked(self.store, NEW)), list(marked(self.store, ANEW))
        signed = [key.removesuffix(SIGN_OFF) + MANIFEST for key in anew if key.endswith(f"/{SIGN_OFF}")]
        singly = {key for key in [*new, *signed] if key.endswith(f"/{MANIFEST}") and key.startswith(folders)}
        paths = frozenset(key.removesuffix(f"/{MANIFEST}") for key in singly)
        read: set[str] = set()
        while names := set(self.store.list(_PACKS)) - read:
            # Those that are gone were merged into others while this went on: they are listed next.
            for name, body in self._bodies(sorted(names)):
                part = CatalogPart()
                part.add(_decoded(name, body, summaries, series), without=paths)
                yield part
            read |= names
        part = self._singly(sorted(singly), summaries, series)
        part.notes = self._notes(new)
        yield part

    def read_anew(self) -> Stored:
        """Return claims and notes that may change: they are read each time, and are in no pack."""
        stored, anew = Stored(), sorted(marked(self.store, ANEW))
        claims = [key for key in anew if key.endswith("/claim.json")]
        for key, body in get_many(
            self.store, claims, lambda key, _: stored.damaged.append(self.store.uri(key))
        ):
            try:
                stored.claims.append(Claim.model_validate_json(body))
            except ValidationError:
                stored.damaged.append(self.store.uri(key))
        stored.unserved = unserved_configurations(anew, self.store)
        return stored

    def pack(self, fewest: int = FEWEST_TO_PACK) -> int:
        """Put what has a mark into a pack, unless there is little; return the number of marks removed.

        Packs that are not full are merged into it. What cannot be packed keeps its mark: a manifest that is
        damaged, or not written yet.
        """
        keys = sorted(marked(self.store, NEW))
        if len(keys) < fewest or not self.is_whole():
            return 0
        open_packs = [name for name in self.store.list(_PACKS) if _items_in(name) < _FULL]
        merged, merged_names = CatalogPart(), []
        for name, body in self._bodies(open_packs):
            merged.add(_decoded(name, body, summaries=True, series=True))
            merged_names.append(name)
        fresh = self._packable(walk_keys(self.store, filter(_is_manifest, keys), damaged=[]))
        fresh.notes = self._notes(keys)
        merged.add(fresh)
        written = self.write(merged)
        self._delete(name for name in merged_names if name not in written)
        packed = [
            key for key in keys if key in fresh.notes or key.removesuffix(f"/{MANIFEST}") in fresh.products
        ]
        self._unmark(packed)
        return len(packed)

    def remake(self) -> Stored:
        """Make the catalog from the manifests, all of which are read; services may go on.

        Returns
        -------
        Stored
            Everything in the store, as `read_stored` gives it.
        """
        # What comes while this goes on has a mark, or is in a pack that is not among these.
        marks, before = set(marked(self.store, NEW)), list(self.store.list(_PACKS))
        keys = {key for folder in PRODUCT_FOLDERS for key in self.store.list(folder) if _is_manifest(key)}
        stored = read_stored(self.store)
        self._mark_changing(stored)
        written: set[str] = set()
        packed: set[str] = set()
        part = CatalogPart()
        for item in self._packable_items(stored):
            part.add(item)
            packed.update(item.notes, (f"{path}/{MANIFEST}" for path in item.products))
            if len(part) >= _FULL:
                written |= self.write(part)
                part = CatalogPart()
        written |= self.write(part)
        # What cannot be packed: damaged manifests, and kinds of another version.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda key: mark_new(self.store, key), keys - packed - marks))
        self.store.put(_WHOLE, b"")
        self._unmark(marks & packed)
        self._delete(name for name in before if name not in written)
        return stored

    def _packable_items(self, stored: Stored) -> Iterator[CatalogPart]:
        for key in self.store.list(notes_prefix()):
            if not key.endswith("/unserved.json"):
                yield CatalogPart(notes={key})
        for product in stored.products:
            if not product.path.startswith(_SERIES_FOLDERS):
                yield CatalogPart({product.path: product})
        for followed in walk(self.store, *_SERIES_FOLDERS, damaged=[]):
            yield self._packable([followed])

    def _mark_changing(self, stored: Stored) -> None:
        """Mark what no pack can hold."""
        ingested = {ramp.subject for ramp in stored.of_kind("ramp")}
        for claim in stored.claims:
            if claim.stands_aside or (claim.segment is not None and claim.exposure_id not in ingested):
                mark_changing(self.store, exposure_claim(claim.exposure_id, claim.sha256))
        for note in stored.unserved:
            mark_changing(self.store, unserved_key(note.configuration))
        for key in self.store.list("darkref/"):
            if key.endswith(f"/{SIGN_OFF}"):
                mark_changing(self.store, key)

    def _packable(self, products: Iterable[StoredProduct[BaseModel]]) -> CatalogPart:
        """Return what a pack can hold of some products; the others keep their marks."""
        part = CatalogPart()
        for product in products:
            try:
                single = _part_of(product, summaries=True, series=True)
            except (ValidationError, KeyError):
                continue
            # A figure that JSON cannot hold is read from the manifest, too.
            if _is_kept_whole(single):
                part.add(single)
        return part

    def _singly(self, keys: Sequence[str], summaries: bool, series: bool) -> CatalogPart:
        part = CatalogPart()
        for product in walk_keys(self.store, keys, part.damaged):
            try:
                part.add(_part_of(product, summaries, series))
            except (ValidationError, KeyError):
                part.damaged.append(self.store.uri(f"{product.path}/{MANIFEST}"))
        return part

    def _notes(self, keys: Iterable[str]) -> set[str]:
        """Return the notes among some keys that exist: a worker may have died after it marked one."""
        notes = [key for key in keys if key.startswith(notes_prefix())]
        return {key for key, _ in get_many(self.store, notes)}

    def write(self, part: CatalogPart) -> set[str]:
        """Write packs with everything in a part; return their names."""
        names: set[str] = set()
        paths, notes = iter(sorted(part.products)), iter(sorted(part.notes))
        while True:
            some = list(itertools.islice(paths, _FULL))
            few = set(itertools.islice(notes, _FULL - len(some)))
            if not some and not few:
                return names
            body = _encoded(
                CatalogPart(
                    {path: part.products[path] for path in some},
                    {path: part.series[path] for path in some if path in part.series},
                    few,
                )
            )
            name = f"{_PACKS}{len(some) + len(few):05d}{_BETWEEN}{_digest(body)}"
            self.store.put(name, body)
            names.add(name)

    def _unmark(self, keys: Iterable[str]) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda key: unmark(self.store, NEW, key), keys))

    def _bodies(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the packs that exist."""

        def tell(name: str, error: DamagedObject) -> None:
            raise DamagedCatalog(f"{error}; `nircam-darks reconcile` makes the catalog again", where=name)

        return get_many(self.store, names, tell)

    def _delete(self, names: Iterable[str]) -> None:
        for name in names:
            self.store.delete(name)


@contextlib.contextmanager
def collecting_later() -> Iterator[None]:
    """Collect no garbage meanwhile: a context around work on the hundred thousand products of a store.

    Python would go through all of them again and again, which takes longer than to read them; none is part of
    a cycle.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def stored_by_catalog(store: Store) -> Stored:
    """Return what `status` and `coverage` ask of a store: by its catalog, or by all manifests without one.

    By the catalog, the claims are those alone that stand for segments of an exposure without a ramp, or for
    files that are not needed. Everything else is what `read_stored` gives.

    Raises
    ------
    StoreUnavailable, EnvironmentFault
        If the store does not answer, or refuses.
    """
    catalog = Catalog(store)
    if not catalog.is_whole():
        stored = read_stored(store)
        _say_if_many(len(stored.products))
        return stored
    # Claims first: what is committed while this goes on is then seen, and not taken for lost.
    stored, everything = catalog.read_anew(), CatalogPart()
    try:
        for part in catalog.read():
            everything.add(part)
    except DamagedCatalog as error:
        _logger.error("%s", error)
        return read_stored(store)
    stored.products = sorted(everything.products.values(), key=_in_order)
    stored.counts = announced_counts(everything.notes)
    stored.damaged += everything.damaged
    return stored


def series_by_catalog(store: Store, damaged: list[str]) -> list[SeriesProduct]:
    """Return what is followed in time: by the catalog of a store, or by its manifests if it has none.

    Parameters
    ----------
    store : Store
    damaged : list of str
        Takes the addresses of manifests that cannot be read.

    Raises
    ------
    StoreUnavailable, EnvironmentFault
        If the store does not answer, or refuses.
    """
    catalog = Catalog(store)
    everything = CatalogPart()
    is_whole = catalog.is_whole()
    try:
        if is_whole:
            for part in catalog.read(summaries=False, series=True):
                everything.add(part)
            damaged += everything.damaged
            return sorted(everything.series.values(), key=_in_order)
    except DamagedCatalog as error:
        _logger.error("%s", error)
    products = []
    for product in walk(store, *_SERIES_FOLDERS, damaged=damaged):
        try:
            if (followed := series_product_of(product)) is not None:
                products.append(followed)
        except (ValidationError, KeyError):
            damaged.append(store.uri(f"{product.path}/{MANIFEST}"))
    _say_if_many(len(products))
    return products


class CatalogUpkeep:
    """Keeps the catalog of a store short, each time it is called with the store.

    It packs what is new. A store without a catalog gets one if it is small, as every new store is; the
    manifests of a large one are read by `nircam-darks reconcile` alone.
    """

    def __init__(self) -> None:
        self._is_large = False

    def __call__(self, store: Store) -> None:
        """Do what there is to do."""
        catalog = Catalog(store)
        if catalog.is_whole():
            try:
                catalog.pack()
            except DamagedCatalog as error:
                _logger.error("%s", error)
        elif not self._is_large:
            manifests = (key for folder in PRODUCT_FOLDERS for key in store.list(folder) if _is_manifest(key))
            self._is_large = sum(1 for _ in itertools.islice(manifests, MOST_TO_REMAKE)) == MOST_TO_REMAKE
            if self._is_large:
                _logger.warning(
                    "the store has no catalog: `status`, `coverage`, `stability` and the metrics read every "
                    "manifest until `nircam-darks reconcile` has made it"
                )
            else:
                catalog.remake()


def _say_if_many(manifests: int) -> None:
    if manifests >= _MANY:
        _logger.warning(
            "the store has no catalog: %d manifests were read one by one; `nircam-darks reconcile` makes it",
            manifests,
        )


def _is_manifest(key: str) -> bool:
    return key.endswith(f"/{MANIFEST}")


def _in_order(product: ProductSummary | SeriesProduct) -> tuple[int, str]:
    """Sort products as `walk` gives them."""
    stage = _STAGE_NUMBERS.get(product.path.partition("/")[0], len(_STAGE_NUMBERS))
    return stage, f"{product.path}/"


def _part_of(product: StoredProduct[BaseModel], summaries: bool, series: bool) -> CatalogPart:
    part = CatalogPart()
    if summaries:
        part.products[product.path] = summary_of(product)
    if series and product.path.startswith(_SERIES_FOLDERS):
        followed = series_product_of(product)
        if followed is not None:
            part.series[product.path] = followed
    return part


def _items_in(name: str) -> int:
    """Return the number of items in a pack, from its name."""
    number = name.removeprefix(_PACKS).partition(_BETWEEN)[0]
    return int(number) if number.isdecimal() else _FULL


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]


def _encoded(part: CatalogPart) -> bytes:
    """Return a pack: three lines of JSON, so that each can be read without the others; compressed."""
    shared: dict[str, tuple[int, _Shared]] = {}
    summaries = []
    for _, summary in sorted(part.products.items()):
        common = _Shared(made=summary.made, key=summary.key, provenance=summary.provenance)
        number, _ = shared.setdefault(common.model_dump_json(), (len(shared), common))
        summaries.append((number, replace(summary, made=None, key=None, provenance=None)))
    table = [common for _, common in shared.values()]
    series = [each for _, each in sorted(part.series.items())]
    lines = (
        json.dumps(sorted(part.notes)).encode(),
        _Summaries.dump_json((table, summaries), exclude_defaults=True),
        _Series.dump_json(series, exclude_defaults=True),
    )
    return zlib.compress(b"\n".join(lines), 6)


def _decoded(name: str, body: bytes, summaries: bool, series: bool) -> CatalogPart:
    """Return what a pack holds.

    Raises
    ------
    DamagedCatalog
        If it is not what was written.
    """
    if name.rpartition(_BETWEEN)[2] != _digest(body):
        raise DamagedCatalog(
            f"{name} is damaged; `nircam-darks reconcile` makes the catalog again", where=name
        )
    try:
        notes, products, followed = zlib.decompress(body).split(b"\n")
        part = CatalogPart(notes=set(json.loads(notes)))
        if summaries:
            table, numbered = _Summaries.validate_json(products)
            for number, summary in numbered:
                common = table[number]
                for field_name, value in common:
                    if value is not None:
                        # Nobody has seen it yet; `replace` would take longer than all the rest.
                        object.__setattr__(summary, field_name, value)
                part.products[summary.path] = summary
        if series:
            part.series = {each.path: each for each in _Series.validate_json(followed)}
    except (zlib.error, ValueError, IndexError) as error:
        raise DamagedCatalog(f"{name} is no pack of this program: {error}", where=name) from error
    return part


def _is_kept_whole(part: CatalogPart) -> bool:
    """Return whether a pack gives back what it was given."""
    body = _encoded(part)
    try:
        again = _decoded(_digest(body), body, summaries=True, series=True)
    except DamagedCatalog:
        return False
    return (again.products, again.series) == (part.products, part.series)
