"""What an operating system's error says about whether trying again can help."""

import errno
import shutil
from pathlib import Path

from shared.errors import DarksError, EnvironmentFault, StoreUnavailable

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
        The first where the disk is full or failing, the second where its owner must change something.
    """
    if error.errno in _NO_ROOM:
        asked = f"{needed} bytes were needed, " if needed is not None else ""
        return StoreUnavailable(
            f"no space left on {root}: {asked}{_free(root)} are free; make room and run again"
        )
    if error.errno in _PASSING:
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


def _free(root: Path) -> str:
    try:
        return str(shutil.disk_usage(root).free)
    except OSError:
        return "an unknown number"
