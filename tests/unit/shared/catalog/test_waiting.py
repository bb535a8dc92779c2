"""What waits for a dark reference, and what passes through a store."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from shared.catalog.waiting import Waiting, WaitingSurvey, what_waits
from shared.products.ramp import RampMetadata
from shared.products.reference import ReferenceResults
from shared.runtime.metrics import Metrics
from shared.store.counting import CountingStore, StoreTraffic
from shared.store.local import LocalStore
from shared.store.manifest import Draft, InputDigest, find_all, product_key

SLUG = "nrca1_sub64p_rapid_g5_3f2a9c1b"


class Ramp(BaseModel):
    exposure_id: str
    integrations: int


class Reference(BaseModel):
    exposures: list[str]


class Rejection(BaseModel):
    exposure_id: str


def commit(store: LocalStore, product: str, folder: str, results: BaseModel, context: str = "a.pmap") -> None:
    inputs = [InputDigest(role="x", uri="x", sha256=results.model_dump_json())]
    versions = {"crds_context": context}
    path = f"{folder}/{product_key(inputs, {}, versions)}"
    Draft(store, product, path, inputs, {}, versions).commit(results)


def test_the_facts_are_called_what_is_looked_for() -> None:
    assert Ramp.model_fields.keys() <= RampMetadata.model_fields.keys()
    assert Reference.model_fields.keys() <= ReferenceResults.model_fields.keys()


def test_what_no_reference_was_made_from_waits(tmp_path: Path) -> None:
    # Given three exposures of 2 integrations, one of them rejected, and one of another configuration
    store = LocalStore(tmp_path)
    assert what_waits(store, SLUG).integrations == 0
    for name in ("a", "b"):
        commit(store, "ramp", f"ingest/{SLUG}/{name}", Ramp(exposure_id=name, integrations=2))
    commit(store, "rejection", f"ingest/{SLUG}/c", Rejection(exposure_id="c"))
    commit(store, "ramp", f"ingest/{SLUG}0/d", Ramp(exposure_id="d", integrations=2))
    assert what_waits(store, SLUG).integrations == 4
    # When one ramp is made in a second way, Then its integrations are not more
    commit(store, "ramp", f"ingest/{SLUG}/b/again", Ramp(exposure_id="b", integrations=2))
    assert what_waits(store, SLUG).integrations == 4
    # When a reference is made of one, and then of all, Then the other waits, and then none
    commit(store, "reference", f"darkref/{SLUG}/set1", Reference(exposures=["a"]))
    assert what_waits(store, SLUG).integrations == 2
    commit(store, "reference", f"darkref/{SLUG}/set2", Reference(exposures=["a", "b"]))
    assert what_waits(store, SLUG).integrations == 0


def test_since_when_it_waits_is_told_by_its_first_and_last_exposure(tmp_path: Path) -> None:
    # Given two exposures, the first of which has a second ramp, made last
    store = LocalStore(tmp_path)
    assert what_waits(store, SLUG) == Waiting(0)
    for name, again in (("a", ""), ("b", ""), ("a", "/again")):
        commit(store, "ramp", f"ingest/{SLUG}/{name}{again}", Ramp(exposure_id=name, integrations=2))
    made = sorted(manifest.created for manifest in find_all(store, "ingest/"))
    # Then neither end is the second ramp's
    assert what_waits(store, SLUG) == Waiting(4, made[0], made[1])
    # When a reference is made of the first, Then only the other counts
    commit(store, "reference", f"darkref/{SLUG}/set1", Reference(exposures=["a"]))
    assert what_waits(store, SLUG) == Waiting(2, made[1], made[1])


def test_exposures_of_an_earlier_context_wait_in_no_set(tmp_path: Path) -> None:
    # Given four exposures of an earlier context, one of them in a reference, and then one of a later context
    store = LocalStore(tmp_path)
    for name in ("a", "b", "c", "d"):
        commit(store, "ramp", f"ingest/{SLUG}/{name}", Ramp(exposure_id=name, integrations=2))
    commit(store, "reference", f"darkref/{SLUG}/set1", Reference(exposures=["a"]))
    made = sorted(manifest.created for manifest in find_all(store, "ingest/"))
    assert what_waits(store, SLUG).outdated == 0
    commit(store, "ramp", f"ingest/{SLUG}/e", Ramp(exposure_id="e", integrations=2), "b.pmap")
    # When it is asked what waits, Then the three that no reference holds are outdated, since the first came
    waiting = what_waits(store, SLUG)
    assert (waiting.integrations, waiting.outdated, waiting.outdated_since) == (8, 3, made[1])
    # When two of them are made again, Then only the third is
    for name in ("b", "c"):
        commit(store, "ramp", f"ingest/{SLUG}/{name}", Ramp(exposure_id=name, integrations=2), "b.pmap")
    waiting = what_waits(store, SLUG)
    assert (waiting.outdated, waiting.outdated_since) == (1, made[3])


def test_a_ramp_whose_manifest_lacks_its_integrations_stops_no_survey(tmp_path: Path) -> None:
    # Given a whole ramp, and one whose manifest lacks the number of integrations
    store, metrics = LocalStore(tmp_path), Metrics("ingest")
    commit(store, "ramp", f"ingest/{SLUG}/a", Ramp(exposure_id="a", integrations=2))
    commit(store, "ramp", f"ingest/{SLUG}/b", Rejection(exposure_id="b"))
    # When the store is surveyed, Then the whole ramp is shown
    WaitingSurvey(metrics)(store)
    assert metrics.waiting() == [SLUG]
    assert what_waits(store, SLUG).integrations == 2


def test_what_waited_before_the_service_began_is_found_too(tmp_path: Path) -> None:
    # Given three configurations in the store, one of them with a reference of all it has
    store, metrics = LocalStore(tmp_path), Metrics("ingest")
    for slug in ("one", "two", "three"):
        commit(store, "ramp", f"ingest/{slug}/a", Ramp(exposure_id="a", integrations=2))
    commit(store, "reference", "darkref/two/set1", Reference(exposures=["a"]))
    survey = WaitingSurvey(metrics)
    # When a service that saw none of them arrive looks, Then it comes to one more each time
    results = []
    for _ in range(4):
        survey(store)
        results.append(metrics.waiting())
    assert results == [["one"], ["one", "three"], ["one", "three"], ["one", "three"]]
    # When those that wait are done, Then they are let go
    for slug in ("one", "three"):
        commit(store, "reference", f"darkref/{slug}/set1", Reference(exposures=["a"]))
    survey(store)
    assert metrics.waiting() == []


@given(
    bodies=st.lists(st.binary(max_size=300), max_size=6),
    reads=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 300), st.integers(0, 300)), max_size=10),
)
def test_every_byte_is_counted_once(
    tmp_path_factory, bodies: list[bytes], reads: list[tuple[int, int, int]]
) -> None:
    store = CountingStore(LocalStore(tmp_path_factory.mktemp("store")))
    read = written = 0
    for n, body in enumerate(bodies):
        if n % 3 == 0:
            store.put(f"k{n}", body)
        elif n % 3 == 1:
            path = store.scratch() / "made"
            path.write_bytes(body)
            store.put_file(f"k{n}", path)
        else:
            assert store.put_if_absent(f"k{n}", body)
            assert not store.put_if_absent(f"k{n}", b"another")
        written += len(body)
        assert store.get(f"k{n}") == body
        read += len(body)
    for n, offset, length in reads:
        if n < len(bodies) and offset + length <= len(bodies[n]):
            with store.open(f"k{n}") as reader:
                assert reader.size == len(bodies[n])
                assert reader.read(offset, length) == bodies[n][offset : offset + length]
            read += length
    assert store.traffic == StoreTraffic(read, written)
    store.delete("k0")
    assert sorted(store.list("k")) == [f"k{n}" for n in range(1, len(bodies))]
    assert store.uri("k1").endswith("/k1")
    store.close()
