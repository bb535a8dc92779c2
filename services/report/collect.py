"""The products of one run, read from the store."""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from services.darkref.products import ReferenceFacts, is_rejected
from services.ingest.products import RampFacts, RejectionFacts
from services.noise.products import ExposureNoiseFacts, SetNoiseFacts
from shared.exposure_sets import BuiltSet, superseded_by
from shared.store.base import Store
from shared.store.manifest import MANIFEST, Manifest, find, find_all


class _OfASet(Protocol):
    configuration: str
    set_id: str
    exposures: list[str]


_Facts = TypeVar("_Facts", bound=BaseModel)
_SetFacts = TypeVar("_SetFacts", bound=_OfASet)


def read_facts(model: type[_Facts], facts: dict[str, object]) -> _Facts:
    """Read a manifest's facts; a null where a number must stand is the NaN that JSON cannot hold.

    Raises
    ------
    pydantic.ValidationError
        If the facts do not fit `model` for any other reason.
    """
    try:
        return model.model_validate(facts)
    except ValidationError as error:
        mended = copy.deepcopy(facts)
        for fault in error.errors():
            if fault["type"] != "float_type" or fault["input"] is not None:
                raise
            *way, last = fault["loc"]
            place: Any = mended
            for part in way:
                place = place[part]
            place[last] = math.nan
        return model.model_validate(mended)


@dataclass
class RunProducts:
    """The products of one run, each as its manifest and its facts.

    A product of a set is left out where another is current in its place, see
    `shared.exposure_sets.superseded_by`.
    """

    ramps: list[tuple[Manifest, RampFacts]] = field(default_factory=list)
    references: list[tuple[Manifest, ReferenceFacts]] = field(default_factory=list)
    set_noise: list[tuple[Manifest, SetNoiseFacts]] = field(default_factory=list)
    exposure_noise: list[tuple[Manifest, ExposureNoiseFacts]] = field(default_factory=list)

    @classmethod
    def of(cls, store: Store, manifests: Iterable[str]) -> "RunProducts":
        """Read the manifests named, and no others: a store may hold products of older runs.

        Parameters
        ----------
        store : Store
        manifests : iterable of str
            Path of each product, or the key of its manifest.
        """
        found = cls()
        for path in dict.fromkeys(name.removesuffix(f"/{MANIFEST}") for name in manifests):
            manifest = find(store, path)
            if manifest is None:
                continue
            facts = manifest.facts
            if manifest.product == "ramp":
                found.ramps.append((manifest, read_facts(RampFacts, facts)))
            elif manifest.product == "reference":
                found.references.append((manifest, read_facts(ReferenceFacts, facts)))
            elif manifest.product == "set-noise":
                found.set_noise.append((manifest, read_facts(SetNoiseFacts, facts)))
            elif manifest.product == "exposure-noise":
                found.exposure_noise.append((manifest, read_facts(ExposureNoiseFacts, facts)))
        found.ramps.sort(key=lambda product: (product[1].configuration, product[1].start_mjd))
        found.references = _standing(found.references)
        found.set_noise = _standing(found.set_noise)
        return found


def rejections(store: Store) -> dict[tuple[str, str], RejectionFacts]:
    """Return every rejection that was ever committed, by URI and reason."""
    return {
        (facts.uri, facts.reason): facts
        for manifest in find_all(store, "ingest/")
        if manifest.product == "rejection"
        for facts in [read_facts(RejectionFacts, manifest.facts)]
    }


def _standing(products: list[tuple[Manifest, _SetFacts]]) -> list[tuple[Manifest, _SetFacts]]:
    stands_in = superseded_by(
        BuiltSet(
            manifest.path,
            facts.configuration,
            frozenset(facts.exposures),
            manifest.created,
            is_rejected(manifest.facts),
        )
        for manifest, facts in products
    )
    return [
        (manifest, facts)
        for manifest, facts in sorted(products, key=lambda p: (p[1].configuration, p[1].set_id))
        if stands_in[manifest.path] is None
    ]
