"""What an operating system's error says about whether trying again can help."""

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


def fault_of(error: OSError, root: Path, needed: int | None = None) -> DarksError | None:
    """Return the fault of the store at `root` that `error` means, or None if it means none.

    Parameters
    ----------
    error : OSError
    root : Path
        Folder that was written to or read from.
    needed : int, optional
        Bytes that were to be written.

    Returns
    -------
    StoreUnavailable, EnvironmentFault or None
        The first where the disk is full (`NoSpaceLeft`) or failing, the second where its owner must
        change something.
    """
    if error.errno in _NO_ROOM:
        # Not all that is written lies in the store: jwst and CRDS have folders of their own.
        elsewhere = error.filename and not Path(os.fsdecode(error.filename)).is_relative_to(root)
        folder = Path(os.fsdecode(error.filename)).parent if elsewhere else root
        asked = f"{needed} bytes were needed, " if needed is not None else ""
        return NoSpaceLeft(
            f"no space left on {folder}: {asked}{_free(folder)} bytes are free; make room and run again"
        )
    if is_passing(error):
        where = error.filename or root
        return StoreUnavailable(f"the store on {root} failed at {where}: {error.strerror}; check the disk")
    if error.errno in _NOT_ALLOWED:
        where = error.filename or root
        return EnvironmentFault(
            f"the store on {root} may not be used at {where}: {error.strerror}; "
            "give this user permission to it, or choose another folder"
        )
    if error.errno == errno.EFBIG:
        return EnvironmentFault(
            f"the store on {root} may not take a file this large: {error.strerror}; raise `ulimit -f`, "
            "or choose a file system that takes larger files"
        )
    return None


@contextlib.contextmanager
def store_faults(root: Path, needed: int | None = None) -> Iterator[None]:
    """Raise an operating system's error as the fault of the store at `root` that it means, if any.

    Parameters are those of `fault_of`.
    """
    try:
        yield
    except OSError as error:
        fault = fault_of(error, root, needed)
        if fault is None:
            raise
        raise fault from error


def is_passing(error: OSError) -> bool:
    """Say whether an error is of a disk or a system that may do better the next time."""
    return error.errno in _PASSING


def _free(root: Path) -> str:
    try:
        return str(shutil.disk_usage(root).free)
    except OSError:
        return "an unknown number"
