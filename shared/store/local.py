"""The store in a folder: objects are files on this machine's disk."""

import contextlib
import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from shared.addresses import checked_key
from shared.errors import StoreUnavailable
from shared.store.base import ObjectInfo, ObjectReader, Watch, hash_file
from shared.store.faults import disk_fault, store_faults
from shared.store.ranged_file import RangedFile
from shared.store.scratch import ScratchFolders

# Errors of `os.link` on file systems without hard links (exFAT, many network mounts).
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

_T = TypeVar("_T")


class LocalReader(RangedFile):
    """Reads ranges of one object; raises `StoreUnavailable` if it is too short or the disk fails."""

    def __init__(self, root: Path, key: str, path: Path) -> None:
        self._root = root
        self._key = key
        super().__init__(path)

    def _failed(self, error: OSError) -> Exception:
        return disk_fault(error, self._root) or error

    def _short(self, offset: int, length: int, have: int) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._key} in {self._root}: {length} bytes were requested from byte {offset}, {have} arrived "
            f"(the object has {self.size}); if this stays so, delete its product's folder and run again",
            where=self._key,
        )


class LocalStore:
    """A `shared.store.base.Store` in a folder.

    A key is a path under `root`. An object is written under ``root/.scratch``, synced to the disk and only
    then given its name, so that a reader sees all of it or nothing, even after a crash.

    Parameters
    ----------
    root : Path
        Created at the first write. Several processes may use it at once.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self._scratch = ScratchFolders(self.root / ".scratch")
        self._lock = threading.Lock()
        with contextlib.suppress(OSError):
            # A user who may only read here has nothing to clean up.
            self._scratch.sweep()

    def __reduce__(self) -> tuple[Any, ...]:
        return (LocalStore, (self.root,))

    def put(self, key: str, data: bytes) -> ObjectInfo:
        """Write `data` under `key`, replacing what is there."""
        target = self._path(key)
        with store_faults(self.root, len(data)), self._finished(data) as source:
            self._name(source, target)
        return ObjectInfo(len(data), hashlib.sha256(data).hexdigest())

    def put_file(self, key: str, path: Path, watch: Watch | None = None) -> ObjectInfo:
        """Take the finished file at `path` in as `key`; a file on the same file system is moved."""
        target = self._path(key)
        size = path.stat().st_size
        with store_faults(self.root, size):
            digest = hash_file(path, watch)
            with path.open("rb") as file:
                os.fsync(file.fileno())
            try:
                if path.is_symlink():
                    raise OSError(errno.EXDEV, "a link is not the file")
                self._name(path, target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                with self._finished(path) as source:
                    self._name(source, target)
                path.unlink()
        return ObjectInfo(size, digest)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write only if there is no object under `key`, else return False; one of many writers wins."""
        target = self._path(key)
        if target.is_file():
            return False
        with store_faults(self.root, len(data)), self._finished(data) as source:
            return self._placed(target, lambda: self._link(source, target))

    def get(self, key: str) -> bytes:
        """Return the whole object; `KeyError` if there is none."""
        with self.open(key) as reader:
            return reader.read(0, reader.size)

    def open(self, key: str) -> ObjectReader:
        """Open an object for ranged reads; `KeyError` if there is none."""
        path = self._path(key)
        with store_faults(self.root):
            if path.is_dir():
                raise KeyError(key)
            try:
                return LocalReader(self.root, key, path)
            except (FileNotFoundError, NotADirectoryError):
                raise KeyError(key) from None

    def delete(self, key: str) -> None:
        """Remove an object and the folders that it leaves empty; nothing happens if there is none."""
        path = self._path(key)
        with store_faults(self.root):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            with contextlib.suppress(FileNotFoundError):
                # Another `delete` may have removed the folder, which this one left empty.
                _sync_folder(path.parent)
            folder = path.parent
            with contextlib.suppress(OSError):
                while folder != self.root:
                    folder.rmdir()
                    folder = folder.parent

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, in ascending order, a folder at a time."""
        folder, _, _ = prefix.rpartition("/")
        if folder:
            self._path(folder)
        with store_faults(self.root):
            yield from self._walk(f"{folder}/" if folder else "", prefix)

    def uri(self, key: str) -> str:
        """Return the object's ``file://`` address."""
        return self._path(key).as_uri()

    def scratch(self) -> Path:
        """Return this process's own folder on the store's file system, for unfinished files."""
        with store_faults(self.root), self._lock:
            return self._scratch.own()

    def close(self) -> None:
        """Remove this process's scratch folder."""
        with self._lock:
            self._scratch.remove_own()

    def _path(self, key: str) -> Path:
        parts = checked_key(key).split("/")
        if parts[0] == self._scratch.folder.name:
            raise ValueError(f"{key!r} is not a key: {parts[0]} belongs to the store itself")
        return self.root.joinpath(*parts)

    def _walk(self, folder: str, prefix: str) -> Iterator[str]:
        try:
            with os.scandir(self.root / folder) as entries:
                # "a-b" comes before "a/b": a folder sorts with its slash.
                names = sorted(entry.name + "/" if entry.is_dir() else entry.name for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in names:
            key = folder + name
            if key == f"{self._scratch.folder.name}/":
                continue
            if not name.endswith("/"):
                if key.startswith(prefix):
                    yield key
            elif key.startswith(prefix) or prefix.startswith(key):
                yield from self._walk(key, prefix)

    @contextlib.contextmanager
    def _finished(self, content: bytes | Path) -> Iterator[Path]:
        """Give a scratch file with `content`, synced to the disk; remove it if it was not moved away."""
        path = self.scratch() / f"put-{uuid4().hex}"
        try:
            with path.open("xb") as file:
                if isinstance(content, Path):
                    with content.open("rb") as source:
                        shutil.copyfileobj(source, file, 1 << 20)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _name(self, source: Path, target: Path) -> None:
        self._placed(target, lambda: source.replace(target))

    def _link(self, source: Path, target: Path) -> bool:
        """Give `source` a second name, or return False if that name is taken."""
        try:
            os.link(source, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with self._scratch.locked():
                if target.exists():
                    return False
                source.rename(target)
        return True

    def _placed(self, target: Path, place: Callable[[], _T]) -> _T:
        """Create the folder of `target`, call `place`, and sync the new name to the disk."""
        tries = 3
        while True:
            try:
                _make_folder(target.parent)
                placed = place()
                break
            except FileNotFoundError:
                # A `delete` in another process may have removed a folder that was empty for a moment.
                tries -= 1
                if tries == 0 or target.parent.is_dir():
                    raise
        with contextlib.suppress(FileNotFoundError):
            _sync_folder(target.parent)
        return placed


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    # A new name survives a power cut only once its folder is synced.
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
