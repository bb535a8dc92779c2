"""What a store holds, as typed products: the one place that reads manifests of every kind.

`walk` goes through a store, `product_at` reads one product; both give `StoredProduct`, whose results are the
model of its kind. `RunProducts` sorts the products of one run for the report.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar, overload

from pydantic import BaseModel, ValidationError

from shared.catalog.exposure_sets import BuiltSet, superseded_by
from shared.errors import EnvironmentFault
from shared.products.noise import ExposureNoiseResults, SetNoiseResults
from shared.products.ramp import (
    PersistenceMetadata,
    RampDelivery,
    RampMetadata,
    RejectionMetadata,
    counting_ramps,
)
from shared.products.reference import ReferenceResults, stored_acceptance
from shared.products.sign_off import SIGN_OFF, SignOff
from shared.statistics.verdicts import Acceptance
from shared.store.base import Store
from shared.store.manifest import MANIFEST, Manifest, find, find_all, read_manifests

#: Kind of product, as in `Manifest.product` -> the model of its results.
MODELS: dict[str, type[BaseModel]] = {
    "ramp": RampMetadata,
    "rejection": RejectionMetadata,
    "persistence": PersistenceMetadata,
    "reference": ReferenceResults,
    "exposure-noise": ExposureNoiseResults,
    "set-noise": SetNoiseResults,
}

_Results = TypeVar("_Results", bound=BaseModel)
_ResultsOut = TypeVar("_ResultsOut", bound=BaseModel, covariant=True)


class _OfASet(Protocol):
    configuration: str
    set_id: str
    exposures: list[str]


_SetResults = TypeVar("_SetResults", bound=_OfASet)
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class StoredProduct(Generic[_ResultsOut]):
    """A committed product: its manifest, and its results as the model of its kind.

    What every reader asks for is taken from the manifest as it stands; `results` is validated when it is
    first read.

    Attributes
    ----------
    manifest : Manifest
    sign_off : SignOff or None
        Of a reference that was held and that a person then accepted.
    """

    manifest: Manifest
    sign_off: SignOff | None = None

    @property
    def kind(self) -> str:
        """As `Manifest.product`."""
        return self.manifest.product

    @property
    def path(self) -> str:
        """Key prefix of the product."""
        return self.manifest.path

    @property
    def configuration(self) -> str | None:
        """Slug of the configuration; None of an exposure whose header does not give one."""
        return self.manifest.results.get("configuration")

    @property
    def subject(self) -> str:
        """Id of the set, or of the exposure, that the product is about."""
        results = self.manifest.results
        return str(results.get("set_id") or results.get("exposure_id"))

    @property
    def exposures(self) -> frozenset[str]:
        """Ids of the exposures that the product was made from."""
        results = self.manifest.results
        return frozenset(results["exposures"] if "exposures" in results else [results["exposure_id"]])

    @property
    def acceptance(self) -> Acceptance | None:
        """What became of a reference: what its verification came to, or what a person made of a held one.

        None where it was not verified, and of other products.
        """
        if self.sign_off is not None:
            return Acceptance.ACCEPTED
        return stored_acceptance(self.manifest.results)

    @property
    def is_withheld(self) -> bool:
        """Whether it is a reference that is held or rejected, and so supersedes no other."""
        return self.acceptance in (Acceptance.HELD, Acceptance.REJECTED)

    @cached_property
    def results(self) -> _ResultsOut:
        """The results, as the model that `MODELS` has for this kind.

        Raises
        ------
        pydantic.ValidationError
            If they do not fit the model.
        """
        return read_results(MODELS[self.kind], self.manifest.results)  # type: ignore[return-value]


@overload
def walk(
    store: Store, *prefixes: str, kind: type[_Results], damaged: list[str] | None = None
) -> Iterator[StoredProduct[_Results]]: ...
@overload
def walk(
    store: Store, *prefixes: str, damaged: list[str] | None = None
) -> Iterator[StoredProduct[BaseModel]]: ...
def walk(
    store: Store, *prefixes: str, kind: type[BaseModel] | None = None, damaged: list[str] | None = None
) -> Iterator[StoredProduct[BaseModel]]:
    """Yield the committed products whose path begins with one of `prefixes`.

    Parameters
    ----------
    store : Store
    *prefixes : str
        Such as ``"darkref/<configuration>/"``; walked one after the other, each ascending by key.
    kind : class, optional
        Only products whose results are of this model, such as `ReferenceResults`. Unless given, those of
        every kind in `MODELS`.
    damaged : list of str, optional
        Takes the addresses of manifests that cannot be read, for the caller to tell. Such manifests are
        skipped; without a list they are logged.

    Raises
    ------
    EnvironmentFault
        If a sign-off is damaged, and no `damaged` was given.
    StoreUnavailable
        If the store does not answer.

    Examples
    --------
    >>> for product in walk(store, "darkref/", kind=ReferenceResults):
    ...     print(product.path, product.results.dark_current_e_per_ks)
    """
    yield from _typed(store, find_all(store, *prefixes, damaged=damaged), kind, damaged)


def walk_keys(store: Store, keys: Iterable[str], damaged: list[str]) -> Iterator[StoredProduct[BaseModel]]:
    """Yield the products whose manifests lie under some keys, those that exist; see `walk`."""
    return _typed(store, read_manifests(store, keys, damaged), None, damaged)


def _typed(
    store: Store, manifests: Iterable[Manifest], kind: type[BaseModel] | None, damaged: list[str] | None
) -> Iterator[StoredProduct[BaseModel]]:
    for manifest in manifests:
        model = MODELS.get(manifest.product)
        if model is not None and kind in (None, model):
            try:
                yield _stored(store, manifest)
            except EnvironmentFault:
                if damaged is None:
                    raise
                damaged.append(store.uri(f"{manifest.path}/{SIGN_OFF}"))


def product_at(store: Store, path: str) -> StoredProduct[BaseModel] | None:
    """Return the product at `path`, or at the key of its manifest; None if it was never committed."""
    manifest = find(store, path.removesuffix(f"/{MANIFEST}"))
    return None if manifest is None else _stored(store, manifest)


def _stored(store: Store, manifest: Manifest) -> StoredProduct[BaseModel]:
    """Return a product with the word of a person on it, which only a held reference can have."""
    if stored_acceptance(manifest.results) != Acceptance.HELD:
        return StoredProduct(manifest)
    key = f"{manifest.path}/{SIGN_OFF}"
    try:
        return StoredProduct(manifest, SignOff.model_validate_json(store.get(key)))
    except KeyError:
        return StoredProduct(manifest)
    except ValidationError as error:
        raise EnvironmentFault(
            f"{store.uri(key)} is not a sign-off of this program; remove it, and accept the reference again",
            where=store.uri(key),
        ) from error


def read_results(model: type[_Results], results: dict[str, object]) -> _Results:
    """Read a manifest's results; a null where a number must stand is the NaN that JSON cannot hold.

    Raises
    ------
    pydantic.ValidationError
        If the results do not fit `model` for any other reason.
    """
    return read_with_nan(model.model_validate, results)


def read_with_nan(validate: Callable[[Any], _Read], data: Any) -> _Read:
    """Validate data from JSON; a null where a number must stand is the NaN that JSON cannot hold.

    Parameters
    ----------
    validate : callable
        Such as ``Model.model_validate`` or ``adapter.validate_python``.
    data
        As ``json.loads`` gives it.

    Raises
    ------
    pydantic.ValidationError
        If the data do not fit for any other reason.
    """
    try:
        return validate(data)
    except ValidationError as error:
        mended = copy.deepcopy(data)
        for fault in error.errors():
            if fault["type"] != "float_type" or fault["input"] is not None:
                raise
            *way, last = fault["loc"]
            parent: Any = mended
            for part in way:
                parent = parent[part]
            parent[last] = math.nan
        return validate(mended)


@dataclass
class RunProducts:
    """The products of one run, each as its manifest and its results.

    A product of a set is left out where another is current in its place, see
    `shared.catalog.exposure_sets.superseded_by`, and a ramp where a rawer or newer file of its exposure
    counts.
    """

    ramps: list[tuple[Manifest, RampMetadata]] = field(default_factory=list)
    references: list[tuple[Manifest, ReferenceResults]] = field(default_factory=list)
    set_noise: list[tuple[Manifest, SetNoiseResults]] = field(default_factory=list)
    exposure_noise: list[tuple[Manifest, ExposureNoiseResults]] = field(default_factory=list)
    #: By path of the reference.
    sign_offs: dict[str, SignOff] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, manifests: Iterable[str]) -> "RunProducts":
        """Read the manifests named, and no others: a store may hold products of older runs.

        Parameters
        ----------
        store : Store
        manifests : iterable of str
            Path of each product, or the key of its manifest.
        """
        run = cls()
        for path in dict.fromkeys(name.removesuffix(f"/{MANIFEST}") for name in manifests):
            product = product_at(store, path)
            if product is None:
                continue
            if product.sign_off is not None:
                run.sign_offs[product.path] = product.sign_off
            match product.results:
                case RampMetadata() as ramp:
                    run.ramps.append((product.manifest, ramp))
                case ReferenceResults() as reference:
                    run.references.append((product.manifest, reference))
                case SetNoiseResults() as noise:
                    run.set_noise.append((product.manifest, noise))
                case ExposureNoiseResults() as noise:
                    run.exposure_noise.append((product.manifest, noise))
        _leave_out_superseded(run)
        run.ramps.sort(key=lambda product: (product[1].configuration, product[1].start_mjd))
        run.references = _current(run.references, run.sign_offs)
        run.set_noise = _current(run.set_noise, {})
        return run


def _leave_out_superseded(run: RunProducts) -> None:
    """Leave out ramps that another ramp of their exposure supersedes, and what was measured of them."""
    kept = counting_ramps(run.ramps, lambda pair: RampDelivery.of(pair[1], pair[0].path, pair[0].created))
    made, counting = (
        {manifest.path.rpartition("/")[2] for manifest, _ in ramps} for ramps in (run.ramps, kept)
    )
    superseded = made - counting
    run.ramps = kept
    run.exposure_noise = [
        (manifest, noise)
        for manifest, noise in run.exposure_noise
        if not any(entry.product in superseded for entry in manifest.inputs)
    ]


def rejections(store: Store) -> dict[tuple[str, str], RejectionMetadata]:
    """Return every rejection that was ever committed, by URI and reason."""
    refused = (product.results for product in walk(store, "ingest/", kind=RejectionMetadata))
    return {(results.uri, results.reason): results for results in refused}


def _current(
    products: list[tuple[Manifest, _SetResults]], sign_offs: Mapping[str, SignOff]
) -> list[tuple[Manifest, _SetResults]]:
    superseded = superseded_by(
        BuiltSet(
            manifest.path,
            results.configuration,
            frozenset(results.exposures),
            manifest.created,
            StoredProduct[BaseModel](manifest, sign_offs.get(manifest.path)).is_withheld,
        )
        for manifest, results in products
    )
    return [
        (manifest, results)
        for manifest, results in sorted(products, key=lambda p: (p[1].configuration, p[1].set_id))
        if superseded[manifest.path] is None
    ]
