"""What lies in the store, read once: products, the counts that were announced, and claims."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from services.darkref.products import is_rejected
from services.ingest.claims import Claim
from services.ingest.plan import NO_CONTEXT
from services.ingest.products import RAMP, REFERENCE_ROLE, RampFacts, RejectionFacts, member_of
from services.ingest.sets.expected import announced_counts, notes_prefix
from shared.messages import SetMember
from shared.store.base import Store
from shared.store.manifest import MANIFEST, Manifest

#: Where the stages keep what is told of here.
STAGES = ("ingest/", "darkref/", "noise/")
#: Manifests that are fetched at once: a bucket answers many as quickly as one.
_AT_ONCE = 16


@dataclass(frozen=True)
class HowMade:
    """How a ramp was made, as far as two ramps can be compared by their manifests."""

    versions: dict[str, str]
    parameters: dict[str, Any]
    references: dict[str, str]

    def like(self, other: "HowMade") -> bool:
        """Say whether nothing shows that the two were made in different ways.

        An exposure that came with some steps done needs fewer references, or no CRDS context at all.
        """
        return (
            _agree(self.versions, other.versions, (NO_CONTEXT,))
            and _agree(self.parameters, other.parameters, (None,), leave_out="steps")
            and _agree(self.references, other.references, ())
        )


@dataclass(frozen=True)
class Product:
    """One committed product, without what only its readers need.

    Attributes
    ----------
    kind : str
        As in `shared.store.manifest.Manifest.product`.
    subject : str
        The exposure, or the set, that it is about.
    exposures : frozenset of str
        Of a set: its members.
    verdict : str or None
        What it says of its subject; of a rejection, the reason.
    uri : str or None
        Where the exposure lay, of a ramp or rejection.
    start_mjd : float or None
        Of a rejection, where it is known.
    of : frozenset of str
        Product keys of the ramps that it was made from.
    member, made, groups
        Of a ramp.
    rejected : bool
        Of a reference: whether it failed its verification.
    """

    kind: str
    path: str
    configuration: str | None
    subject: str
    created: datetime
    exposures: frozenset[str] = frozenset()
    verdict: str | None = None
    uri: str | None = None
    start_mjd: float | None = None
    of: frozenset[str] = frozenset()
    member: SetMember | None = None
    made: HowMade | None = None
    groups: int = 0
    rejected: bool = False


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
    """

    products: list[Product] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def of_kind(self, *kinds: str) -> list[Product]:
        """Return the products of some kinds."""
        return [product for product in self.products if product.kind in kinds]


def read_stored(store: Store) -> Stored:
    """Read every manifest, count and claim.

    Raises
    ------
    StoreUnavailable, EnvironmentFault
        If the store does not answer, or refuses.
    """
    found = Stored()
    # Claims first: what is committed while this goes on is then seen, and not taken for lost.
    claims = [key for key in store.list("exposures/") if key.endswith("/claim.json")]
    for key, body in _bodies(store, claims):
        try:
            found.claims.append(Claim.model_validate_json(body))
        except ValidationError:
            found.damaged.append(store.uri(key))
    found.counts = announced_counts(store.list(notes_prefix()))
    manifests = (key for stage in STAGES for key in store.list(stage) if key.endswith(f"/{MANIFEST}"))
    for key, body in _bodies(store, manifests):
        try:
            found.products.append(_product(Manifest.model_validate_json(body)))
        except (ValidationError, KeyError):
            found.damaged.append(store.uri(key))
    return found


def settled_exposures(store: Store) -> set[str]:
    """Return the ids of the exposures that have a ramp or a rejection, from the keys alone."""
    committed = (key.split("/") for key in store.list("ingest/") if key.endswith(f"/{MANIFEST}"))
    return {parts[2] for parts in committed if len(parts) == 5}


def _bodies(store: Store, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    def get(key: str) -> tuple[str, bytes | None]:
        try:
            return key, store.get(key)
        except KeyError:
            # Removed since it was listed.
            return key, None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for key, body in pool.map(get, keys):
            if body is not None:
                yield key, body


def _product(manifest: Manifest) -> Product:
    facts = manifest.facts
    common: dict[str, Any] = {
        "kind": manifest.product,
        "path": manifest.path,
        "configuration": facts.get("configuration"),
        "created": manifest.created,
        "of": frozenset(entry.product for entry in manifest.inputs if entry.product is not None),
    }
    if manifest.product == "ramp":
        said = RampFacts.model_validate(facts)
        entry = manifest.object(RAMP)
        member = member_of(said, f"{manifest.path}/{MANIFEST}", entry.key, entry.size, entry.sha256)
        made = HowMade(
            manifest.versions,
            manifest.parameters,
            {i.role: i.sha256 for i in manifest.inputs if i.role.startswith(REFERENCE_ROLE)},
        )
        more: dict[str, Any] = {"member": member, "made": made, "groups": said.key.ngroups}
        return Product(subject=said.exposure_id, uri=said.uri, **more, **common)
    if manifest.product == "rejection":
        refused = RejectionFacts.model_validate(facts)
        return Product(
            subject=refused.exposure_id,
            uri=refused.uri,
            verdict=refused.reason,
            start_mjd=refused.start_mjd,
            **common,
        )
    if manifest.product == "exposure-noise":
        verdict = facts["jump_pixels_judged"]["verdict"]
        return Product(subject=facts["exposure_id"], verdict=verdict, **common)
    rejected = is_rejected(facts)
    return Product(
        subject=facts["set_id"],
        exposures=frozenset(facts["exposures"]),
        verdict=facts["verification"]["verdict"] if rejected else facts["verdict"],
        rejected=rejected,
        **common,
    )


def _agree(one: dict[str, Any], other: dict[str, Any], silent: tuple[Any, ...], leave_out: str = "") -> bool:
    return all(
        one[name] == other[name] or one[name] in silent or other[name] in silent
        for name in one.keys() & other.keys() - {leave_out}
    )
