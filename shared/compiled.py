"""Compiled kernels: numba's njit without the interpreter's lock, and a cache of its own where that is needed.

A kernel is compiled once and kept beside its module, else in the user's own cache folder. In a container
whose file system is read-only neither can be written, and numba would refuse to cache at all: then it is
kept in the system's temporary folder. NUMBA_CACHE_DIR, where it is set, comes before all of these.

A kernel calls only kernels of its own module: numba does not notice that those of another one changed.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import config


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function with numba at its first call, or take what an earlier process compiled."""
    try:
        return numba.njit(function, cache=True, nogil=True)
    except RuntimeError:
        # Numba found no folder that it may write to.
        folder = _temporary()
    if folder is None:
        return numba.njit(function, nogil=True)
    config.CACHE_DIR = str(folder)
    return numba.njit(function, cache=True, nogil=True)


def _temporary() -> Path | None:
    """Return this user's own folder for compiled code; None where there is no room for one."""
    folder = Path(tempfile.gettempdir()) / f"nircam-darks-{os.getuid()}-kernels"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            # What lies there is code, and everybody may write to a temporary folder.
            folder = Path(tempfile.mkdtemp(prefix="nircam-darks-kernels-"))
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder
