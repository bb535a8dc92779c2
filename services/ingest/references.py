"""Reference files: where each comes from, whether it fits the exposure, and what CRDS failures mean."""

import errno
import functools
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from crds.core import log as crds_log
from crds.core.exceptions import CrdsDownloadError, CrdsError, CrdsLookupError, CrdsNetworkError
from stpipe import crds_client

from services.ingest.crds_cache import fetch_again, fetched_references, has_server, may_fetch
from services.ingest.steps import REFERENCE_TYPES
from shared.errors import EnvironmentFault, TransientError
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.geometry import science_pixels
from shared.products.unserved import AbsentKind
from shared.store.sources import sha256_of

#: Every type of reference file that one of our steps uses.
KNOWN_TYPES: tuple[str, ...] = tuple(dict.fromkeys(t for types in REFERENCE_TYPES.values() for t in types))
_LOGGERS = ("jwst", "stcal", "stdatamodels", "stpipe", "CRDS", "py.warnings")
_NO_WRITING = (errno.EROFS, errno.EACCES, errno.EPERM)
_SET_UP = (
    "set CRDS_PATH to a CRDS cache (it has config/jwst/server_config in it), or CRDS_SERVER_URL to a "
    "server that answers; --override reftype=path replaces single references, not the cache"
)


class AbsentReference(EnvironmentFault):
    """There is no reference file of some type for a configuration; others may be served."""

    kind: AbsentKind = "N/A"


class MissingReference(AbsentReference):
    """CRDS has no reference file of some type for a configuration."""


class UncachedReference(AbsentReference):
    """CRDS has a reference file for a configuration, and the cache lacks it, which no server fills."""

    kind: AbsentKind = "not in the cache"


def types_for(steps: Iterable[str]) -> list[str]:
    """Return the types of reference files that steps use."""
    return list(dict.fromkeys(t for step in steps for t in REFERENCE_TYPES[step]))


def crds_context() -> str:
    """Return the CRDS context (such as ``jwst_1234.pmap``) that selects the references.

    Raises
    ------
    EnvironmentFault
        If there is neither a CRDS cache nor a server.
    """
    with crds_faults("the CRDS context"), quiet_pipeline():
        return str(crds_client.get_context_used("jwst"))


def override_digests(overrides: Mapping[str, Path], types: Iterable[str]) -> dict[str, str]:
    """Return the sha256 of each reference override whose type is among `types`.

    Raises
    ------
    EnvironmentFault
        If an override's type is unknown, or its file cannot be read or has another REFTYPE.
    """
    unknown = sorted(set(overrides) - set(KNOWN_TYPES))
    if unknown:
        raise EnvironmentFault(
            f"--override {unknown[0]}={overrides[unknown[0]]}: no step uses reference files of that type; "
            f"known: {', '.join(KNOWN_TYPES)}"
        )
    digests = {}
    for reftype in types:
        if reftype in overrides:
            path = overrides[reftype]
            try:
                state = path.stat()
                digests[reftype] = _digest(path.absolute(), state.st_mtime_ns, state.st_size)
                actual = _reftype(path.absolute(), state.st_mtime_ns, state.st_size)
            except (OSError, ValueError, TypeError) as error:
                raise _unreadable(reftype, path, error) from error
            if actual not in ("", reftype):
                raise EnvironmentFault(
                    f"--override {reftype}={path}: the file's header says REFTYPE = {actual.upper()!r}; "
                    f"give a {reftype.upper()} reference, or write --override {actual}={path}",
                    where=path,
                    keyword="REFTYPE",
                    setting="--override",
                )
    return digests


@functools.lru_cache(maxsize=64)
def _digest(path: Path, mtime_ns: int, size: int) -> str:
    return sha256_of(path)


@functools.lru_cache(maxsize=64)
def _reftype(path: Path, mtime_ns: int, size: int) -> str:
    return str(fits.getheader(path).get("REFTYPE", "")).strip().lower()


def crds_parameters(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return what CRDS matches on, by datamodel names, from the primary header of an exposure alone."""
    from stdatamodels.jwst.datamodels import JwstDataModel

    cards = fits.Header([(keyword, value) for keyword, value in header.items() if len(keyword) <= 8])
    with (
        quiet_pipeline(),
        JwstDataModel(fits.HDUList([fits.PrimaryHDU(header=cards)]), validate_on_assignment=False) as model,
    ):
        return dict(model.get_crds_parameters())


def find_references(
    parameters: Mapping[str, Any], types: list[str], overrides: Mapping[str, Path], where: str
) -> dict[str, Path]:
    """Return the reference file of each type: the override, else the one that CRDS selects.

    Parameters
    ----------
    parameters : mapping
        The exposure's metadata by datamodel names, on which CRDS matches.
    types : list of str
    overrides : mapping of str to Path
    where : str
        The exposure, for errors.

    Raises
    ------
    EnvironmentFault
        If CRDS is not set up; `MissingReference` if it has no reference of a type for this exposure,
        `UncachedReference` if the cache lacks it.
    TransientError
        If the CRDS server does not answer.
    """
    files = {reftype: overrides[reftype].absolute() for reftype in types if reftype in overrides}
    wanted = [reftype for reftype in types if reftype not in files]
    if wanted:
        with crds_faults(where), quiet_pipeline():
            selected = fetched_references(parameters, wanted)
            paths = [Path(path) for path in selected.values() if path != "N/A"]
            if may_fetch() and (broken := [path for path in paths if _fault_of(path) is not None]):
                fetch_again(broken, parameters, wanted)
        for reftype in wanted:
            path = selected.get(reftype, "N/A")
            if path == "N/A":
                raise MissingReference(
                    f"{where}: CRDS has no {reftype.upper()} reference for this configuration; choose "
                    f"another CRDS_CONTEXT, or give --override {reftype}=path"
                )
            files[reftype] = Path(path)
            if not files[reftype].exists():
                raise UncachedReference(
                    f"{where}: the {reftype.upper()} reference {Path(path).name} is not in the CRDS cache "
                    f"{os.environ.get('CRDS_PATH', '')}, and was not fetched; fetch it with `crds sync`, or "
                    "set CRDS_SERVER_URL and let the cache be written to",
                    where=path,
                    setting="CRDS_SERVER_URL",
                )
    return files


def check_reference(
    reftype: str, path: Path, key: ConfigurationKey, where: str, overridden: bool = False
) -> None:
    """Check that a reference file is whole, and covers the exposure's detector and subarray.

    Raises
    ------
    EnvironmentFault
        If not; the message names the reference, the keyword and both values.
    TransientError
        If a file of the CRDS cache is not whole: another worker may be fetching it just now (crds#1228).
    """
    error = _fault_of(path)
    if error is not None:
        fault = _unreadable(reftype, path, error)
        if overridden or isinstance(error, FileNotFoundError):
            raise fault from error
        raise TransientError(
            f"{fault}; if nobody is fetching it, remove it, so that it is fetched again", where=path
        ) from error
    with fits.open(path, memmap=True) as hdus:
        header = hdus[0].header
    name = f"{where}: {reftype.upper()} reference {path}"
    detector = header.get("DETECTOR")
    if detector is not None and str(detector).strip() not in (key.detector, "ANY", "N/A"):
        raise EnvironmentFault(
            f"{name} is for another detector: DETECTOR = {str(detector).strip()!r}, the exposure's is "
            f"{key.detector!r}; give the one for {key.detector}, or leave the override away"
        )
    corner = [header.get(keyword) for keyword in ("SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2")]
    if not all(isinstance(value, int) for value in corner):
        return
    x0, y0, nx, ny = corner
    if (
        key.substrt1 < x0
        or key.substrt2 < y0
        or key.substrt1 + key.subsize1 > x0 + nx
        or key.substrt2 + key.subsize2 > y0 + ny
    ):
        raise EnvironmentFault(
            f"{name} does not cover the exposure: SUBSTRT1,2 and SUBSIZE1,2 are {x0},{y0} and {nx},{ny}, the "
            f"exposure's {key.substrt1},{key.substrt2} and {key.subsize1},{key.subsize2}"
        )


def _fault_of(path: Path) -> Exception | None:
    """Return why a reference file is not whole, None if it is; only its headers are read."""
    try:
        with warnings.catch_warnings():
            # That the file may have been truncated is found here, too, and told as an error.
            warnings.simplefilter("ignore", AstropyUserWarning)
            with fits.open(path, memmap=True) as hdus:
                ends = [info["datLoc"] + info["datSpan"] for info in map(fits.PrimaryHDU.fileinfo, hdus)]
        if len(ends) == 1:
            raise OSError("it ends before its first extension")
        expected, size = max(ends), path.stat().st_size
        if size < expected:
            raise OSError(f"it ends after {size} bytes, and its headers announce {expected}")
    except (OSError, ValueError, TypeError) as error:
        return error
    return None


def median_gain(path: Path, key: ConfigurationKey) -> float:
    """Return the median of a GAIN reference over the exposure's science pixels, e-/DN.

    Raises
    ------
    EnvironmentFault
        If the file has no usable gain for these pixels.
    """
    try:
        with fits.open(path, memmap=True) as hdus:
            header = hdus[0].header
            y = key.substrt2 - int(header.get("SUBSTRT2", 1))
            x = key.substrt1 - int(header.get("SUBSTRT1", 1))
            values = np.array(hdus["SCI"].section[y : y + key.subsize2, x : x + key.subsize1], np.float64)
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise _unreadable("gain", path, error) from error
    if values.shape != (key.subsize2, key.subsize1):
        raise EnvironmentFault(f"GAIN reference {path}: does not cover {key.subarray} of {key.detector}")
    good = values[science_pixels(key) & np.isfinite(values) & (values > 0)]
    if not good.size:
        raise EnvironmentFault(f"GAIN reference {path}: no science pixel has a gain")
    return float(np.median(good))


@contextmanager
def crds_faults(where: str) -> Iterator[None]:
    """Raise every failure of CRDS, SystemExit included, as an error with one line for the cache's owner."""
    try:
        yield
    except SystemExit as error:
        path = os.environ.get("CRDS_PATH")
        cache = f"{path} (CRDS_PATH) holds no CRDS cache" if path else "CRDS_PATH is not set"
        raise EnvironmentFault(f"{where}: {cache}, and no CRDS server answers; {_SET_UP}") from error
    except (CrdsDownloadError, CrdsNetworkError) as error:
        if has_server():
            server = os.environ["CRDS_SERVER_URL"]
            raise TransientError(f"{where}: the CRDS server {server} failed: {_line(error)}") from error
        raise UncachedReference(
            f"{where}: the CRDS cache {os.environ.get('CRDS_PATH', '')} lacks files of the context "
            f"{os.environ.get('CRDS_CONTEXT', '(its own)')}, and there is no CRDS_SERVER_URL to fetch them "
            f"from: {_line(error)}"
        ) from error
    except CrdsLookupError as error:
        raise MissingReference(
            f"{where}: CRDS has no reference for this exposure: {_line(error)}; choose another CRDS_CONTEXT, "
            "or give --override reftype=path"
        ) from error
    except CrdsError as error:
        raise EnvironmentFault(f"{where}: CRDS: {_line(error)}; {_SET_UP}") from error
    except OSError as error:
        cache = os.environ.get("CRDS_PATH", "")
        if error.errno not in _NO_WRITING or not cache or not str(error.filename).startswith(cache):
            raise
        raise EnvironmentFault(
            f"{where}: CRDS would write to its cache and may not: {error.filename}: {error.strerror}; set "
            "CRDS_READONLY_CACHE=1 where the cache has everything, or let CRDS_PATH be written to",
            where=error.filename,
            setting="CRDS_READONLY_CACHE",
        ) from error


@contextmanager
def quiet_pipeline() -> Iterator[None]:
    """Keep jwst and CRDS off the console; their warnings still reach the root logger's handlers."""
    handler = logging.NullHandler()
    crds = logging.getLogger("CRDS")
    level, propagate = crds.level, crds.propagate
    had_console = crds_log.THE_LOGGER.console is not None
    for name in _LOGGERS:
        # With a handler of its own, a logger no longer falls back to stderr.
        logging.getLogger(name).addHandler(handler)
    if had_console:
        crds_log.remove_console_handler()
    crds.setLevel(logging.WARNING)
    crds.propagate = True
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _log_warning
            yield
    finally:
        crds.setLevel(level)
        crds.propagate = propagate
        if had_console:
            crds_log.add_console_handler()
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(handler)


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object, **__: object
) -> None:
    logging.getLogger("py.warnings").warning("%s:%s: %s: %s", filename, lineno, category.__name__, message)


def _unreadable(reftype: str, path: Path, error: Exception) -> EnvironmentFault:
    why = "there is no such file" if isinstance(error, FileNotFoundError) else _line(error)
    return EnvironmentFault(
        f"{reftype.upper()} reference {path} cannot be read: {why}; check --override or CRDS_PATH"
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
