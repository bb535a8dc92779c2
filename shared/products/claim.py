"""Claims: the record of every file of an exposure that ingest has accepted, written before its work is done.

A claim is a small object beside the products. It has three uses. A file that was claimed, and of which
nothing came, was lost (`reconcile` announces it again). The claims of the segments of an exposure say
whether all have arrived. And a file's bytes are claimed for its exposure, so that they are not counted a
second time under another id. A claim ends with the failure of its file.

`services.ingest.claim` takes and releases claims; `status`, `run` and `reconcile` read them.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Self

from pydantic import BaseModel, ValidationError

from shared.errors import EnvironmentFault

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
#: Segments or files that a sentence names before it only counts the rest.
_MOST_LISTED = 8


class Segment(BaseModel):
    """Which part of an exposure a file holds; all numbers count from 1.

    Attributes
    ----------
    number, total : int
        EXSEGNUM and EXSEGTOT.
    first, last : int
        INTSTART and INTEND: the first and the last of its integrations.
    """

    number: int
    total: int
    first: int
    last: int

    @property
    def integrations(self) -> int:
        """Number of integrations."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"segment {self.number} of {self.total} (integrations {self.first} to {self.last})"


class Claim(BaseModel):
    """A file that ingest accepted for an exposure.

    Attributes
    ----------
    exposure_id : str
    uri : str
        Where the file lies.
    file : str
        Its name.
    sha256 : str
        Of its bytes.
    claimed : datetime or None
        When it was claimed; None in a store of an earlier version.
    date : str
        DATE of its header, when the archive made it; empty if it has none.
    segment : Segment or None
        None if it holds the whole exposure.
    stands_aside : str
        Why its exposure has a ramp made from another file, as a sentence; empty of a file that counts.
    """

    exposure_id: str
    uri: str
    file: str
    sha256: str
    claimed: datetime | None = None
    date: str = ""
    segment: Segment | None = None
    stands_aside: str = ""

    def at(self, claimed: datetime | None) -> Self:
        """Return the same claim with another time; None removes the time."""
        return self.model_copy(update={"claimed": claimed})


def read_claim(body: bytes, where: str) -> Claim:
    """Return a claim from its bytes; `where` is its address.

    Raises
    ------
    EnvironmentFault
        If they are not those of a claim.
    """
    try:
        return Claim.model_validate_json(body)
    except ValidationError as error:
        raise EnvironmentFault(
            f"{where} is not a claim of this program; remove it, and announce the exposure again", where=where
        ) from error


def claims_prefix(exposure_id: str) -> str:
    """Return the key prefix of the claims of an exposure."""
    return f"exposures/{exposure_id}/"


def exposure_claim(exposure_id: str, sha256: str) -> str:
    """Return the key under which a file of an exposure is claimed."""
    return f"{claims_prefix(exposure_id)}{sha256}/claim.json"


def bytes_claim(sha256: str) -> str:
    """Return the key under which bytes are claimed for an exposure, whatever the name of their file."""
    return f"bytes/{sha256}/claim.json"


def newest_segments(claims: Iterable[Claim]) -> dict[int, Claim]:
    """Return the newest claim of each segment of an exposure by the segment's number.

    A segment that was delivered again replaces the earlier delivery. The newest segment also says how many
    there are: the archive may cut an exposure anew.

    Parameters
    ----------
    claims : iterable of Claim
        Of one exposure, in any order; those of whole files are ignored.
    """
    ordered = sorted(
        ((claim.segment, claim) for claim in claims if claim.segment is not None),
        key=lambda pair: (pair[1].date, pair[1].claimed or _LONG_AGO, pair[1].sha256),
    )
    newest: dict[int, Claim] = {}
    for segment, claim in ordered:
        if segment.total == ordered[-1][0].total:
            newest[segment.number] = claim
    return newest


def missing_segments(segments: Mapping[int, Claim]) -> list[int]:
    """Return the numbers of the segments that have not arrived.

    Parameters
    ----------
    segments : mapping of int to Claim
        See `newest_segments`.
    """
    total = max((claim.segment.total for claim in segments.values() if claim.segment), default=0)
    return [number for number in range(1, total + 1) if number not in segments]


def describe_missing(segments: Mapping[int, Claim]) -> str:
    """Return in words which segments of an exposure have arrived, and which it waits for."""
    missing = missing_segments(segments)
    total = len(segments) + len(missing)
    here = _listed([claim.file for _, claim in sorted(segments.items())])
    numbers = _listed([str(number) for number in missing])
    return f"waits for segment{'s' * (len(missing) != 1)} {numbers} of {total}; arrived: {here}"


def _listed(words: list[str]) -> str:
    shown = ", ".join(words[:_MOST_LISTED])
    return shown if len(words) <= _MOST_LISTED else f"{shown} and {len(words) - _MOST_LISTED} more"
