"""The store Protocol: S3's words for objects, whatever keeps them."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self


class ObjectInfo(NamedTuple):
    """What a put wrote.

    Attributes
    ----------
    size : int
        Bytes.
    sha256 : str
        Hex digest of the bytes.
    """

    size: int
    sha256: str


class ObjectReader(Protocol):
    """Random access to one object's bytes."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`; fewer is an error of the store."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer of bytes with what lies from `offset` on; fewer is an error of the store.

        Several threads may read at once.
        """
        ...

    def close(self) -> None:
        """Let go of the object."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Store(Protocol):
    """Objects under keys. Every put is all or nothing; nothing half-written is ever visible.

    Keys are ``/``-separated; no implementation accepts an empty part, ``.``, ``..`` or a leading ``/``.
    Every method raises `shared.errors.StoreUnavailable` where trying again may help.
    """

    def put(self, key: str, data: bytes) -> ObjectInfo:
        """Write `data` under `key`, replacing what is there."""
        ...

    def put_file(self, key: str, path: Path) -> ObjectInfo:
        """Take the finished file at `path` in as `key`; the file at `path` may be moved away."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write only where nothing is there yet (If-None-Match: *); False if something was."""
        ...

    def get(self, key: str) -> bytes:
        """Return the whole object; `KeyError` if there is none."""
        ...

    def open(self, key: str) -> ObjectReader:
        """Open an object for ranged reads; `KeyError` if there is none.

        What is read is of the object that was opened. Once that was replaced or deleted, a store that
        does not keep it raises `StoreUnavailable`; it never gives another one's bytes.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, in ascending order."""
        ...

    def uri(self, key: str) -> str:
        """Return the address a person or a message uses for this object."""
        ...

    def scratch(self) -> Path:
        """Return a directory on this machine's disk for files in the making.

        `put_file` from there is a rename where the store is this disk. Each process has its own,
        and what a killed process left is removed by the next one that opens the store.
        """
        ...

    def close(self) -> None:
        """Let go of the store; this process's scratch directory is removed."""
        ...
