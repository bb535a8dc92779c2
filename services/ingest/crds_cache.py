"""Fetches reference files into a CRDS cache that several processes may share: each file once, and whole.

CRDS's client fetches a file under a temporary name and moves it into place. Two things are left over. It
compares size and sha1 with what the server says only after the move, logs a difference, and leaves the file
in the cache, where every process takes it for whole. And a second process waits 5 s for a file that another
one fetches, and then goes on without it; a full-frame reference takes longer.

So whoever finds a file missing fetches it while it holds a lock in the cache's folder, and removes it again
unless it is what the server says. Others wait, and find it. A cache without a server, or one that must not be
written to, is only read.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from crds.client import api
from crds.core import config, heavy_client, utils
from crds.core.exceptions import CrdsDownloadError
from stpipe import crds_client

_OBSERVATORY = "jwst"
#: Names of lock files in the folder of the cache: the rules are small, and needed first.
_RULES, _FILES = ".fetching-rules.lock", ".fetching-references.lock"


def has_server() -> bool:
    """Return whether the environment names a CRDS server that files can be fetched from."""
    server = os.environ.get("CRDS_SERVER_URL", "")
    return bool(server) and "serverless" not in server and "server-less" not in server


def may_fetch() -> bool:
    """Return whether files can be fetched into the cache."""
    return has_server() and not config.get_cache_readonly()


def fetched_references(parameters: Mapping[str, Any], types: Sequence[str]) -> dict[str, str]:
    """Return the path of the reference that CRDS selects, by type, in the cache; ``"N/A"`` if it has none.

    Parameters
    ----------
    parameters : mapping
        What CRDS matches on.
    types : sequence of str

    Raises
    ------
    Exception
        As CRDS does, see `services.ingest.references.crds_faults`. No half of a file is left in the cache.
    """
    if may_fetch():
        with _lock(_RULES):
            selected = heavy_client.getrecommendations(
                dict(parameters), reftypes=tuple(types), observatory=_OBSERVATORY
            )
        missing = [path for name in selected.values() if (path := _place(name)) and not path.exists()]
        if missing:
            with _lock(_FILES):
                return _fetch(parameters, types, missing)
    return _get(parameters, types)


def fetch_again(broken: Sequence[Path], parameters: Mapping[str, Any], types: Sequence[str]) -> None:
    """Fetch files of the cache that are not whole once more, unless another process just did.

    Parameters
    ----------
    broken : sequence of Path
    parameters, types
        As for `fetched_references`.
    """
    states = {path: _state(path) for path in broken}
    with _lock(_FILES):
        for path, state in states.items():
            if _state(path) == state:
                path.unlink(missing_ok=True)
        _fetch(parameters, types, list(broken))


def _fetch(parameters: Mapping[str, Any], types: Sequence[str], missing: Sequence[Path]) -> dict[str, str]:
    to_come = [path for path in missing if not path.exists()]
    try:
        selected = _get(parameters, types)
        for path in to_come:
            _require_whole(path)
        return selected
    except BaseException:
        for path in to_come:
            path.unlink(missing_ok=True)
        raise


def _require_whole(path: Path) -> None:
    """Raise `CrdsDownloadError` unless a file has the size and the sha1 that the server says, if it does."""
    if not path.exists():
        # For CRDS, that is a line in the log.
        raise CrdsDownloadError(f"{path.name} was not fetched")
    said = api.get_download_metadata().get(path.name)
    if not isinstance(said, Mapping):
        return
    size, digest = int(said["size"]), said.get("sha1sum")
    if config.get_length_flag() and path.stat().st_size != size:
        raise CrdsDownloadError(f"{path.name} has {path.stat().st_size} bytes, and the server says {size}")
    if (
        config.get_checksum_flag()
        and digest not in ("", "none", None)
        and utils.checksum(str(path)) != digest
    ):
        raise CrdsDownloadError(f"{path.name} has another sha1 than the server says")


def _get(parameters: Mapping[str, Any], types: Sequence[str]) -> dict[str, str]:
    return dict(crds_client.get_multiple_reference_paths(dict(parameters), list(types), _OBSERVATORY))


def _place(name: str) -> Path | None:
    """Return where a reference lies in the cache; None if CRDS names none."""
    if name.upper().startswith(("NOT FOUND", "N/A", "UNDEFINED")):
        return None
    return Path(config.locate_file(name, _OBSERVATORY))


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Hold a lock in the folder of the cache; without one where that folder has no locks."""
    folder = Path(config.get_crds_path())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / name).open("a")
    except OSError:
        # CRDS says what is wrong with the folder.
        yield
        return
    with file:
        # A network file system may have no locks: CRDS's own are left then.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
