"""The store protocol: objects under keys, in the terms of S3, whether in a folder or in a bucket."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from shared.errors import DamagedObject


class ObjectInfo(NamedTuple):
    """Size and digest of an object that was written.

    Attributes
    ----------
    size : int
        Bytes.
    sha256 : str
        Hex digest of the bytes.
    """

    size: int
    sha256: str


#: Takes the bytes of a file, piece by piece in order, while the store hashes them.
Watch = Callable[[memoryview], None]


class ObjectReader(Protocol):
    """Random access to one object's bytes."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`; a shorter object is an error of the store."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer with the bytes from `offset` on; a shorter object is an error of the store.

        Several threads may read at once.
        """
        ...

    def forget(self) -> None:
        """Drop bytes that were read ahead or kept, so that the next read asks the store again."""
        ...

    def close(self) -> None:
        """Close the object."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Store(Protocol):
    """Objects under keys. Every put is all or nothing; nothing half-written is ever visible.

    Keys are ``/``-separated; no implementation accepts an empty part, ``.``, ``..`` or a leading ``/``.
    Every method raises `shared.errors.StoreUnavailable` if trying again may help.
    """

    def put(self, key: str, data: bytes) -> ObjectInfo:
        """Write `data` under `key`, replacing what is there."""
        ...

    def put_file(self, key: str, path: Path, watch: Watch | None = None) -> ObjectInfo:
        """Store the finished file at `path` as `key`; the file may be moved away.

        `watch` sees the bytes in the same pass in which they are hashed.
        """
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write only if there is no object under `key` (If-None-Match: *); return False if there is one."""
        ...

    def get(self, key: str) -> bytes:
        """Return the whole object; `KeyError` if there is none.

        A store that keeps digests raises `shared.errors.DamagedObject` if the bytes are not those that were
        put, also when they are read again.
        """
        ...

    def open(self, key: str) -> ObjectReader:
        """Open an object for ranged reads; `KeyError` if there is none.

        Every read is of the object that was opened. Once it was replaced or deleted, a store that does not
        keep it raises `StoreUnavailable`; it never returns bytes of another object.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, in ascending order."""
        ...

    def uri(self, key: str) -> str:
        """Return the address by which people and messages refer to this object."""
        ...

    def scratch(self) -> Path:
        """Return a folder on this machine's disk for unfinished files.

        If the store is on the same disk, `put_file` from there is a rename. Each process has its own folder;
        what a killed process left is removed by the next process that opens the store.
        """
        ...

    def close(self) -> None:
        """Close the store and remove this process's scratch folder."""
        ...


def hash_file(path: Path, watch: Watch | None = None) -> str:
    """Return the sha256 of a file in hex digits, and give `watch` its bytes on the way.

    The file is read once, in pieces of 1 MiB, through one buffer: a watch must not keep what it is given.
    """
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_HASHED_AT_ONCE))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            digest.update(buffer[:size])
            if watch is not None:
                watch(buffer[:size])
    return digest.hexdigest()


_HASHED_AT_ONCE = 1 << 20
#: A bucket answers as many requests as quickly as one.
_FETCHED_AT_ONCE = 16


def get_many(
    store: Store, keys: Iterable[str], tell: Callable[[str, DamagedObject], None] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield the key and the bytes of each object that exists, in the order of `keys`.

    Several objects are fetched at once, but only a few are held in memory, however many keys there are.

    Parameters
    ----------
    store : Store
    keys : iterable of str
    tell : callable, optional
        Called with the key and the error of an object that is damaged, which is then passed over.

    Raises
    ------
    DamagedObject
        If an object is damaged and nobody is to be told.
    StoreUnavailable
        If the store does not answer.
    """

    def get(key: str) -> tuple[str, bytes | DamagedObject | None]:
        try:
            return key, store.get(key)
        except KeyError:
            # Removed since it was listed.
            return key, None
        except DamagedObject as error:
            return key, error

    remaining = iter(keys)
    with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
        while batch := list(itertools.islice(remaining, _FETCHED_AT_ONCE)):
            for key, body in map(get, batch) if len(batch) == 1 else pool.map(get, batch):
                if isinstance(body, DamagedObject):
                    if tell is None:
                        raise body
                    tell(key, body)
                elif body is not None:
                    yield key, body
