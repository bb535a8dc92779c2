"""Compiled kernels: numba's njit without the interpreter's lock, and a cache of its own where that is needed.

A kernel is compiled once and kept beside its module, else in the user's own cache folder. In a container
whose file system is read-only neither can be written, and numba would refuse to cache at all: then it is
kept in the system's temporary folder. NUMBA_CACHE_DIR, where it is set, comes before all of these.

Numba compiles a kernel anew when its own file changed. A kernel that has others of another module compiled in
says so (`built_on`): then it is compiled anew when one of those files changed, too.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
from numba.core import config


def kernel(function: Callable[..., Any], built_on: Sequence[ModuleType] = ()) -> Any:
    """Compile a function with numba at its first call, or take what an earlier process compiled.

    Parameters
    ----------
    function : callable
    built_on : sequence of module
        Other modules whose kernels or intrinsics it uses, and those that these use.
    """
    try:
        return _noticing(numba.njit(function, cache=True, nogil=True), built_on)
    except RuntimeError:
        # Numba found no folder that it may write to.
        folder = _temporary()
    if folder is None:
        return numba.njit(function, nogil=True)
    config.CACHE_DIR = str(folder)
    return _noticing(numba.njit(function, cache=True, nogil=True), built_on)


def _noticing(compiled: Any, modules: Sequence[ModuleType]) -> Any:
    """Let a kernel's cache be void once the file of another module changed; numba offers no way to."""
    if modules:
        kept = compiled._cache._cache_file
        files = [Path(str(module.__file__)) for module in modules]
        kept._source_stamp = (kept._source_stamp, *(_stamp(file) for file in files))
    return compiled


def _stamp(file: Path) -> str:
    # What is in it: with its date, an image's layers or a clone would never find what was compiled elsewhere.
    return hashlib.sha256(file.read_bytes()).hexdigest()


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
