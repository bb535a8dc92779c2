"""Two files of one exposure: which came first, and what to say of the second."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel

from shared.errors import BadInput

CHECK = "duplicate"


class Claim(BaseModel):
    """The file that stands for an exposure; the first one that gives a ramp keeps it.

    Attributes
    ----------
    claimed : datetime or None
        When; None in a store of an earlier version.
    """

    exposure_id: str
    uri: str
    file: str
    sha256: str
    claimed: datetime | None = None

    def at(self, claimed: datetime | None) -> Self:
        """Return the same claim, made at another time; None takes the time out."""
        return self.model_copy(update={"claimed": claimed})


def exposure_claim(exposure_id: str) -> str:
    """Return the key under which the file of an exposure is claimed."""
    return f"exposures/{exposure_id}/claim.json"


def bytes_claim(sha256: str) -> str:
    """Return the key under which bytes are claimed, whatever their file calls itself."""
    return f"bytes/{sha256}/claim.json"


def refusal(mine: Claim, first: Claim, first_exists: bool) -> BadInput | None:
    """Return why `mine` is a duplicate of the file that came first, or None if it is none.

    Parameters
    ----------
    mine, first : Claim
    first_exists : bool
        Whether the first file is still where it was: one that was moved is no second file.
    """
    same_place, same_bytes = mine.uri == first.uri, mine.sha256 == first.sha256
    if same_bytes and (same_place or not first_exists):
        return None
    if same_bytes:
        return BadInput(
            CHECK,
            f"{mine.file}: duplicate: same bytes as {first.file} ({first.uri}); announce only one of them",
        )
    if same_place:
        return BadInput(
            CHECK,
            f"{mine.file}: its bytes changed since it was ingested (sha256 {first.sha256[:12]} then, "
            f"{mine.sha256[:12]} now); ingest the new version into a new store (--out)",
        )
    return BadInput(
        CHECK,
        f"{mine.file}: duplicate: another file of exposure {mine.exposure_id} was ingested first: "
        f"{first.file} ({first.uri}); announce only one of them",
    )
