"""Compiled kernels: numba's ``njit`` without the interpreter lock, cached on disk from the first call on.

Numba keeps a compiled kernel beside its module, or else in the user's own cache folder. In a container whose
file system is read-only it finds neither and refuses to cache at all; the kernel is then kept in the system's
temporary folder. ``NUMBA_CACHE_DIR``, where it is set, comes before all of these.

Numba compiles a kernel anew when the kernel's own file changes, but does not notice a change in what the file
imports and the compiler inlines: kernels and intrinsics of other modules, and numbers. `kernel` therefore
puts a digest of these into the name that the compiled code is cached under.
"""

import hashlib
import numbers
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import config

_DIGEST_LENGTH = 16


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function with numba at its first call, or load what an earlier process compiled.

    Parameters
    ----------
    function : callable
        Defined at the top level of a module, below the module's imports.

    Returns
    -------
    numba dispatcher
        It releases the interpreter lock while it runs.
    """
    if digest := _digest_of_imports(function):
        # The qualified name is part of the cache file's name, so a new digest finds no compiled code.
        function.__qualname__ = f"{function.__qualname__}_{digest}"
    try:
        return numba.njit(function, cache=True, nogil=True)
    except RuntimeError:
        # Numba found no folder that it may write to.
        folder = _temporary_folder()
    if folder is None:
        return numba.njit(function, nogil=True)
    config.CACHE_DIR = str(folder)
    return numba.njit(function, cache=True, nogil=True)


def _digest_of_imports(function: Callable[..., Any]) -> str:
    """Return a digest of what numba inlines from outside the function's file; empty if nothing is."""
    own = function.__module__
    modules = _compiled_modules(own) - {own}
    # Contents, not dates: otherwise no clone or image layer would find what was compiled elsewhere.
    parts = [Path(str(sys.modules[name].__file__)).read_bytes() for name in sorted(modules)]
    parts += [
        f"{name} = {value!r}".encode()
        for name, value in sorted(vars(sys.modules[own]).items())
        if isinstance(value, numbers.Number)
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:_DIGEST_LENGTH] if parts else ""


def _compiled_modules(start: str) -> set[str]:
    """Return a module and those whose kernels or intrinsics it imports, directly or through others."""
    modules, pending = set(), [start]
    while pending:
        name = pending.pop()
        modules.add(name)
        for value in vars(sys.modules[name]).values():
            # Numba's dispatchers and intrinsics carry the name of the module that defines them.
            if type(value).__module__.startswith("numba."):
                origin = str(value.__module__)
                if origin not in modules and not origin.startswith("numba."):
                    pending.append(origin)
    return modules


def _temporary_folder() -> Path | None:
    """Return this user's own folder for compiled code; None if none can be made."""
    folder = Path(tempfile.gettempdir()) / f"nircam-darks-{os.getuid()}-kernels"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            # Whatever lies there is run as code, and anybody may write to the temporary folder.
            folder = Path(tempfile.mkdtemp(prefix="nircam-darks-kernels-"))
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder
