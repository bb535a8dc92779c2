"""A product and its manifest: the commit point, and the outbox.

Data objects first, then ``manifest.json`` by a conditional put. Readers trust only manifests, so a
product is there wholly or not at all, and a redelivered message finds the work already done.
"""

import contextlib
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import DarksError, EnvironmentFault
from shared.messages import Envelope
from shared.store.base import Store

MANIFEST = "manifest.json"
#: A product's path ends in its key, and each `Draft` has a folder of its own under that.
_PRODUCT_PATH = re.compile(r"/[0-9a-f]{32}$")
_DRAFT_OBJECT = re.compile(r"(?P<path>.+/[0-9a-f]{32})/(?P<draft>[0-9a-f]{8})/.+")


class InputDigest(BaseModel):
    """One thing a product was made from.

    Attributes
    ----------
    sha256 : str
        Of its bytes.
    product : str or None
        Its product key, where it is a product itself. That stands for it in `product_key`: a ramp made
        again from the same exposure differs in the dates it holds, not in what it says.
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
    """What a product is, what it was made from, and what is to be announced about it.

    Attributes
    ----------
    product : str
        ``"ramp"``, ``"rejection"``, ``"persistence"``, ``"reference"``, ``"exposure-noise"`` or
        ``"set-noise"``.
    path : str
        Key prefix of the product in the store; the objects and this manifest lie under it.
    facts : dict
        The product's headline facts; the stage's ``products.py`` has the model.
    timings : dict
        Seconds by name.
    messages : list of Envelope
        The outbox: published after the commit, and again at every redelivery.
    """

    # JSON has no NaN; "NaN" is read back as one, where null would not be.
    model_config = ConfigDict(extra="ignore", ser_json_inf_nan="strings")

    version: str = "1.0"
    product: str
    path: str
    inputs: list[InputDigest]
    parameters: dict[str, Any]
    versions: dict[str, str]
    objects: list[ObjectEntry]
    facts: dict[str, Any]
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
    """Return the key of a product: the same inputs, parameters and versions give the same one.

    Where an input lies does not count, only what it is (its product key, else its bytes) and its part.

    Parameters
    ----------
    inputs : list of InputDigest
    parameters : mapping
        What the result depends on; nothing that only changes how fast it is made.
    versions : mapping of str to str
        Algorithm version, jwst version, CRDS context.

    Returns
    -------
    str
        First 32 hex digits of a sha256.
    """
    said = json.dumps(
        {
            "inputs": sorted((i.role, i.product or i.sha256) for i in inputs),
            "parameters": dict(parameters),
            "versions": dict(versions),
        },
        sort_keys=True,
        default=str,
    )
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def find(store: Store, path: str) -> Manifest | None:
    """Return the manifest of the product at `path`, or None if that product was never committed.

    Raises
    ------
    EnvironmentFault
        If it is damaged, or not of this program.
    """
    try:
        return _read(store, f"{path}/{MANIFEST}")
    except KeyError:
        return None


def find_all(store: Store, prefix: str) -> Iterator[Manifest]:
    """Yield every committed product whose path begins with `prefix`, ascending by key; see `find`."""
    for key in store.list(prefix):
        if key.endswith("/" + MANIFEST):
            yield _read(store, key)


def _read(store: Store, key: str) -> Manifest:
    body = store.get(key)
    try:
        return Manifest.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "it"
        raise EnvironmentFault(
            f"{store.uri(key)} is no manifest of this program: {where}: {fault['msg']}; "
            "remove the folder it is in, and what it described is made again"
        ) from error


def sweep(store: Store, prefix: str) -> int:
    """Remove what makers that were killed left of their products: the objects that no manifest names.

    Only where nobody else writes to the store: what another is just making is not named yet either.
    Committed products stay as they are, and so does all that no `Draft` put there.

    Parameters
    ----------
    store : Store
    prefix : str
        Of the products' paths, such as ``"ingest/"``.

    Returns
    -------
    int
        How many objects were removed.
    """
    # Path of a product -> folder of a draft -> the keys in it.
    drafts: dict[str, dict[str, list[str]]] = {}
    committed = set()
    for key in store.list(prefix):
        path, _, name = key.rpartition("/")
        if name == MANIFEST and _PRODUCT_PATH.search(path):
            committed.add(path)
        elif found := _DRAFT_OBJECT.fullmatch(key):
            drafts.setdefault(found["path"], {}).setdefault(found["draft"], []).append(key)
    removed = 0
    for path, folders in drafts.items():
        if path not in committed:
            named: set[str] | None = set()
        elif len(folders) == 1:
            # One draft, and it was committed: its manifest need not be read.
            continue
        else:
            named = _named(store, path)
        for key in itertools.chain.from_iterable(folders.values()):
            if named is not None and key not in named:
                store.delete(key)
                removed += 1
    return removed


def _named(store: Store, path: str) -> set[str] | None:
    """Return the keys of a product's objects; None if its manifest does not say."""
    try:
        said = json.loads(store.get(f"{path}/{MANIFEST}"))
        # A whole results folder may have been copied into this one: its keys are not of this store.
        return {entry["key"] for entry in said["objects"]} if said["path"] == path else None
    except (ValueError, LookupError, TypeError):
        return None


class Draft:
    """A product in the making: put its objects, then commit.

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
        # Two workers may make one product at once, and their files differ in a date: each writes where
        # the other does not, so what the winner's manifest names is what the winner wrote.
        self._folder = f"{path}/{uuid4().hex[:8]}"

    def add(self, name: str, data: bytes | Path) -> ObjectEntry:
        """Put one data object; a `Path` is a finished file, which the store may move away."""
        key = f"{self._folder}/{name}"
        try:
            info = self._store.put(key, data) if isinstance(data, bytes) else self._store.put_file(key, data)
        except DarksError:
            # On a disk that is full, every attempt would take more of it.
            self._discard(self._objects)
            raise
        entry = ObjectEntry(name=name, key=key, size=info.size, sha256=info.sha256)
        self._objects.append(entry)
        return entry

    def commit(
        self,
        facts: BaseModel,
        messages: list[Envelope] | None = None,
        timings: Mapping[str, float] | None = None,
    ) -> Manifest:
        """Put the manifest where none is yet; return the one that stands.

        A second worker that made the same product loses the race and returns the winner's manifest,
        so both publish the same messages.
        """
        manifest = Manifest(
            product=self._product,
            path=self.path,
            inputs=self._inputs,
            parameters=self._parameters,
            versions=self._versions,
            objects=self._objects,
            facts=facts.model_dump(mode="json"),
            timings=dict(timings or {}),
            messages=messages or [],
            created=datetime.now(UTC),
        )
        body = manifest.model_dump_json(indent=1, by_alias=True).encode()
        if self._store.put_if_absent(f"{self.path}/{MANIFEST}", body):
            return manifest
        standing = find(self._store, self.path)
        if standing is None:
            return manifest
        # A put that was repeated because its answer got lost finds its own manifest there.
        named = {entry.key for entry in standing.objects}
        self._discard([entry for entry in self._objects if entry.key not in named])
        return standing

    def _discard(self, entries: list[ObjectEntry]) -> None:
        """Remove objects that no manifest will name; what cannot be removed is left to `sweep`."""
        for entry in entries:
            with contextlib.suppress(DarksError):
                self._store.delete(entry.key)
