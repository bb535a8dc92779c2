"""The contents of a store, read once: a summary of every product, the numbers announced, and the claims."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, TypeAdapter, ValidationError

from shared.catalog.products import StoredProduct, read_results, walk
from shared.contracts.messages import SetMember
from shared.contracts.routing import PRODUCT_FOLDERS
from shared.nircam.configuration import ConfigurationKey
from shared.products.announced_counts import announced_counts, notes_prefix
from shared.products.claim import Claim, claims_prefix, read_claim
from shared.products.provenance import Provenance
from shared.products.ramp import (
    NO_CONTEXT,
    RAMP,
    REFERENCE_ROLE,
    RampDelivery,
    RampMetadata,
    RejectionMetadata,
    member_of,
)
from shared.products.unserved import UnservedConfiguration, unserved_configurations
from shared.statistics.verdicts import Acceptance, HasVerdict, Verdict, overall
from shared.store.base import Store, get_many
from shared.store.manifest import MANIFEST, Manifest

_VERDICTS = TypeAdapter(dict[str, Verdict])


@dataclass(frozen=True)
class HowMade:
    """How a ramp was made: what two ramps can be compared by, from their manifests."""

    versions: dict[str, str]
    parameters: dict[str, Any]
    references: dict[str, str]

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Return how the ramp with this manifest was made."""
        references = {
            source.role: source.sha256 for source in manifest.inputs if source.role.startswith(REFERENCE_ROLE)
        }
        return cls(manifest.versions, manifest.parameters, references)

    def like(self, other: "HowMade") -> bool:
        """Return whether nothing shows that two ramps were made in different ways.

        An exposure that arrived with some steps done needs fewer references, or no CRDS context at all.
        """
        return (
            _agree(self.versions, other.versions, (NO_CONTEXT,))
            and _agree(self.parameters, other.parameters, (None,), leave_out="steps")
            and _agree(self.references, other.references, ())
        )


@dataclass(frozen=True)
class ProductSummary:
    """One committed product, reduced to what `status`, `coverage` and `reconcile` need of every product.

    Attributes
    ----------
    kind : str
        As in `shared.store.manifest.Manifest.product`.
    subject : str
        Id of its exposure or set.
    exposures : frozenset of str
        The exposures of its set.
    verdict : str or None
        Its verdict as a sentence; of a rejection, the reason.
    short : str or None
        The verdict without its numbers; None of a rejection or a ramp.
    is_off : bool
        Whether one of its figures is above or below the expectation, or it failed its verification.
    uri : str or None
        Of a ramp or rejection: where the exposure lay.
    start_mjd : float or None
        Of a rejection: start of the exposure, if known.
    of : frozenset of str
        Product keys of the ramps it was made from.
    member, made, groups, delivery, provenance
        Of a ramp.
    key : ConfigurationKey or None
        Of a ramp or reference.
    simulated : bool
        Whether a ramp or reference is of simulated exposures.
    acceptance : Acceptance or None
        Of a reference that was verified; accepted, too, if a person accepted one that was held.
    """

    kind: str
    path: str
    configuration: str | None
    subject: str
    created: datetime
    exposures: frozenset[str] = frozenset()
    verdict: str | None = None
    short: str | None = None
    is_off: bool = False
    uri: str | None = None
    start_mjd: float | None = None
    of: frozenset[str] = frozenset()
    member: SetMember | None = None
    made: HowMade | None = None
    groups: int = 0
    delivery: RampDelivery | None = None
    provenance: Provenance | None = None
    key: ConfigurationKey | None = None
    simulated: bool = False
    acceptance: Acceptance | None = None

    @property
    def withheld(self) -> bool:
        """Whether it is a reference that is held or rejected."""
        return self.acceptance in (Acceptance.HELD, Acceptance.REJECTED)


@dataclass
class Stored:
    """What the store holds.

    Attributes
    ----------
    counts : dict of str to dict of str to int
        By configuration and exposure: the largest count that was announced with it.
    claims : list of Claim
        Files that stand for exposures.
    damaged : list of str
        Addresses of manifests and claims that cannot be read as such.
    unserved : list of UnservedConfiguration
        Configurations that an exposure met without a reference file, see `still_unserved`.
    """

    products: list[ProductSummary] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    unserved: list[UnservedConfiguration] = field(default_factory=list)

    def still_unserved(self) -> list[UnservedConfiguration]:
        """Return the notes of configurations of which no ramp was made since."""
        newest: dict[str | None, datetime] = {}
        for ramp in self.of_kind("ramp"):
            newest[ramp.configuration] = max(ramp.created, newest.get(ramp.configuration, ramp.created))
        return [
            note
            for note in self.unserved
            if note.configuration not in newest or newest[note.configuration] < note.noted
        ]

    def of_kind(self, *kinds: str) -> list[ProductSummary]:
        """Return the products of some kinds."""
        return [product for product in self.products if product.kind in kinds]


def read_stored(store: Store) -> Stored:
    """Read every manifest, count and claim.

    Raises
    ------
    StoreUnavailable, EnvironmentFault
        If the store does not answer, or refuses.
    """
    contents = Stored()
    # Claims first: what is committed while this goes on is then seen, and not taken for lost.
    claims = [key for key in store.list("exposures/") if key.endswith("/claim.json")]
    for key, body in get_many(store, claims, lambda key, _: contents.damaged.append(store.uri(key))):
        try:
            contents.claims.append(Claim.model_validate_json(body))
        except ValidationError:
            contents.damaged.append(store.uri(key))
    notes = list(store.list(notes_prefix()))
    contents.counts = announced_counts(notes)
    contents.unserved = unserved_configurations(notes, store)
    for product in walk(store, *PRODUCT_FOLDERS, damaged=contents.damaged):
        try:
            contents.products.append(summary_of(product))
        except (ValidationError, KeyError):
            contents.damaged.append(store.uri(f"{product.path}/{MANIFEST}"))
    return contents


def claims_of_exposures(store: Store, exposure_ids: Iterable[str]) -> dict[str, list[Claim]]:
    """Return the claims of the files of some exposures, by exposure."""
    found: dict[str, list[Claim]] = {}
    for exposure_id in sorted(set(exposure_ids)):
        keys = [key for key in store.list(claims_prefix(exposure_id)) if key.endswith("/claim.json")]
        found[exposure_id] = [read_claim(body, store.uri(key)) for key, body in get_many(store, keys)]
    return found


def manifests_by_exposure(store: Store) -> dict[str, list[str]]:
    """Return the keys of the manifests of ramps and rejections by exposure; no manifest is read."""
    keys: dict[str, list[str]] = defaultdict(list)
    for key in store.list("ingest/"):
        parts = key.split("/")
        if len(parts) == 5 and parts[4] == MANIFEST:
            keys[parts[2]].append(key)
    return dict(keys)


def summary_of(product: StoredProduct[BaseModel]) -> ProductSummary:
    """Return the summary of a product.

    Raises
    ------
    pydantic.ValidationError, KeyError
        If its manifest does not hold what a product of its kind must have.
    """
    manifest, results = product.manifest, product.manifest.results
    common: dict[str, Any] = {
        "kind": product.kind,
        "path": product.path,
        "configuration": product.configuration,
        "subject": product.subject,
        "created": manifest.created,
        "of": frozenset(entry.product for entry in manifest.inputs if entry.product is not None),
    }
    if product.kind == "ramp":
        ramp = read_results(RampMetadata, results)
        member = member_of(ramp, f"{product.path}/{MANIFEST}", manifest.object(RAMP))
        more: dict[str, Any] = {"member": member, "made": HowMade.of(manifest), "groups": ramp.key.ngroups}
        more["provenance"] = ramp.provenance
        more["delivery"] = RampDelivery.of(ramp, product.path, manifest.created)
        more |= {"key": ramp.key, "simulated": ramp.simulated}
        return ProductSummary(uri=ramp.uri, **more, **common)
    if product.kind == "rejection":
        rejection = read_results(RejectionMetadata, results)
        return ProductSummary(
            uri=rejection.uri,
            verdict=rejection.reason,
            start_mjd=rejection.start_mjd,
            **common,
        )
    if product.kind == "exposure-noise":
        jumps = HasVerdict.model_validate(results["jump_pixels_judged"])
        return ProductSummary(**_verdict_fields(jumps.verdict, {"jumps": jumps.comparison}), **common)
    if product.is_withheld:
        short = str(product.acceptance)
        verdict = {"verdict": results["verification"]["verdict"], "short": short, "is_off": True}
    elif product.sign_off is not None:
        word = str(product.sign_off)
        verdict = {"verdict": word, "short": f"accepted by {product.sign_off.by}", "is_off": False}
    elif product.kind == "set-noise":
        verdict = _verdict_fields(results["verdict"], _VERDICTS.validate_python(results.get("verdicts", {})))
    else:
        reference = HasVerdict.model_validate(results)
        verdict = _verdict_fields(reference.verdict, {"dark current": reference.comparison})
    if product.kind == "reference" and "key" in results:
        common["key"] = ConfigurationKey.model_validate(results["key"])
        common["simulated"] = bool(results.get("simulated"))
    return ProductSummary(
        exposures=product.exposures,
        **verdict,
        acceptance=product.acceptance,
        **common,
    )


def _verdict_fields(sentence: str, verdicts: dict[str, Verdict]) -> dict[str, Any]:
    # A product of an earlier version has the sentence only.
    typed = [verdict for verdict in verdicts.values() if verdict.reason != sentence]
    short = typed[0].short if len(typed) == 1 else overall(verdicts) if typed else sentence
    is_off = any(verdict.is_off for verdict in verdicts.values())
    return {"verdict": sentence, "short": short, "is_off": is_off}


def _agree(
    first: dict[str, Any], second: dict[str, Any], silent: tuple[Any, ...], leave_out: str = ""
) -> bool:
    return all(
        first[name] == second[name] or first[name] in silent or second[name] in silent
        for name in first.keys() & second.keys() - {leave_out}
    )
