"""Products and their manifests: the unit of work of every stage.

A product is a few data objects and a ``manifest.json``. The data objects are written first, the manifest
last, by a conditional put: that is the commit point. Readers trust only manifests, so a product is there as a
whole or not at all. The manifest also holds the messages that announce the product (the outbox), so a
redelivered message finds the work done and publishes the same messages again.

Stages make products through `get_or_build`; `find` and `find_all` read manifests. A manifest that cannot be
read, say because a store lost half of it, stops nothing but its own product: walks pass over it and log it,
and whoever makes the product again sets it aside.
"""

import contextlib
import hashlib
import itertools
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.contracts.messages import Envelope, MessageData
from shared.contracts.routing import PRODUCT_FOLDERS
from shared.errors import DamagedObject, DarksError, EnvironmentFault
from shared.store.base import Store, Watch, get_many
from shared.store.changes import mark_new

_logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
#: The path of a product ends in its key; each `Draft` writes to a folder of its own under the path.
_PRODUCT_PATH = re.compile(r"/[0-9a-f]{32}$")
_DRAFT_OBJECT = re.compile(r"(?P<path>.+/[0-9a-f]{32})/(?P<draft>[0-9a-f]{8})/.+")


class DamagedManifest(EnvironmentFault):
    """A manifest cannot be read, or is none of this program."""


class InputDigest(BaseModel):
    """One input of a product.

    Attributes
    ----------
    role : str
        Its part, such as ``"exposure"``.
    uri : str
        Where it lay.
    sha256 : str
        Of its bytes.
    product : str or None
        Its product key, if it is a product itself. `product_key` then uses this in place of the bytes: a ramp
        made again from the same exposure differs only in the dates that it records.
    """

    role: str
    uri: str
    sha256: str
    product: str | None = None


class ObjectEntry(BaseModel):
    """One data object of a product: its name for people, and its key in the store."""

    name: str
    key: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """The record of a committed product: what it is, what it was made from, which messages announce it.

    Attributes
    ----------
    product : str
        ``"ramp"``, ``"rejection"``, ``"persistence"``, ``"reference"``, ``"exposure-noise"`` or
        ``"set-noise"``.
    path : str
        Key prefix of the product in the store; the objects and this manifest lie under it.
    results : dict
        Called ``facts`` in the stored file.
        Headline results; `shared.catalog.products.MODELS` has the model of each kind.
    timings : dict
        Seconds by name.
    messages : list of Envelope
        The outbox: published after the commit, and again whenever the message is redelivered.
    """

    # JSON has no NaN; "NaN" is read back as one, where null would not be.
    model_config = ConfigDict(extra="ignore", ser_json_inf_nan="strings", populate_by_name=True)

    version: str = "1.0"
    product: str
    path: str
    inputs: list[InputDigest]
    parameters: dict[str, Any]
    versions: dict[str, str]
    objects: list[ObjectEntry]
    results: dict[str, Any] = Field(alias="facts")
    timings: dict[str, float] = Field(default_factory=dict)
    messages: list[Envelope] = Field(default_factory=list)
    created: datetime

    def object(self, name: str) -> ObjectEntry:
        """Return the entry of the object called `name`.

        Raises
        ------
        KeyError
            If the product has no such object.
        """
        for entry in self.objects:
            if entry.name == name:
                return entry
        raise KeyError(f"{self.path} has no object {name!r}")


def product_key(inputs: list[InputDigest], parameters: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """Return the key of a product, which depends on its inputs, parameters and versions only.

    An input counts by its role and its identity (its product key, else its sha256), not by where it lies.

    Parameters
    ----------
    inputs : list of InputDigest
    parameters : mapping
        Everything else that the result depends on, and nothing that only changes how fast it is made.
    versions : mapping of str to str
        Algorithm version, jwst version, CRDS context.

    Returns
    -------
    str
        First 32 hex digits of a sha256.
    """
    identity = json.dumps(
        {
            "inputs": sorted((i.role, i.product or i.sha256) for i in inputs),
            "parameters": dict(parameters),
            "versions": dict(versions),
        },
        sort_keys=True,
        default=str,
    )
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def find(store: Store, path: str) -> Manifest | None:
    """Return the manifest of the product at `path`, or None if the product was never committed.

    Raises
    ------
    DamagedManifest
        If the manifest is damaged, or not one of this program.
    """
    key = f"{path}/{MANIFEST}"
    try:
        return _parse(store, key, store.get(key))
    except KeyError:
        return None
    except DamagedObject as error:
        raise _damaged_manifest(store, key, "its sha256 differs") from error


def read_object(store: Store, entry: ObjectEntry) -> bytes:
    """Return the bytes of a small object of a product, which are those that its manifest says.

    Raises
    ------
    DamagedObject
        If they are missing or others, also when they are read again.
    """
    # Once more, in case a bit was flipped on the way.
    for _ in range(2):
        try:
            data = store.get(entry.key)
        except KeyError:
            break
        if hashlib.sha256(data).hexdigest() == entry.sha256:
            return data
    raise DamagedObject(
        f"{store.uri(entry.key)} is missing, or not what was written there; remove its product and announce "
        "its exposure or set again",
        where=entry.key,
    )


def find_all(store: Store, *prefixes: str, damaged: list[str] | None = None) -> Iterator[Manifest]:
    """Yield the manifest of every committed product whose path begins with one of `prefixes`.

    This is the only walk over manifests; `shared.catalog.products.walk` gives them as typed products.

    Parameters
    ----------
    store : Store
    *prefixes : str
        Walked one after the other, each ascending by key.
    damaged : list of str, optional
        Takes the addresses of manifests that cannot be read, for the caller to tell. Such manifests are
        skipped; without a list they are logged.
    """
    keys = (key for prefix in prefixes for key in store.list(prefix) if key.endswith("/" + MANIFEST))
    yield from read_manifests(store, keys, damaged)


def read_manifests(store: Store, keys: Iterable[str], damaged: list[str] | None = None) -> Iterator[Manifest]:
    """Yield the manifests under some keys, those that exist; see `find_all`."""

    def tell(key: str, error: DarksError) -> None:
        if damaged is None:
            _logger.error("skipped: %s", error)
        else:
            damaged.append(store.uri(key))

    for key, body in get_many(store, keys, tell):
        try:
            yield _parse(store, key, body)
        except DamagedManifest as error:
            tell(key, error)


def _parse(store: Store, key: str, body: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        reason = f"{field}: {fault['msg']}" if field else fault["msg"]
        raise _damaged_manifest(store, key, reason) from error


def _damaged_manifest(store: Store, key: str, reason: str) -> DamagedManifest:
    return DamagedManifest(
        f"{store.uri(key)} is not a manifest of this program: {reason}; announce its exposure or set "
        "again, and the product is made anew",
        where=store.uri(key),
    )


def sweep(store: Store, prefix: str) -> int:
    """Remove the objects that killed processes left behind: those in draft folders that no manifest names.

    Call this only if no other process writes to the store, because the objects of a product that is just
    being made are not named either. Committed products are untouched, and so is everything that no `Draft`
    wrote.

    Parameters
    ----------
    store : Store
    prefix : str
        Of the products' paths, such as ``"ingest/"``.

    Returns
    -------
    int
        Number of objects removed.
    """
    # Path of a product -> folder of a draft -> the keys in it.
    drafts: dict[str, dict[str, list[str]]] = {}
    committed = set()
    for key in store.list(prefix):
        path, _, name = key.rpartition("/")
        if name == MANIFEST and _PRODUCT_PATH.search(path):
            committed.add(path)
        elif match := _DRAFT_OBJECT.fullmatch(key):
            drafts.setdefault(match["path"], {}).setdefault(match["draft"], []).append(key)
    removed = 0
    for path, folders in drafts.items():
        if path not in committed:
            named: set[str] | None = set()
        elif len(folders) == 1:
            # The only draft was committed: its manifest need not be read.
            continue
        else:
            named = _named(store, path)
        for key in itertools.chain.from_iterable(folders.values()):
            if named is not None and key not in named:
                store.delete(key)
                removed += 1
    return removed


def _named(store: Store, path: str) -> set[str] | None:
    """Return the keys of a product's objects, or None if its manifest cannot tell."""
    try:
        manifest = json.loads(store.get(f"{path}/{MANIFEST}"))
        # If a whole results folder was copied into this one, its keys are not those of this store.
        return {entry["key"] for entry in manifest["objects"]} if manifest["path"] == path else None
    except (ValueError, LookupError, TypeError, DamagedObject):
        return None


@dataclass(frozen=True)
class ProductSpec:
    """What decides which product a piece of work makes, and where it lies.

    Parameters
    ----------
    kind : str
        As `Manifest.product`.
    folder : str
        Key prefix of the products of this kind and subject, without the slash at its end, such as
        ``"darkref/<configuration>/<set id>"``.
    inputs, parameters, versions
        As in `product_key`.
    """

    kind: str
    folder: str
    inputs: list[InputDigest]
    parameters: Mapping[str, Any]
    versions: Mapping[str, str]

    @cached_property
    def key(self) -> str:
        """The product key; also the identity of the message that announces the product."""
        return product_key(self.inputs, self.parameters, self.versions)

    @property
    def path(self) -> str:
        """Key prefix of the product: the folder, then the product key."""
        return f"{self.folder}/{self.key}"

    @property
    def manifest_key(self) -> str:
        """Key of the product's manifest."""
        return f"{self.path}/{MANIFEST}"


@dataclass(frozen=True)
class BuiltProduct:
    """What `get_or_build` records of a product once its data objects are in the store.

    Attributes
    ----------
    results : BaseModel
        Headline results; become `Manifest.results`.
    announcement : MessageData or None
        What to tell the other stages; None for a product that nobody waits for.
    timings : mapping of str to float
        Seconds by name.
    """

    results: BaseModel
    announcement: MessageData | None = None
    timings: Mapping[str, float] = field(default_factory=dict)


class Draft:
    """A product that is being made: `add` its objects, then `commit`.

    Parameters
    ----------
    store : Store
    product : str
        Kind of product, see `Manifest`.
    path : str
        Key prefix that ends in the product key.
    inputs, parameters, versions
        As in `product_key`.
    """

    def __init__(
        self,
        store: Store,
        product: str,
        path: str,
        inputs: list[InputDigest],
        parameters: Mapping[str, Any],
        versions: Mapping[str, str],
    ) -> None:
        self._store = store
        self._product = product
        self.path = path
        self._inputs = inputs
        self._parameters = dict(parameters)
        self._versions = dict(versions)
        self._objects: list[ObjectEntry] = []
        # Two workers may make one product at once, and their files differ in a date. Each writes to a folder
        # of its own, so that the winner's manifest names what the winner wrote.
        self._folder = f"{path}/{uuid4().hex[:8]}"

    def add(self, name: str, data: bytes | Path, watch: Watch | None = None) -> ObjectEntry:
        """Write one data object; a `Path` is a finished file, which the store may move away.

        `watch` sees the bytes of a file while they are hashed.
        """
        key = f"{self._folder}/{name}"
        try:
            if isinstance(data, bytes):
                info = self._store.put(key, data)
            else:
                info = self._store.put_file(key, data, watch)
        except DarksError:
            # On a full disk, every further attempt would take more room.
            self._discard(self._objects)
            raise
        entry = ObjectEntry(name=name, key=key, size=info.size, sha256=info.sha256)
        self._objects.append(entry)
        return entry

    def commit(
        self,
        results: BaseModel,
        messages: list[Envelope] | None = None,
        timings: Mapping[str, float] | None = None,
    ) -> Manifest:
        """Write the manifest if there is none yet, and return the one in the store.

        A second worker that made the same product loses the race and returns the winner's manifest, so that
        both publish the same messages. A damaged manifest is replaced; what it held is kept beside it.
        """
        manifest = Manifest(
            product=self._product,
            path=self.path,
            inputs=self._inputs,
            parameters=self._parameters,
            versions=self._versions,
            objects=self._objects,
            results=results.model_dump(mode="json"),
            timings=dict(timings or {}),
            messages=messages or [],
            created=datetime.now(UTC),
        )
        body = manifest.model_dump_json(indent=1, by_alias=True).encode()
        key = f"{self.path}/{MANIFEST}"
        if key.startswith(PRODUCT_FOLDERS):
            # Before the manifest: the catalog must not miss a product, see `shared.store.changes`.
            mark_new(self._store, key)
        if self._store.put_if_absent(key, body):
            return manifest
        try:
            existing = find(self._store, self.path)
        except DamagedManifest as error:
            self._replace_damaged(body, error)
            return manifest
        if existing is None:
            return manifest
        # A put that was repeated because its answer was lost finds its own manifest.
        named = {entry.key for entry in existing.objects}
        self._discard([entry for entry in self._objects if entry.key not in named])
        return existing

    def _replace_damaged(self, body: bytes, error: DamagedManifest) -> None:
        key = f"{self.path}/{MANIFEST}"
        # As it is: a store that keeps digests would not `get` it.
        with self._store.open(key) as reader:
            damaged = reader.read(0, reader.size)
        aside = f"{self.path}/damaged-{hashlib.sha256(damaged).hexdigest()[:8]}"
        _logger.error("%s; the product was made anew, and the old bytes are kept as %s", error, aside)
        self._store.put(aside, damaged)
        # Two workers may both get here. Each names what it wrote itself and keeps it, so that either manifest
        # is right.
        self._store.put(key, body)

    def _discard(self, entries: list[ObjectEntry]) -> None:
        """Remove objects that no manifest will name; `sweep` removes those that cannot be removed now."""
        for entry in entries:
            with contextlib.suppress(DarksError):
                self._store.delete(entry.key)


def get_or_build(
    store: Store,
    spec: ProductSpec,
    build: Callable[[Draft], BuiltProduct],
    cause: Envelope | None = None,
    identity: str | None = None,
) -> Manifest:
    """Return the committed product of `spec`, building it first if the store does not have it yet.

    Every stage makes every product through this function, so all of them keep one commit rule: data
    objects first, then the manifest by a conditional put, with the announcement in its outbox. A
    redelivered message finds the manifest and publishes the same announcement again.

    Parameters
    ----------
    store : Store
    spec : ProductSpec
    build : callable
        Called with a `Draft` only if the product is missing: does the work, adds the data objects to
        the draft, and returns what the manifest records.
    cause : Envelope, optional
        The message that asked for the work; the announcement keeps its correlation id. Required with
        an announcement.
    identity : str, optional
        What the announcement's id is derived from; the product key unless given.

    Returns
    -------
    Manifest
        Of the product in the store. If another worker committed the same product meanwhile, this is
        the other worker's manifest, and the objects of this one are removed.

    Examples
    --------
    >>> spec = ProductSpec("set-noise", "noise/nrca1_full/set1", [], {"gain": 2.0}, {"noise": "3"})
    >>> class Results(BaseModel):
    ...     noise_e: float = 15.8
    >>> def build(draft):
    ...     entry = draft.add("map.bin", b"values")
    ...     return BuiltProduct(Results())
    >>> get_or_build(store, spec, build).objects[0].name
    'map.bin'
    >>> get_or_build(store, spec, build) == find(store, spec.path)
    True
    """
    with contextlib.suppress(DamagedManifest):
        existing = find(store, spec.path)
        if existing is not None:
            return existing
    draft = Draft(store, spec.kind, spec.path, spec.inputs, spec.parameters, spec.versions)
    built = build(draft)
    messages = []
    if built.announcement is not None:
        messages.append(Envelope.of(built.announcement, identity=identity or spec.key, cause=cause))
    return draft.commit(built.results, messages, built.timings)
