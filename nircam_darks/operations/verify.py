"""Compares every object of a store with what its product's manifest says of it.

The walk goes through the keys once, in their order, so that all keys of a product come together: what is in
memory is one product's keys and 8 MiB of one object, however large the store is.
"""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from shared.errors import BadInput, DamagedObject
from shared.products.ramp import RAMP
from shared.ramps.digests import DIGESTS, RampDigester, RampDigests
from shared.ramps.ramp import Ramp
from shared.store.base import ObjectReader, Store
from shared.store.manifest import MANIFEST, DamagedManifest, Manifest, ObjectEntry, find

#: Bytes of an object in memory.
_PIECE = 8 << 20
#: Where a damaged ramp differs is said of so many blocks at most.
_MOST_PLACES = 20
_IN_PRODUCT = re.compile(r"(?P<path>.+?/[0-9a-f]{32})/.+")
_DRAFT_OBJECT = re.compile(r"[0-9a-f]{8}/.+")

#: Called with the bytes that were read since the last call.
ReadTick = Callable[[int], None]


@dataclass(frozen=True)
class StoreFault:
    """Something in a store that is not as its manifest says.

    Attributes
    ----------
    kind : str
        ``"manifest"`` (cannot be read), ``"missing"``, ``"size"``, ``"sha256"`` (other bytes), ``"digests"``
        (the digests do not fit the ramp), or ``"orphan"``: an object in a product's folder that no manifest
        names, which a killed job left, or a running job has just written.
    key : str
        Of the object.
    product : str
        Path of the product.
    detail : str
        What is wrong, for people; of a ramp with digests, which HDU and rows.
    """

    kind: Literal["manifest", "missing", "size", "sha256", "digests", "orphan"]
    key: str
    product: str
    detail: str

    @property
    def is_damage(self) -> bool:
        """False for what is only left over."""
        return self.kind != "orphan"


@dataclass
class VerifiedStore:
    """What a walk went through.

    Attributes
    ----------
    products, objects, bytes_read : int
    without_digests : int
        Ramps that were made before ramps had digests: of these the readers cannot tell.
    damaged, orphans : int
        Faults of either kind.
    """

    products: int = 0
    objects: int = 0
    bytes_read: int = 0
    without_digests: int = 0
    damaged: int = 0
    orphans: int = 0


def verify_store(
    store: Store, result: VerifiedStore, tick: ReadTick = lambda size: None
) -> Iterator[StoreFault]:
    """Yield what is wrong in a store, as it is found.

    Parameters
    ----------
    store : Store
    result : VerifiedStore
        Counts along.
    tick : callable, optional

    Raises
    ------
    StoreUnavailable, EnvironmentFault
        If the store does not answer.
    """

    def read(size: int) -> None:
        result.bytes_read += size
        tick(size)

    for path, keys in itertools.groupby(store.list(""), _product_of):
        if path is None:
            continue
        for fault in _product_faults(store, path, list(keys), result, read):
            result.damaged += fault.is_damage
            result.orphans += not fault.is_damage
            yield fault


def _product_of(key: str) -> str | None:
    match = _IN_PRODUCT.fullmatch(key)
    return None if match is None else match["path"]


def _product_faults(
    store: Store, path: str, keys: Sequence[str], result: VerifiedStore, tick: ReadTick
) -> Iterator[StoreFault]:
    manifest_key = f"{path}/{MANIFEST}"
    named: set[str] = set()
    if manifest_key in keys:
        result.products += 1
        try:
            manifest = find(store, path)
        except DamagedManifest as error:
            # What it named is not known, so nothing beside it is called an orphan.
            yield StoreFault("manifest", manifest_key, path, str(error))
            return
        if manifest is None:
            # Removed since it was listed.
            return
        named = {entry.key for entry in manifest.objects}
        yield from _object_faults(store, manifest, result, tick)
    for key in keys:
        if key not in named and _DRAFT_OBJECT.fullmatch(key.removeprefix(f"{path}/")):
            yield StoreFault(
                "orphan", key, path, "no manifest names it; `nircam-darks reconcile --sweep` removes it"
            )


def _object_faults(
    store: Store, manifest: Manifest, result: VerifiedStore, tick: ReadTick
) -> Iterator[StoreFault]:
    digests: RampDigests | None = None
    faults: list[StoreFault] = []
    # The digests first: they say where a ramp is damaged.
    for entry in sorted(manifest.objects, key=lambda entry: entry.name != DIGESTS):
        result.objects += 1
        is_ramp = manifest.product == "ramp" and entry.name == RAMP
        fault, taken = _check(store, entry, manifest.path, is_ramp, tick)
        if fault is None and entry.name == DIGESTS:
            with suppress(ValueError, DamagedObject):
                digests = RampDigests.decode(store.get(entry.key))
            if digests is None:
                fault = StoreFault("digests", entry.key, manifest.path, "these are no digests of a ramp")
        if is_ramp and digests is None:
            result.without_digests += 1
        if is_ramp and digests is not None and taken is not None:
            places = list(itertools.islice(digests.damaged(taken), _MOST_PLACES))
            if places:
                kind = "digests" if fault is None else fault.kind
                fault = StoreFault(kind, entry.key, manifest.path, "; ".join(places))
        if fault is not None:
            faults.append(fault)
    yield from faults


def _check(
    store: Store, entry: ObjectEntry, path: str, is_ramp: bool, tick: ReadTick
) -> tuple[StoreFault | None, RampDigests | None]:
    """Return what is wrong with an object, if anything, and the digests of a ramp as it is now."""
    try:
        reader = store.open(entry.key)
    except KeyError:
        return StoreFault("missing", entry.key, path, f"{entry.name} is not in the store"), None
    with reader:
        if reader.size != entry.size:
            detail = f"{entry.name} has {reader.size} bytes, {entry.size} were written"
            return StoreFault("size", entry.key, path, detail), None
        for _ in range(2):
            sha256, digests = _sums(reader, is_ramp, tick)
            if sha256 == entry.sha256:
                return None, digests
            # Once more, in case a bit was flipped on the way.
            reader.forget()
    detail = f"the sha256 of {entry.name} is {sha256}, of what was written {entry.sha256}"
    return StoreFault("sha256", entry.key, path, detail), digests


def _sums(reader: ObjectReader, is_ramp: bool, tick: ReadTick) -> tuple[str, RampDigests | None]:
    digester: RampDigester | None = None
    if is_ramp:
        # Headers that cannot be read have no digests to compare; the sha256 tells of them.
        with suppress(BadInput):
            digester = RampDigester(Ramp(reader, "ramp"))
    digest, buffer = hashlib.sha256(), memoryview(bytearray(min(_PIECE, reader.size)))
    for start in range(0, reader.size, _PIECE):
        piece = buffer[: min(_PIECE, reader.size - start)]
        reader.read_into(start, piece)
        digest.update(piece)
        if digester is not None:
            digester.update(piece)
        tick(len(piece))
    return digest.hexdigest(), None if digester is None else digester.finish()
