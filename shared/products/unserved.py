"""Configurations that have no reference file: because CRDS has none, or because the cache lacks it.

Ingest notes it once for each configuration when an exposure cannot be calibrated, under a key beside the
announced counts. `status` and `coverage` show the notes; one ends when a ramp of the configuration is made
later.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ValidationError

from shared.products.announced_counts import notes_prefix
from shared.store.base import Store, get_many

#: ``N/A``: CRDS has no such reference; ``not in the cache``: it has one, which the workers cannot reach.
AbsentKind = Literal["N/A", "not in the cache"]
_NAME = "unserved.json"


class UnservedConfiguration(BaseModel):
    """A configuration whose exposures cannot be calibrated for want of a reference file.

    Attributes
    ----------
    configuration : str
        Slug of the configuration key.
    kind : str
        See `AbsentKind`.
    context : str
        The CRDS context.
    reason : str
        In a sentence, with what to do.
    noted : datetime
        When an exposure last met it.
    """

    configuration: str
    kind: AbsentKind
    context: str
    reason: str
    noted: datetime

    def __str__(self) -> str:
        what = "CRDS has no reference" if self.kind == "N/A" else "a reference is not in the cache"
        return f"{self.configuration}: {what} ({self.context}): {self.reason}"


def unserved_key(configuration: str) -> str:
    """Return the key of the note that a configuration is not served."""
    return f"{notes_prefix(configuration)}{_NAME}"


def unserved_configurations(keys: Iterable[str], store: Store) -> list[UnservedConfiguration]:
    """Read the notes among the keys of a store; those that cannot be read are passed over.

    Parameters
    ----------
    keys : iterable of str
        Below `notes_prefix`.
    store : Store

    Raises
    ------
    StoreUnavailable
        If the store does not answer.
    """
    notes = []
    # A damaged one is passed over: it is advice only, and the next exposure writes it anew.
    names = [key for key in keys if key.endswith(f"/{_NAME}")]
    for _, body in get_many(store, names, lambda key, error: None):
        with suppress(ValidationError):
            notes.append(UnservedConfiguration.model_validate_json(body))
    return notes
