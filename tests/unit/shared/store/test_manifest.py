"""The commit point: a product is there wholly or not at all, and two makers make one."""

import hashlib
import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from shared.contracts.messages import Envelope, ExposureRejected, ReferenceBuilt, parse
from shared.contracts.messages import ObjectRef as Ref
from shared.errors import NoSpaceLeft, PermanentError
from shared.store.base import ObjectInfo
from shared.store.changes import CATALOG, NEW, mark_of
from shared.store.local import LocalStore
from shared.store.manifest import (
    MANIFEST,
    BuiltProduct,
    DamagedManifest,
    Draft,
    InputDigest,
    Manifest,
    ProductSpec,
    find,
    find_all,
    get_or_build,
    product_key,
    sweep,
)

INPUTS = [
    InputDigest(role="ramp", uri="file:///a", sha256="a1"),
    InputDigest(role="dark", uri="b", sha256="b2"),
]
VERSIONS = {"algorithm": "1", "jwst": "3.0.0"}


class Results(BaseModel):
    value: float
    values: list[float] = []


class Empty(BaseModel):
    """Results of a product that has none."""


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
    made.commit(Results(value=1.0))
    assert find(store, made.path) is not None


def test_what_is_committed_is_read_back_as_it_was(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    made = draft(store)
    file = store.scratch() / "dark.fits"
    file.write_bytes(b"dark" * 100)
    made.add("dark.fits", file)
    made.add("table.json", b"{}")
    manifest = made.commit(Results(value=1.5), [outgoing()], {"combine": 2.5})
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
    with pytest.raises(KeyError):
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
    first = one.commit(Results(value=1.0), [outgoing()])
    three = draft(store)
    three.add("dark.fits", b"made at 12:02")
    second = two.commit(Results(value=2.0), [outgoing()])
    third = three.commit(Results(value=3.0), [outgoing()])
    # Then both return the first manifest, and what it names is what the first one wrote
    assert first == second == third == find(store, one.path)
    assert store.get(first.object("dark.fits").key) == b"made at 12:00"
    assert first.object("dark.fits").sha256 == hashlib.sha256(b"made at 12:00").hexdigest()


def test_not_a_number_comes_back_as_one(tmp_path: Path) -> None:
    # Given a product of a set all of whose pixels are flagged
    store = LocalStore(tmp_path)
    made = draft(store)
    made.commit(Results(value=math.nan, values=[1.0, math.inf]), [outgoing(math.nan)])
    manifest = find(store, made.path)
    assert manifest is not None
    results = Results.model_validate(manifest.results)
    assert math.isnan(results.value)
    assert results.values == [1.0, math.inf]
    [message] = manifest.messages
    assert math.isnan(parse(message.encode()).content.dark_current_e_per_ks)
    # And the manifest is JSON that any reader takes.
    assert b": NaN" not in store.get(f"{made.path}/{MANIFEST}")


def test_a_newer_manifest_with_more_fields_is_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    draft(store).commit(Results(value=1.0))
    text = store.get(f"noise/c/s/k/{MANIFEST}").replace(b'"product"', b'"new": 1, "product"', 1)
    assert Manifest.model_validate_json(text).product == "set-noise"


def test_products_are_found_by_prefix_in_order(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for name in ("b", "a", "ab"):
        made = draft(store, f"noise/{name}/s/k")
        made.add("x", b"")
        made.commit(Results(value=1.0))
    assert [m.path for m in find_all(store, "noise/a")] == ["noise/a/s/k", "noise/ab/s/k"]
    assert [m.path for m in find_all(store, "noise/a/")] == ["noise/a/s/k"]


def test_what_the_loser_of_a_race_wrote_is_removed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    one, two = draft(store), draft(store)
    winner = one.add("dark.fits", b"first")
    loser = two.add("dark.fits", b"second")
    one.commit(Results(value=1.0))
    two.commit(Results(value=2.0))
    assert store.get(winner.key) == b"first"
    assert loser.key not in list(store.list(""))


def test_a_commit_whose_answer_got_lost_keeps_its_objects(tmp_path: Path) -> None:
    # Given a store that puts the manifest, loses its own answer and tries again
    class Forgetful(LocalStore):
        def put_if_absent(self, key: str, data: bytes) -> bool:
            super().put_if_absent(key, data)
            return super().put_if_absent(key, data)

    store = Forgetful(tmp_path)
    made = draft(store)
    entry = made.add("dark.fits", b"dark")
    manifest = made.commit(Results(value=1.0))
    assert manifest.objects == [entry]
    assert store.get(entry.key) == b"dark"


def test_an_attempt_that_runs_out_of_room_gives_back_what_it_took(tmp_path: Path) -> None:
    class Full(LocalStore):
        def put(self, key: str, data: bytes) -> ObjectInfo:
            if key.endswith("second"):
                raise NoSpaceLeft("no space left")
            return super().put(key, data)

    store = Full(tmp_path)
    made = draft(store)
    made.add("first", b"x")
    with pytest.raises(NoSpaceLeft):
        made.add("second", b"x")
    assert list(store.list("")) == []


def test_a_damaged_manifest_is_named_and_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a manifest of which half was lost, between two that are whole
    store = LocalStore(tmp_path)
    for folder in ("a", "c"):
        draft(store, f"noise/c/s/{folder}").commit(Empty())
    store.put(f"noise/c/s/b/{MANIFEST}", b'{"product": "set-noise", "pa')
    # When it is looked for, Then the error names it
    with pytest.raises(DamagedManifest) as caught:
        find(store, "noise/c/s/b")
    where = store.uri(f"noise/c/s/b/{MANIFEST}")
    assert caught.value.where == where
    assert "\n" not in str(caught.value)
    # And a walk goes past it, and tells
    assert [manifest.path for manifest in find_all(store, "noise/")] == ["noise/c/s/a", "noise/c/s/c"]
    assert where in caplog.text
    damaged: list[str] = []
    assert len(list(find_all(store, "noise/", damaged=damaged))) == 2
    assert damaged == [where]


def test_a_product_with_a_damaged_manifest_is_made_anew_and_the_bytes_are_kept(tmp_path: Path) -> None:
    # Given a product whose manifest was cut
    store = LocalStore(tmp_path)
    spec = ProductSpec("set-noise", "noise/c/s", [], {"gain": 2.0}, {"noise": "1"})
    made = []

    def build(draft: Draft) -> BuiltProduct:
        made.append(draft.add("map.bin", b"values").key)
        return BuiltProduct(Empty())

    get_or_build(store, spec, build)
    cut = store.get(spec.manifest_key)[:100]
    store.put(spec.manifest_key, cut)
    # When the same work is asked for, Then it is done again, once
    again = get_or_build(store, spec, build)
    assert len(made) == 2
    assert [entry.key for entry in again.objects] == made[1:]
    assert get_or_build(store, spec, build) == again == find(store, spec.path)
    # And what was there is kept beside it
    [aside] = [key for key in store.list(spec.path) if "/damaged-" in key]
    assert store.get(aside) == cut


KEYS = [f"{n:032x}" for n in range(20)]


def snapshot(store: LocalStore, prefix: str = "") -> dict[str, bytes]:
    return {key: store.get(key) for key in store.list(prefix)}


def test_what_killed_makers_left_is_swept_and_products_stay(tmp_path: Path) -> None:
    # Given a committed product, beside it what an earlier attempt left, and one never committed
    store = LocalStore(tmp_path)
    path, never = f"noise/c/s/{KEYS[1]}", f"noise/c/s/{KEYS[2]}"
    for name in ("a", "b"):
        draft(store, path).add(name, b"left")
        draft(store, never).add(name, b"left")
    made = draft(store, path)
    made.add("a", b"a")
    made.add("b", b"b")
    made.commit(Results(value=1.0))
    draft(store, f"noise/c/empty/{KEYS[3]}").commit(Results(value=1.0))
    # And what is no product: claims, the run's own files, a person's folder
    others = {
        "exposures/0123abcd/claim.json": b"{}",
        f"bytes/{'ab' * 32}/claim.json": b"{}",
        "summary.json": b"{}",
        f"noise/mine/{KEYS[4]}/notes.txt": b"mine",
        "noise/0123abcd/notes.txt": b"mine",
    }
    for key, data in others.items():
        store.put(key, data)
    stays = {key: data for key, data in snapshot(store).items() if data != b"left"}
    # Two products, of which one has two objects, each with its mark for the catalog.
    assert len(stays) == 4 + 2 + len(others)
    # When it is swept, Then only the leftovers are gone, folders and all
    assert sweep(store, "noise/") == 4
    assert snapshot(store) == stays
    assert not (tmp_path / never).exists()
    assert sweep(store, "noise/") == 0


def test_a_sweep_of_a_clean_store_reads_nothing(tmp_path: Path) -> None:
    class Unread(LocalStore):
        def get(self, key: str) -> bytes:
            raise AssertionError(f"{key} was read")

    for key in KEYS:
        made = draft(LocalStore(tmp_path), f"noise/c/s/{key}")
        made.add("a", b"a")
        made.commit(Results(value=1.0))
    assert sweep(Unread(tmp_path), "noise/") == 0


def test_a_sweep_keeps_to_its_prefix(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    draft(store, f"noise/c/s/{KEYS[1]}").add("a", b"")
    assert sweep(store, "ingest/") == 0
    assert len(snapshot(store)) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b'{"objects": 1, "path": "x"}', b"\xff", None])
def test_where_a_manifest_does_not_say_what_is_its_own_nothing_is_removed(
    tmp_path: Path, body: bytes | None
) -> None:
    # Given a product whose manifest is damaged, or speaks of another store from which it was copied
    store = LocalStore(tmp_path)
    made = draft(store, f"noise/c/s/{KEYS[1]}")
    made.add("a", b"a")
    draft(store, made.path).add("a", b"left")
    made.commit(Results(value=1.0))
    if body is None:
        (tmp_path / "noise").rename(tmp_path / "old")
        (tmp_path / "old").rename(tmp_path / "noise-copy")
        (tmp_path / "noise").mkdir()
        (tmp_path / "noise-copy").rename(tmp_path / "noise" / "copy")
    else:
        store.put(f"{made.path}/{MANIFEST}", body)
    before = snapshot(store)
    assert sweep(store, "noise/") == 0
    assert snapshot(store) == before


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_sweep_removes_exactly_what_no_manifest_names(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("swept"))
    named = set()
    for key in data.draw(st.sets(st.sampled_from(KEYS[:4]))):
        for ends in data.draw(st.lists(st.booleans(), max_size=3)):
            made = draft(store, f"noise/c/s/{key}")
            entries = [made.add(name, b"x") for name in "ab"[: data.draw(st.integers(1, 2))]]
            if ends and made.commit(Results(value=1.0)).objects == entries:
                named |= {entry.key for entry in entries} | {f"{made.path}/{MANIFEST}"}
    sweep(store, "noise/")
    assert {key for key in store.list("") if not key.startswith(CATALOG)} == named


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


def _spec(kind: str = "set-noise") -> ProductSpec:
    return ProductSpec(kind, "noise/c/s", INPUTS, {"sigma": 3.0}, VERSIONS)


def test_a_product_is_built_once_and_its_announcement_is_the_same_at_every_redelivery(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    calls = []

    def build(draft: Draft) -> BuiltProduct:
        calls.append(draft)
        draft.add("data.bin", b"data")
        rejected = ExposureRejected(exposure_id="e", uri="u", check="c", reason="r")
        return BuiltProduct(Results(value=1.0), rejected, {"measure": 1.5})

    cause = Envelope.of(ExposureRejected(exposure_id="e", uri="u", check="c", reason="r"), identity="cause")
    first = get_or_build(store, _spec(), build, cause=cause)
    again = get_or_build(store, _spec(), build, cause=cause)
    assert len(calls) == 1
    assert again == first == find(store, _spec().path)
    assert first.path == f"noise/c/s/{product_key(INPUTS, {'sigma': 3.0}, VERSIONS)}"
    assert (first.product, first.timings) == ("set-noise", {"measure": 1.5})
    (announced,) = first.messages
    assert announced.correlation_id == cause.correlation_id
    assert announced.id == Envelope.of(announced.content, identity=_spec().key).id


def test_nothing_is_committed_if_the_work_fails(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)

    def build(draft: Draft) -> BuiltProduct:
        raise PermanentError("no")

    with pytest.raises(PermanentError):
        get_or_build(store, _spec(), build)
    assert list(store.list("")) == []


def test_who_loses_the_race_gets_the_winners_manifest_and_leaves_no_object_behind(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)

    def build(draft: Draft) -> BuiltProduct:
        draft.add("data.bin", b"mine")
        return BuiltProduct(Results(value=1.0))

    def slow(draft: Draft) -> BuiltProduct:
        built = build(draft)
        get_or_build(store, _spec(), build)
        return built

    manifest = get_or_build(store, _spec(), slow)
    kept = [manifest.objects[0].key, _spec().manifest_key, NEW + mark_of(_spec().manifest_key)]
    assert sorted(store.list("")) == sorted(kept)


def test_a_stored_manifest_calls_its_results_facts_as_every_version_has(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    manifest = get_or_build(store, _spec(), lambda draft: BuiltProduct(Results(value=2.5)))
    stored = json.loads(store.get(_spec().manifest_key))
    assert stored["facts"] == manifest.results == {"value": 2.5, "values": []}
    assert "results" not in stored
