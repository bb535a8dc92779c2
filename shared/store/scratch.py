"""Scratch folders: each belongs to one process, and is removed when the process ends or soon after."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

_ALIVE = "alive"


class ScratchFolders:
    """The scratch folders of every process that uses one store.

    The owner of a folder holds a lock on the file ``alive`` in it. The operating system releases the lock
    when the owner ends, in whatever way, so a lock that can be taken means that nobody uses the folder. A
    pid would not tell, because pids are reused.

    Parameters
    ----------
    folder : Path
        Where all of them lie; created with the first one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own: Path | None = None
        self._alive = -1
        self._owner = 0

    def own(self) -> Path:
        """Return this process's folder, which is created at the first call."""
        if self._own is None or self._owner != os.getpid():
            self.folder.mkdir(parents=True, exist_ok=True)
            # Under the common lock, no sweep sees the folder before its own lock is held.
            with self.locked():
                own = self.folder / f"{os.getpid()}-{uuid4().hex[:8]}"
                own.mkdir()
                alive = os.open(own / _ALIVE, os.O_RDWR | os.O_CREAT, 0o644)
                fcntl.flock(alive, fcntl.LOCK_EX)
            self._own, self._alive, self._owner = own, alive, os.getpid()
        return self._own

    def remove_own(self) -> None:
        """Remove this process's folder with all that is in it."""
        if self._own is None or self._owner != os.getpid():
            return
        shutil.rmtree(self._own, ignore_errors=True)
        os.close(self._alive)
        self._own, self._alive = None, -1

    def sweep(self) -> None:
        """Remove the folders of processes that have ended."""
        if not self.folder.is_dir():
            return
        with self.locked():
            for folder in self.folder.iterdir():
                if folder.is_dir() and _abandoned(folder):
                    shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that every process using the store shares."""
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _abandoned(folder: Path) -> bool:
    try:
        fd = os.open(folder / _ALIVE, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
