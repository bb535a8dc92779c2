"""The catalog: what it says of a store is what all manifests say, whatever happens while it is kept."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nircam_darks.operations.accept import accept_reference
from services.ingest.claim import release_claim, segments_are_ingested, take_claim
from services.ingest.sets import note_expected
from shared.catalog import packs
from shared.catalog.packs import (
    Catalog,
    CatalogUpkeep,
    series_by_catalog,
    stored_by_catalog,
)
from shared.catalog.products import walk
from shared.catalog.series_products import SeriesProduct, series_product_of
from shared.catalog.store_contents import ProductSummary, Stored, read_stored
from shared.catalog.waiting import WaitingSurvey, what_waits
from shared.errors import BadInput
from shared.products.claim import Claim, Segment
from shared.products.figures import EXPOSURE_FIGURES, REFERENCE_FIGURES, SET_FIGURES
from shared.products.unserved import UnservedConfiguration, unserved_key
from shared.runtime.metrics import Metrics
from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.changes import ANEW, CATALOG, NEW, mark_changing, mark_of, marked
from shared.store.local import LocalStore
from shared.store.manifest import MANIFEST, Draft, Manifest
from support.arrivals import SLUG, DictStore, Exposure, Ingest
from support.report_store import FilledStore, a_key

KEY = a_key()


class Died(Exception):
    """The process was killed."""


def templates() -> dict[str, Manifest]:
    """A manifest of each kind that is followed in time, as the services write them."""
    store = DictStore()
    filled = FilledStore(store, Path("/files"))
    filled.reference(KEY, ["a"])
    filled.exposure_noise(KEY, "a")
    filled.set_noise(KEY, ["a"])
    return {product.kind: product.manifest for product in walk(store, "darkref/", "noise/")}


TEMPLATES = templates()
VERIFICATION = {
    "accepted": False,
    "acceptance": "held",
    "verdict": "held: x",
    "amplifiers": [None],
    "detector": False,
    "checks": [],
    "measurements": 5,
}


class Results:
    """Results that are a dict already."""

    def __init__(self, results: dict) -> None:
        self._results = results

    def model_dump(self, mode: str) -> dict:
        return self._results


def commit(store: DictStore, kind: str, name: str, exposures: list[str], **changes: object) -> str:
    """Commit a product like those of the services; return its path."""
    results = {**TEMPLATES[kind].results, **changes}
    if kind == "exposure-noise":
        results["exposure_id"] = name
    else:
        results |= {"set_id": name, "exposures": exposures}
    stage = "darkref" if kind == "reference" else "noise"
    path = f"{stage}/{KEY.slug}/{name}/{hashlib.sha256(kind.encode()).hexdigest()[:32]}"
    Draft(store, kind, path, [], {}, {kind: "1"}).commit(Results(results))
    return path


def read_series(store: Store) -> list[SeriesProduct]:
    """What the manifests say of the products that are followed in time."""
    followed = map(series_product_of, walk(store, "darkref/", "noise/", damaged=[]))
    return [each for each in followed if each is not None]


def shown_claims(stored: Stored) -> set[str]:
    """The claims that `status` looks at."""
    ingested = {ramp.subject for ramp in stored.of_kind("ramp")}
    return {
        claim.model_dump_json()
        for claim in stored.claims
        if claim.stands_aside or (claim.segment is not None and claim.exposure_id not in ingested)
    }


def says_what_the_manifests_say(store: Store) -> bool:
    expected, found = read_stored(store), stored_by_catalog(store)
    assert found.products == expected.products
    assert found.counts == expected.counts
    assert sorted(found.damaged) == sorted(expected.damaged)
    assert found.unserved == expected.unserved
    assert shown_claims(found) == shown_claims(expected)
    assert series_by_catalog(store, []) == read_series(store)
    return True


@pytest.fixture
def store() -> DictStore:
    made = DictStore()
    CatalogUpkeep()(made)
    assert Catalog(made).is_whole()
    return made


# --- in any order -------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.one_of(
    st.tuples(st.just("ramp"), NAMES, st.integers(0, 3)),
    st.tuples(st.just("rejection"), NAMES, st.integers(0, 3)),
    st.tuples(st.just("exposure-noise"), NAMES, st.just(0)),
    st.tuples(st.sampled_from(["reference", "held", "set-noise"]), NAMES, st.integers(1, 3)),
    st.tuples(st.sampled_from(["sign", "segment", "aside", "release", "unserved"]), NAMES, st.just(0)),
    st.tuples(st.sampled_from(["pack", "remake"]), st.just(""), st.just(0)),
)
WHEN = st.none() | st.integers(0, 8)


def do(store: DictStore, step: tuple[str, str, int]) -> None:
    """Do one thing that the services, an operator or the upkeep do."""
    what, name, number = step
    bench = Ingest(store, StageSettings(store="s3://test"))
    if what in ("ramp", "rejection"):
        exposure = Exposure(name, day=number / 10, rejected=what == "rejection")
        manifest = bench.ramp(exposure) if what == "ramp" else bench.reject(exposure)
        if number:
            note_expected(SLUG, number, name, store)
        segments_are_ingested([claim_of(name, 1)] if manifest.product == "ramp" else [], store)
    elif what in TEMPLATES:
        commit(store, what, name, [name, *"xyz"[:number]])
    elif what == "held":
        commit(store, "reference", name, [name], verification=VERIFICATION)
    elif what == "sign":
        # Nothing is held, or somebody accepted it.
        with contextlib.suppress(BadInput):
            accept_reference(store, name, "ana", "why not")
    elif what == "segment":
        take_claim(claim_of(name, 1), store)
    elif what == "aside":
        take_claim(claim_of(name, 0, "not needed"), store)
    elif what == "release":
        release_claim(claim_of(name, 1), store)
    elif what == "unserved":
        key = unserved_key(name)
        note = UnservedConfiguration(
            configuration=name, kind="N/A", context="c", reason="r", noted=datetime.now(UTC)
        )
        mark_changing(store, key)
        store.put(key, note.model_dump_json().encode())
    elif what == "pack":
        Catalog(store).pack(fewest=1)
    else:
        Catalog(store).remake()


def claim_of(name: str, segment: int, aside: str = "") -> Claim:
    part = Segment(number=segment, total=2, first=1, last=1) if segment else None
    digest = hashlib.sha256(f"{name} {segment}".encode()).hexdigest()
    return Claim(
        exposure_id=name, uri=f"s3://a/{name}", file=name, sha256=digest, segment=part, stands_aside=aside
    )


def at_request(number: int | None, act: Callable[[], None]) -> Callable[[str, str], None]:
    """Return a hook of a store that acts before one of its requests."""
    lock, left = threading.Lock(), [-1 if number is None else number]

    def before(operation: str, key: str) -> None:
        with lock:
            left[0] -= 1
            is_now = left[0] == -1 and number is not None
        if is_now:
            act()

    return before


def die() -> None:
    raise Died


@settings(max_examples=60)
@given(history=st.lists(st.tuples(STEPS, WHEN), min_size=1, max_size=14), full=st.integers(1, 6))
def test_in_any_order_and_with_processes_that_die_the_catalog_says_what_the_manifests_say(
    history: list[tuple[tuple[str, str, int], int | None]], full: int
) -> None:
    # Given a store whose packs are full with a few products
    store = DictStore()
    with mock.patch.object(packs, "_FULL", full):
        Catalog(store).remake()
        for step, dies_at in history:
            # When things happen, and processes are killed between any two requests and never come back
            store.before = at_request(dies_at, die)
            with contextlib.suppress(Died):
                do(store, step)
            store.before = lambda operation, key: None
        # Then both say the same
        assert says_what_the_manifests_say(store)
        # And so they do when all is packed, and when the catalog is made again
        Catalog(store).pack(fewest=1)
        assert says_what_the_manifests_say(store)
        Catalog(store).remake()
        assert says_what_the_manifests_say(store)


@settings(max_examples=60)
@given(
    steps=st.lists(STEPS, min_size=1, max_size=10),
    beside=st.sampled_from(["pack", "remake"]),
    at=st.integers(0, 15),
    what=st.sampled_from(["read", "pack", "remake"]),
    full=st.integers(1, 6),
)
def test_while_it_is_packed_beside_nothing_is_missing(
    steps: list[tuple[str, str, int]], beside: str, at: int, what: str, full: int
) -> None:
    # Given a store, and somebody who packs it or makes its catalog again in the middle of what another does
    store = DictStore()
    with mock.patch.object(packs, "_FULL", full):
        Catalog(store).remake()
        for step in steps:
            do(store, step)

        def act() -> None:
            store.before = lambda operation, key: None
            do(store, (beside, "", 0))

        store.before = at_request(at, act)
        # When the other reads, or packs, too, Then nothing is missing or doubled
        if what == "read":
            found = stored_by_catalog(store)
            store.before = lambda operation, key: None
            expected = read_stored(store)
            assert (found.products, found.counts) == (expected.products, expected.counts)
        else:
            do(store, (what, "", 0))
            store.before = lambda operation, key: None
        assert says_what_the_manifests_say(store)


# --- what it costs, and what it keeps -----------------------------------------------------------------------


def test_what_is_packed_is_read_from_few_objects(store: DictStore) -> None:
    # Given forty exposures with their noise, packed
    bench = Ingest(store, StageSettings(store="s3://test"))
    for n in range(40):
        bench.ramp(Exposure(f"e{n}", day=n / 10))
        note_expected(SLUG, 40, f"e{n}", store)
        commit(store, "exposure-noise", f"e{n}", [])
    assert Catalog(store).pack(fewest=1) == 120
    # When it is read, Then a handful of requests are enough
    requests: list[str] = []
    store.before = lambda operation, key: requests.append(f"{operation} {key}")
    assert len(stored_by_catalog(store).products) == 80
    assert len(requests) <= 7, requests
    assert list(marked(store, NEW)) == []


def test_little_is_left_to_be_read_singly(store: DictStore) -> None:
    Ingest(store, StageSettings(store="s3://test")).ramp(Exposure("a"))
    assert Catalog(store).pack() == 0
    assert len(list(marked(store, NEW))) == 1


def test_a_damaged_manifest_is_told_until_it_is_made_anew(tmp_path: Path) -> None:
    # Given a ramp whose manifest is cut before it was packed
    local = LocalStore(tmp_path)
    CatalogUpkeep()(local)
    bench = Ingest(local, StageSettings(store=tmp_path))
    key = f"{bench.ramp(Exposure('a')).path}/{MANIFEST}"
    local.put(key, local.get(key)[:50])
    Catalog(local).pack(fewest=1)
    assert stored_by_catalog(local).damaged == [local.uri(key)]
    # When it is made again, and packed
    bench.ramp(Exposure("a"))
    Catalog(local).pack(fewest=1)
    # Then it is there
    assert says_what_the_manifests_say(local)
    assert list(marked(local, NEW)) == []


def test_a_product_that_only_some_commands_can_read_is_never_packed(store: DictStore) -> None:
    # Given a reference whose results are enough for `status`, and not for `stability`
    bench = Ingest(store, StageSettings(store="s3://test"))
    [ready] = bench.arrive(Exposure("a", count=1))
    path = bench.build(ready)
    Catalog(store).pack(fewest=1)
    assert f"{path}/{MANIFEST}" in set(marked(store, NEW))
    # Then each command says what it says of the manifest
    assert [p.path for p in stored_by_catalog(store).of_kind("reference")] == [path]
    damaged: list[str] = []
    assert series_by_catalog(store, damaged) == []
    assert damaged == [store.uri(f"{path}/{MANIFEST}")]


def test_a_damaged_pack_is_told_and_the_manifests_are_read(store: DictStore, caplog) -> None:
    bench = Ingest(store, StageSettings(store="s3://test"))
    bench.ramp(Exposure("a"))
    commit(store, "exposure-noise", "a", [])
    Catalog(store).pack(fewest=1)
    [pack] = [key for key in store.objects if key.startswith(f"{CATALOG}packs/")]
    store.objects[pack] = store.objects[pack][:-1] + b"?"
    # When it is read, Then the answer is whole, and the log says what to do
    assert says_what_the_manifests_say(store)
    CatalogUpkeep()(store)
    assert {record.levelname for record in caplog.records} == {"ERROR"}
    # When the catalog is made again, Then it is used again
    Catalog(store).remake()
    caplog.clear()
    assert says_what_the_manifests_say(store)
    assert not caplog.records


def test_a_store_of_an_earlier_version_is_read_from_its_manifests(monkeypatch, caplog) -> None:
    # Given a store without a catalog, too large for the survey to make one
    monkeypatch.setattr(packs, "MOST_TO_REMAKE", 3)
    monkeypatch.setattr(packs, "_MANY", 3)
    store = DictStore()
    bench = Ingest(store, StageSettings(store="s3://test"))
    for name in "abc":
        bench.ramp(Exposure(name))
    for key in [key for key in store.objects if key.startswith(CATALOG)]:
        del store.objects[key]
    CatalogUpkeep()(store)
    # Then the answer is that of the manifests, and both say that there is no catalog
    assert says_what_the_manifests_say(store)
    assert not Catalog(store).is_whole()
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    # When it is made, Then it is used
    Catalog(store).remake()
    assert says_what_the_manifests_say(store)


def test_what_was_removed_by_hand_is_gone_when_the_catalog_is_made_again(store: DictStore) -> None:
    bench = Ingest(store, StageSettings(store="s3://test"))
    path = bench.ramp(Exposure("a")).path
    bench.ramp(Exposure("b"))
    Catalog(store).pack(fewest=1)
    del store.objects[f"{path}/{MANIFEST}"]
    Catalog(store).remake()
    assert [p.subject for p in stored_by_catalog(store).products] == ["b"]


def test_a_figure_that_json_cannot_hold_is_read_from_the_manifest(store: DictStore) -> None:
    # Given noise whose time is not a number
    path = commit(store, "exposure-noise", "a", [], integration_mjd=["NaN"])
    Catalog(store).pack(fewest=1)
    assert f"{path}/{MANIFEST}" in set(marked(store, NEW))
    assert [each.path for each in series_by_catalog(store, [])] == [path]


def test_segments_of_an_ingested_exposure_cost_no_request(store: DictStore) -> None:
    claims = [claim_of("a", 1), claim_of("a", 2)]
    for claim in claims:
        take_claim(claim, store)
    assert len(list(marked(store, ANEW))) == 2
    segments_are_ingested(claims, store)
    assert list(marked(store, ANEW)) == []


def test_the_survey_shows_of_the_catalog_what_it_shows_of_each_configuration(store: DictStore) -> None:
    # Given exposures of two contexts, one of them in a reference
    bench = Ingest(store, StageSettings(store="s3://test"))
    for n, name in enumerate("abcd"):
        bench.ramp(Exposure(name, integrations=n + 1, context="b.pmap" if n == 3 else "a.pmap"))
    [ready] = bench.check(exposure_ids=["d"], final=True) or [None]
    if ready is not None:
        bench.build(ready)
    metrics = Metrics("ingest")
    survey = WaitingSurvey(metrics)
    for fewest in (100, 1):
        Catalog(store).pack(fewest)
        # When the store is surveyed, Then it is what this configuration alone comes to
        survey(store)
        expected = what_waits(store, SLUG)
        labels = {"configuration": SLUG}
        value = metrics.registry.get_sample_value
        assert value("darks_set_waiting_integrations", labels) == expected.integrations
        assert value("darks_set_outdated_exposures", labels) == expected.outdated
    # When nothing changes, Then it asks for little
    survey(store)
    requests: list[str] = []
    store.before = lambda operation, key: requests.append(operation)
    survey(store)
    assert requests == ["get", "list", "list"]


def test_a_mark_gives_back_its_key_however_long(store: DictStore) -> None:
    for key in (f"ingest/{'c' * 150}/{'e' * 199}/{'0' * 32}/{MANIFEST}", "expected/c/e/4.json"):
        mark_changing(store, key)
        assert key in set(marked(store, ANEW))
        assert max(map(len, mark_of(key).split("/"))) <= 200


def test_a_product_made_again_counts_once_and_the_newer_one(store: DictStore) -> None:
    # Given a product that was packed, removed, and made again at a later time
    bench = Ingest(store, StageSettings(store="s3://test"))
    path = bench.ramp(Exposure("a")).path
    Catalog(store).pack(fewest=1)
    del store.objects[f"{path}/{MANIFEST}"]
    created = bench.ramp(Exposure("a")).created
    # Then it has the time of the newer, singly read and packed
    for _ in range(2):
        [product] = stored_by_catalog(store).products
        assert product.created == created
        Catalog(store).pack(fewest=1)


def test_whoever_changes_what_a_pack_holds_gives_the_catalog_another_number() -> None:
    # Given all that a pack depends on
    shape = [
        [field.name for field in fields(ProductSummary)],
        sorted(SeriesProduct.model_fields),
        [(row.name, row.quantity, row.unit) for row in (*REFERENCE_FIGURES, *SET_FIGURES, *EXPOSURE_FIGURES)],
    ]
    # Then it is what the catalog of this number has; raise the number of `CATALOG` with every change
    digest = hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:16]
    assert (CATALOG, digest) == ("index/catalog-1/", "0e2d1d7ef6f896bd")
