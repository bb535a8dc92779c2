"""A person's word on a reference that its verification held for review."""

from collections.abc import Sequence
from datetime import UTC, datetime

from shared.catalog.products import StoredProduct, walk
from shared.errors import BadInput
from shared.products.reference import ReferenceResults
from shared.products.sign_off import SIGN_OFF, SignOff
from shared.statistics.verdicts import Acceptance
from shared.store.base import Store
from shared.store.changes import mark_changing

_WHERE = "`nircam-darks status` and `coverage` list what the store has"


def accept_reference(store: Store, name: str, by: str, reason: str) -> SignOff:
    """Accept the held reference of a set; every reader then takes it as accepted, and says by whom.

    Parameters
    ----------
    store : Store
    name : str
        The set's id, or its configuration where only one of its references is held.
    by, reason : str
        Who accepts it, and why.

    Returns
    -------
    SignOff
        As it was recorded.

    Raises
    ------
    BadInput
        If nothing of that name is held: there is no such set, its reference was rejected, or is accepted
        already; or if several are.
    """
    products = list(walk(store, "darkref/", kind=ReferenceResults))
    named = [product for product in products if name in (product.subject, product.configuration)]
    if not named:
        raise BadInput("set", f"{name}: no dark reference of this set or configuration is in {_WHERE}")
    held = [product for product in named if product.acceptance == Acceptance.HELD]
    if not held:
        raise BadInput("set", f"{name}: {_why_not(named)}")
    newest = {product.subject: product for product in sorted(held, key=lambda each: each.manifest.created)}
    if len(newest) > 1:
        raise BadInput(
            "set", f"{name}: the references of several sets are held: {', '.join(sorted(newest))}; name one"
        )
    (product,) = newest.values()
    verification = product.results.verification
    sign_off = SignOff(
        product=product.path,
        configuration=product.results.configuration,
        set_id=product.subject,
        by=by,
        time=datetime.now(UTC),
        reason=reason,
        held_for=[] if verification is None else verification.outcome.failures,
    )
    key = f"{product.path}/{SIGN_OFF}"
    mark_changing(store, key)
    if not store.put_if_absent(key, sign_off.model_dump_json(indent=1).encode()):
        raise BadInput("set", f"{name}: somebody else accepted it this moment; see `nircam-darks status`")
    return sign_off


def _why_not(named: Sequence[StoredProduct[ReferenceResults]]) -> str:
    newest = max(named, key=lambda product: product.manifest.created)
    if newest.sign_off is not None:
        return f"its reference is {newest.sign_off}"
    if newest.acceptance == Acceptance.REJECTED:
        verification = newest.results.verification
        failures = [] if verification is None else verification.outcome.failures
        return (
            f"its reference was rejected ({'; '.join(failures)}); nobody can accept it: mend or leave out "
            "the exposures, and build it again"
        )
    return "its reference is not held, so there is nothing to accept"
