"""A store that counts the bytes read and written through it, for the metrics, and the requests."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from shared.store.base import ObjectInfo, ObjectReader, Store, Watch


@dataclass(frozen=True)
class StoreTraffic:
    """Bytes that were read from and written to a store."""

    read: int = 0
    written: int = 0


NO_TRAFFIC = StoreTraffic()
#: Keys that one request of a bucket lists.
_PAGE = 1000


class CountingStore:
    """A `shared.store.base.Store` that passes everything on to another store, and counts.

    Any number of threads may read at once; only one may write.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._read = 0
        self._written = 0
        self._requests = 0

    @property
    def requests(self) -> int:
        """Requests that a bucket would have had so far: a listing is one for each thousand keys."""
        return self._requests

    @property
    def traffic(self) -> StoreTraffic:
        """Bytes read and written so far."""
        return StoreTraffic(self._read, self._written)

    def count_read(self, size: int) -> None:
        """Count bytes that one of the readers returned."""
        with self._lock:
            self._read += size

    def count_request(self) -> None:
        """Count a request."""
        with self._lock:
            self._requests += 1

    def put(self, key: str, data: bytes) -> ObjectInfo:
        """Write `data` under `key`."""
        self.count_request()
        info = self._store.put(key, data)
        self._written += info.size
        return info

    def put_file(self, key: str, path: Path, watch: Watch | None = None) -> ObjectInfo:
        """Take a finished file in as `key`."""
        self.count_request()
        info = self._store.put_file(key, path, watch)
        self._written += info.size
        return info

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write only if there is no object under `key`."""
        self.count_request()
        written = self._store.put_if_absent(key, data)
        if written:
            self._written += len(data)
        return written

    def get(self, key: str) -> bytes:
        """Return the whole object."""
        self.count_request()
        data = self._store.get(key)
        self.count_read(len(data))
        return data

    def open(self, key: str) -> ObjectReader:
        """Open an object for ranged reads."""
        self.count_request()
        return _CountingReader(self, self._store.open(key))

    def delete(self, key: str) -> None:
        """Remove an object."""
        self.count_request()
        self._store.delete(key)

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`."""
        self.count_request()
        for number, key in enumerate(self._store.list(prefix)):
            if number and number % _PAGE == 0:
                self.count_request()
            yield key

    def uri(self, key: str) -> str:
        """Return the object's address."""
        return self._store.uri(key)

    def scratch(self) -> Path:
        """Return this process's folder for unfinished files."""
        return self._store.scratch()

    def close(self) -> None:
        """Close the store."""
        self._store.close()


class _CountingReader(AbstractContextManager["_CountingReader", None]):
    def __init__(self, owner: CountingStore, reader: ObjectReader) -> None:
        self._owner = owner
        self._reader = reader

    @property
    def size(self) -> int:
        return self._reader.size

    def read(self, offset: int, length: int) -> bytes:
        self._owner.count_request()
        data = self._reader.read(offset, length)
        self._owner.count_read(len(data))
        return data

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._owner.count_request()
        self._reader.read_into(offset, buffer)
        self._owner.count_read(len(buffer))

    def forget(self) -> None:
        self._reader.forget()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._reader.close()
