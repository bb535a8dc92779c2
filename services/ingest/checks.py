"""What a check is, and what it is given."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import BadInput


@dataclass(frozen=True)
class Check:
    """One check; `passed` is None where it does not apply, `detail` says what was found."""

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class NotFinite:
    """NaN and infinite values of SCI; `first` is (integration, group, y, x), 0-based."""

    count: int
    first: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Evidence:
    """What is known of a file.

    Attributes
    ----------
    where : str
        Its name, for errors.
    primary : mapping
        Primary header, as far as it could be read.
    shapes : mapping of str to tuple of int
        Shape of every extension by EXTNAME, slowest axis first.
    fault : BadInput or None
        Why the file could not be read as FITS to its end.
    size, sha256 : int, str
        Of the file.
    announced_size, announced_sha256
        What its announcement says; None where it says nothing.
    """

    where: str
    primary: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fault: BadInput | None = None
    size: int | None = None
    sha256: str | None = None
    announced_size: int | None = None
    announced_sha256: str | None = None


def first_failure(checks: Iterable[Check], where: str) -> BadInput | None:
    """Return the first check that failed as the error to report, or None."""
    for check in checks:
        if check.passed is False:
            detail = check.detail
            return BadInput(check.name, detail if detail.startswith(where) else f"{where}: {detail}")
    return None


def is_nircam(evidence: Evidence) -> bool:
    """Say whether INSTRUME is NIRCAM, or missing."""
    return str(evidence.primary.get("INSTRUME", "NIRCAM")).strip().upper() == "NIRCAM"


def integers(evidence: Evidence, *keywords: str) -> tuple[int, ...] | None:
    """Return keywords' values, or None if one of them is missing or no integer."""
    values = [evidence.primary.get(keyword) for keyword in keywords]
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return None
    return tuple(int(value) for value in values if value is not None)


def numbers(evidence: Evidence, *keywords: str) -> tuple[float, ...] | None:
    """Return keywords' values, or None if one of them is missing or no number."""
    values = [evidence.primary.get(keyword) for keyword in keywords]
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return None
    return tuple(float(value) for value in values if value is not None)
