"""Which reference a new dark takes the place of, and what changes against it."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from services.darkref.difference import Dark, compare
from services.darkref.facts import Differences
from services.darkref.flag_thresholds import Thresholds
from services.darkref.products import ReferenceFacts, is_rejected
from services.darkref.replaced.given import GivenReference
from services.darkref.stored_dark import StoredDark
from shared.files import RangedFile
from shared.geometry import amplifiers
from shared.messages import SetMember, SetReady
from shared.store.base import ObjectReader, Store
from shared.store.manifest import Manifest, find_all


@dataclass(frozen=True)
class Replaced:
    """A reference that a new one takes the place of.

    Attributes
    ----------
    name : str
        For people.
    where : str
        Its key in the store, or the address it was given by.
    errors : str
        What its ERR is.
    open : callable
    """

    name: str
    where: str
    errors: str
    open: Callable[[], ObjectReader]


def replaced_by(
    ready: SetReady, members: Sequence[SetMember], store: Store, given: GivenReference | None
) -> Replaced | None:
    """Return what a set's dark takes the place of: what was given, else what is in the store, or None."""
    if given is not None:
        name = f"{given.path.name} (given, sha256 {given.sha256[:12]})"
        return Replaced(name, given.uri, given.errors, lambda: RangedFile(given.path))
    found = _in_the_store(store, ready, members)
    if found is None:
        return None
    facts = ReferenceFacts.model_validate(found.facts)
    entry = found.object(facts.file)
    name = f"{facts.file} of set {facts.set_id} ({found.created:%Y-%m-%d})"

    def open_stored() -> ObjectReader:
        reader = store.open(entry.key)
        if reader.size != entry.size:
            reader.close()
            raise ValueError(f"it has {reader.size} bytes, and had {entry.size} when it was made")
        return reader

    return Replaced(name, entry.key, facts.err_is, open_stored)


def differences(
    replaced: Replaced, new: Dark, ready: SetReady, science: NDArray[np.bool_], thresholds: Thresholds
) -> Differences:
    """Compare a new dark with the one that it takes the place of.

    Parameters
    ----------
    replaced : Replaced
    new : Dark
    ready : SetReady
    science : ndarray of bool, 2D (y, x)
    thresholds : Thresholds
        For hot pixels of an earlier file that flags none.
    """
    try:
        with ExitStack() as stack:
            reader = stack.enter_context(replaced.open())
            dark = stack.enter_context(StoredDark(reader.read, reader.size))
            earlier = Dark(replaced.name, dark.sci, dark.err, dark.groups, dark.quality, replaced.errors)
            difference = compare(
                new, earlier, science, amplifiers(ready.key), ready.gain, ready.key.group_time, thresholds
            )
    except (KeyError, OSError, ValueError) as error:
        # A file that somebody removed or changed is no reason to have no new one.
        return Differences(replaced.name, replaced.where, None, " ".join(str(error).split()))
    return Differences(replaced.name, replaced.where, difference, None)


def _in_the_store(store: Store, ready: SetReady, members: Sequence[SetMember]) -> Manifest | None:
    """Return the reference of this configuration that a new one takes the place of; None if there is none.

    That is one of no other exposures, or one whose integrations all began before the set does, and that
    was not rejected; of several, the one whose exposures are newest, then the one of most exposures, then
    the one made last.
    """
    exposures = {member.exposure_id for member in members}

    def age(manifest: Manifest) -> tuple[float, int, datetime]:
        facts = ReferenceFacts.model_validate(manifest.facts)
        return max(facts.integration_mjd, default=-math.inf), len(facts.exposures), manifest.created

    candidates = [
        manifest
        for manifest in find_all(store, f"darkref/{ready.configuration}/")
        if manifest.product == "reference"
        and not is_rejected(manifest.facts)
        and (set(manifest.facts["exposures"]) <= exposures or age(manifest)[0] < members[0].start_mjd)
    ]
    return max(candidates, key=age, default=None)
