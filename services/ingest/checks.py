"""Checks of an exposure: their result, and what they look at."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.ingest.file_sums import FileSums
from shared.errors import BadInput


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes
    ----------
    name : str
        As `nircam-darks inspect` prints it, such as ``"EXP_TYPE"``.
    passed : bool or None
        None if the check does not apply.
    detail : str
        What the check saw.
    """

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class NotFinite:
    """Number of unflagged NaN and infinite values of SCI, and the (integration, group, y, x) of the first."""

    count: int
    first: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class ExposureProbe:
    """What was read of an exposure's file before any check.

    Attributes
    ----------
    where : str
        Name of the file, for errors.
    primary : mapping
        Primary header, as far as it can be read.
    shapes : mapping of str to tuple of int
        Shape of every extension by EXTNAME, slowest axis first.
    fault : BadInput or None
        Why the file cannot be read as FITS to its end.
    size, sha256 : int, str
        Of the file.
    announced_size, announced_sha256 : int, str or None
        As announced; None if the announcement has none.
    sums : FileSums or None
        None if nobody read the file for them.
    types : mapping of str to numpy.dtype
        Of the values of every image extension; empty if the file is not whole.
    """

    where: str
    primary: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fault: BadInput | None = None
    size: int | None = None
    sha256: str | None = None
    announced_size: int | None = None
    announced_sha256: str | None = None
    sums: FileSums | None = None
    types: Mapping[str, np.dtype[Any]] = field(default_factory=dict)


def first_failure(checks: Iterable[Check], where: str) -> BadInput | None:
    """Return the error that reports the first failed check, or None if none failed."""
    for check in checks:
        if check.passed is False:
            detail = check.detail
            return BadInput(check.name, detail if detail.startswith(where) else f"{where}: {detail}")
    return None


def delivery_checks(probe: ExposureProbe) -> list[Check]:
    """Return the checks that a file is the one that was announced: of its size and its sha256."""
    return [_announced_size(probe), _announced_sha256(probe)]


def is_nircam(probe: ExposureProbe) -> bool:
    """Return whether INSTRUME is NIRCAM, or missing."""
    return str(probe.primary.get("INSTRUME", "NIRCAM")).strip().upper() == "NIRCAM"


def integers(probe: ExposureProbe, *keywords: str) -> tuple[int, ...] | None:
    """Return the values of keywords, or None if one is missing or is not an integer."""
    values = [probe.primary.get(keyword) for keyword in keywords]
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return None
    return tuple(int(value) for value in values if value is not None)


def numbers(probe: ExposureProbe, *keywords: str) -> tuple[float, ...] | None:
    """Return the values of keywords, or None if one is missing or is not a number."""
    values = [probe.primary.get(keyword) for keyword in keywords]
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return None
    return tuple(float(value) for value in values if value is not None)


def _announced_size(probe: ExposureProbe) -> Check:
    announced, actual = probe.announced_size, probe.size
    if announced is None or actual is None:
        return Check("size", None, "not announced")
    same = announced == actual
    detail = f"the file has {actual} bytes, its announcement says {announced}{_refetch(same)}"
    return Check("size", same, detail)


def _announced_sha256(probe: ExposureProbe) -> Check:
    announced, actual = probe.announced_sha256, probe.sha256
    if announced is None or actual is None:
        return Check("sha256", None, "not announced")
    same = announced.lower() == actual
    return Check("sha256", same, f"sha256 is {actual}, its announcement says {announced}{_refetch(same)}")


def _refetch(good: bool) -> str:
    return "" if good else "; fetch it again"
