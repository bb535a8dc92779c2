"""The claims of files on exposures in the store: taken before the work, released after a bad file."""

from datetime import UTC, datetime

from services.ingest import claims
from services.ingest.claims import Claim
from shared.announced import source_of
from shared.errors import BadMessage
from shared.stage import StageContext
from shared.store.base import Store
from shared.store.manifest import find_all


def take(mine: Claim, context: StageContext) -> None:
    """Take an exposure for a file.

    Raises
    ------
    BadInput
        If the file is a duplicate of the first.
    """
    store = context.store
    body = mine.at(datetime.now(UTC)).model_dump_json().encode()
    for place in _places(mine):
        # A claim that is there and then is not was released meanwhile: this file may have it.
        while not store.put_if_absent(place, body):
            first = _claimed(place, store)
            if first is None:
                continue
            refusal = claims.refusal(mine, first, first_exists=_may_exist(first.uri, context))
            if refusal is not None:
                raise refusal
            break


def release(mine: Claim, folder: str, store: Store) -> None:
    """Give an exposure free for a better file, if this one never gave a ramp in the exposure's `folder`."""
    if any(manifest.product == "ramp" for manifest in find_all(store, f"{folder}/")):
        return
    for place in _places(mine):
        first = _claimed(place, store)
        if first is not None and first.at(None) == mine:
            store.delete(place)


def _places(mine: Claim) -> tuple[str, str]:
    return claims.exposure_claim(mine.exposure_id), claims.bytes_claim(mine.sha256)


def _claimed(place: str, store: Store) -> Claim | None:
    try:
        return Claim.model_validate_json(store.get(place))
    except KeyError:
        return None


def _may_exist(uri: str, context: StageContext) -> bool:
    try:
        return source_of(uri, context.settings).may_exist()
    except BadMessage:
        # It was allowed when it was claimed, and is no longer looked at.
        return True
