"""The commit point: a product is there wholly or not at all, and two makers make one."""

import hashlib
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from shared.messages import Envelope, ReferenceBuilt, parse
from shared.messages import ObjectRef as Ref
from shared.store.local import LocalStore
from shared.store.manifest import MANIFEST, Draft, InputDigest, Manifest, find, find_all, product_key

INPUTS = [
    InputDigest(role="ramp", uri="file:///a", sha256="a1"),
    InputDigest(role="dark", uri="b", sha256="b2"),
]
VERSIONS = {"algorithm": "1", "jwst": "3.0.0"}


class Facts(BaseModel):
    value: float
    values: list[float] = []


def draft(store: LocalStore, path: str = "noise/c/s/k") -> Draft:
    return Draft(store, "set-noise", path, INPUTS, {"sigma": 3.0}, VERSIONS)


def outgoing(value: float = 27.0) -> Envelope:
    built = ReferenceBuilt(
        configuration="c",
        set_id="s",
        reference=Ref(key="k", size=1, sha256="a"),
        manifest="m",
        mode="reference",
        dark_current_e_per_ks=value,
        verdict="within",
    )
    return Envelope.of(built, identity="k")


def test_a_draft_is_no_product_until_it_is_committed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    made = draft(store)
    made.add("table.json", b"{}")
    assert find(store, made.path) is None
    assert list(find_all(store, "noise/")) == []
    made.commit(Facts(value=1.0))
    assert find(store, made.path) is not None


def test_what_is_committed_is_read_back_as_it_was(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    made = draft(store)
    file = store.scratch() / "dark.fits"
    file.write_bytes(b"dark" * 100)
    made.add("dark.fits", file)
    made.add("table.json", b"{}")
    manifest = made.commit(Facts(value=1.5), [outgoing()], {"combine": 2.5})
    again = find(store, made.path)
    assert again == manifest
    assert again.inputs == INPUTS
    assert again.versions == VERSIONS
    assert again.timings == {"combine": 2.5}
    # Every object is named with its bytes' size and digest.
    for entry in again.objects:
        body = store.get(entry.key)
        assert (len(body), hashlib.sha256(body).hexdigest()) == (entry.size, entry.sha256)
    assert again.object("dark.fits").size == 400
    with pytest.raises(KeyError, match=r"noise/c/s/k has no object 'other\.fits'"):
        again.object("other.fits")
    # The outbox can be published: a reader takes each message.
    assert [parse(m.encode()) for m in again.messages] == [
        outgoing().model_copy(update={"id": m.id, "correlation_id": m.correlation_id, "time": m.time})
        for m in again.messages
    ]


def test_of_two_makers_the_first_manifest_stands_and_its_objects_are_its_own(tmp_path: Path) -> None:
    # Given two workers that make one product, whose files differ in a date
    store = LocalStore(tmp_path)
    one, two = draft(store), draft(store)
    one.add("dark.fits", b"made at 12:00")
    two.add("dark.fits", b"made at 12:01")
    # When both commit, in any interleaving
    first = one.commit(Facts(value=1.0), [outgoing()])
    three = draft(store)
    three.add("dark.fits", b"made at 12:02")
    second = two.commit(Facts(value=2.0), [outgoing()])
    third = three.commit(Facts(value=3.0), [outgoing()])
    # Then both return the first manifest, and what it names is what the first one wrote
    assert first == second == third == find(store, one.path)
    assert store.get(first.object("dark.fits").key) == b"made at 12:00"
    assert first.object("dark.fits").sha256 == hashlib.sha256(b"made at 12:00").hexdigest()


def test_not_a_number_comes_back_as_one(tmp_path: Path) -> None:
    # Given a product of a set all of whose pixels are flagged
    store = LocalStore(tmp_path)
    made = draft(store)
    made.commit(Facts(value=math.nan, values=[1.0, math.inf]), [outgoing(math.nan)])
    manifest = find(store, made.path)
    assert manifest is not None
    facts = Facts.model_validate(manifest.facts)
    assert math.isnan(facts.value)
    assert facts.values == [1.0, math.inf]
    [message] = manifest.messages
    assert math.isnan(parse(message.encode()).content.dark_current_e_per_ks)
    # And the manifest is JSON that any reader takes.
    assert b": NaN" not in store.get(f"{made.path}/{MANIFEST}")


def test_a_newer_manifest_with_more_fields_is_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    draft(store).commit(Facts(value=1.0))
    text = store.get(f"noise/c/s/k/{MANIFEST}").replace(b'"product"', b'"new": 1, "product"', 1)
    assert Manifest.model_validate_json(text).product == "set-noise"


def test_products_are_found_by_prefix_in_order(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for name in ("b", "a", "ab"):
        made = draft(store, f"noise/{name}/s/k")
        made.add("x", b"")
        made.commit(Facts(value=1.0))
    assert [m.path for m in find_all(store, "noise/a")] == ["noise/a/s/k", "noise/ab/s/k"]
    assert [m.path for m in find_all(store, "noise/a/")] == ["noise/a/s/k"]


digest = st.builds(
    InputDigest, role=st.sampled_from("ab"), uri=st.text(max_size=3), sha256=st.sampled_from("123")
)


@given(inputs=st.lists(digest, max_size=4), order=st.randoms())
def test_a_product_key_is_of_what_not_where_nor_in_which_order(
    inputs: list[InputDigest], order: random.Random
) -> None:
    moved = [i.model_copy(update={"uri": "s3://elsewhere"}) for i in inputs]
    order.shuffle(moved)
    key = product_key(inputs, {"a": 1, "b": [2]}, VERSIONS)
    assert product_key(moved, {"b": [2], "a": 1}, dict(reversed(VERSIONS.items()))) == key
    assert len(key) == 32


def test_everything_that_a_result_depends_on_changes_its_key() -> None:
    base = product_key(INPUTS, {"sigma": 3.0}, VERSIONS)
    others = [
        product_key(INPUTS[:1], {"sigma": 3.0}, VERSIONS),
        product_key([*INPUTS, INPUTS[0]], {"sigma": 3.0}, VERSIONS),
        product_key([INPUTS[0], INPUTS[1].model_copy(update={"role": "ramp"})], {"sigma": 3.0}, VERSIONS),
        product_key(INPUTS, {"sigma": 4.0}, VERSIONS),
        product_key(INPUTS, {}, VERSIONS),
        product_key(INPUTS, {"sigma": 3.0}, {**VERSIONS, "jwst": "3.0.1"}),
    ]
    assert len({base, *others}) == 7
