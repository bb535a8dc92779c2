"""Errors of the operating system: which failure of the store they mean, and whether trying again can help."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from shared.errors import DarksError, EnvironmentFault, NoSpaceLeft, StoreUnavailable

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOT_ALLOWED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_PASSING = frozenset(
    {errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.ETIMEDOUT, errno.ENOTCONN}
)


def disk_fault(error: OSError, root: Path, needed: int | None = None) -> DarksError | None:
    """Return the error to raise for a failed operation on the store at `root`, or None for any other failure.

    Parameters
    ----------
    error : OSError
    root : Path
        Folder of the store.
    needed : int, optional
        Bytes that were to be written.

    Returns
    -------
    StoreUnavailable, EnvironmentFault or None
        `StoreUnavailable` if the disk is full (`NoSpaceLeft`) or failing, `EnvironmentFault` if its owner
        must change something.
    """
    if error.errno in _NO_ROOM:
        # jwst and CRDS also write to folders of their own, outside of the store.
        elsewhere = error.filename and not Path(os.fsdecode(error.filename)).is_relative_to(root)
        folder = Path(os.fsdecode(error.filename)).parent if elsewhere else root
        asked = f"{needed} bytes were needed, " if needed is not None else ""
        return NoSpaceLeft(
            f"no space left on {folder}: {asked}{_free(folder)} bytes are free; make room and run again",
            where=folder,
        )
    if is_passing(error):
        where = error.filename or root
        return StoreUnavailable(
            f"the store on {root} failed at {where}: {error.strerror}; check the disk", where=where
        )
    if error.errno in _NOT_ALLOWED:
        where = error.filename or root
        return EnvironmentFault(
            f"the store on {root} may not be used at {where}: {error.strerror}; "
            "give this user permission to it, or choose another folder",
            where=where,
        )
    if error.errno == errno.EFBIG:
        return EnvironmentFault(
            f"the store on {root} may not take a file this large: {error.strerror}; raise `ulimit -f`, "
            "or choose a file system that takes larger files",
            where=root,
        )
    return None


@contextlib.contextmanager
def store_faults(root: Path, needed: int | None = None) -> Iterator[None]:
    """Raise the `OSError`s within the context as `disk_fault` gives them.

    The parameters are those of `disk_fault`.
    """
    try:
        yield
    except OSError as error:
        fault = disk_fault(error, root, needed)
        if fault is None:
            raise
        raise fault from error


def is_passing(error: OSError) -> bool:
    """Return whether the same operation may succeed the next time."""
    return error.errno in _PASSING


def _free(root: Path) -> str:
    try:
        return str(shutil.disk_usage(root).free)
    except OSError:
        return "an unknown number"
