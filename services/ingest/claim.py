"""Takes and releases the claims of files, see `shared.products.claim`.

A claim does not keep other files of the exposure out. Which of several files counts is decided from their
headers (`services.ingest.delivery`), so two workers that ingest two files of one exposure at once need not
agree on who was first.
"""

import contextlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from shared.errors import BadInput, EnvironmentFault, PermanentError
from shared.products.claim import Claim, bytes_claim, exposure_claim, read_claim
from shared.store.base import Store
from shared.store.changes import ANEW, mark_changing, unmark

#: Name of the check that rejects bytes which are another exposure's already.
DUPLICATE = "duplicate"


def take_claim(claim: Claim, store: Store) -> None:
    """Claim a file for its exposure, and its bytes.

    Nothing happens if the file was claimed before, unless it lies at another address now: that is then noted.

    Parameters
    ----------
    claim : Claim
    store : Store

    Raises
    ------
    BadInput
        If another exposure has the same bytes (check ``"duplicate"``): they would count twice.
    """
    claim = claim.at(datetime.now(UTC))
    first = _put(bytes_claim(claim.sha256), claim, store)
    if first.exposure_id != claim.exposure_id:
        raise BadInput(
            DUPLICATE,
            f"{claim.file}: duplicate: same bytes as {first.file} ({first.uri}), which was ingested as "
            f"{first.exposure_id}; announce only one of them",
            where=claim.uri,
        )
    key = exposure_claim(claim.exposure_id, claim.sha256)
    if claim.segment is not None or claim.stands_aside:
        # `status` shows these, and does not read the claims of all exposures to find them.
        mark_changing(store, key)
    earlier = _put(key, claim, store)
    if (earlier.uri, earlier.stands_aside) != (claim.uri, claim.stands_aside):
        store.put(key, claim.at(earlier.claimed).model_dump_json().encode())


@contextlib.contextmanager
def claim_ends_with_failure(claim: Claim, store: Store) -> Iterator[None]:
    """Release a claim if the file turns out to be bad: a context around the work on it.

    The claim stays where only the machine is at fault, since the same file then succeeds later.
    """
    try:
        yield
    except EnvironmentFault:
        raise
    except PermanentError:
        release_claim(claim, store)
        raise


def segments_are_ingested(segments: Iterable[Claim], store: Store) -> None:
    """Note that an exposure has a ramp: `status` need not read the claims of its segments any more."""
    for claim in segments:
        unmark(store, ANEW, exposure_claim(claim.exposure_id, claim.sha256))


def release_claim(claim: Claim, store: Store) -> None:
    """Remove the claim of a file on its exposure and its bytes."""
    for key in (exposure_claim(claim.exposure_id, claim.sha256), bytes_claim(claim.sha256)):
        first = _claim_at(key, store)
        if first is not None and first.exposure_id == claim.exposure_id:
            store.delete(key)


def _put(key: str, claim: Claim, store: Store) -> Claim:
    """Write a claim unless there is one, and return the one that is there."""
    body = claim.model_dump_json().encode()
    while not store.put_if_absent(key, body):
        # A claim that was there and is gone was released meanwhile: this file may have it.
        if (first := _claim_at(key, store)) is not None:
            return first
    return claim


def _claim_at(key: str, store: Store) -> Claim | None:
    try:
        return read_claim(store.get(key), store.uri(key))
    except KeyError:
        return None
