"""`nircam-darks reconcile` finds what led to nothing, says it again, and leaves the rest alone."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from nircam_darks.cli.main import app
from nircam_darks.operations.coverage import coverage_matrix
from nircam_darks.operations.reconcile import Gap, gaps, republish, sweep_leftovers
from nircam_darks.operations.status import store_status
from shared.broker.memory import MemoryBroker
from shared.broker.rabbitmq.management import QueueState
from shared.catalog.arrival_index import ArrivalIndex
from shared.catalog.sets import StoredConfiguration, stored_sets
from shared.catalog.store_contents import read_stored
from shared.contracts.messages import Envelope, SetReady, parse
from shared.errors import EnvironmentFault
from shared.products.claim import Segment, exposure_claim
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from support.arrivals import SLUG, DictStore, Exposure, Ingest, names

LATER = timedelta(hours=1)


@pytest.fixture
def bench() -> Ingest:
    return Ingest(DictStore(), StageSettings(store="s3://test"))


def found(bench: Ingest, after: timedelta = LATER, older_than: float = 600.0) -> list[Gap]:
    return gaps(read_stored(bench.store), bench.settings, older_than, datetime.now(UTC) + after)


def besides_index(store: LocalStore) -> set[str]:
    """All keys but those that repeat what the others say."""
    return {key for key in store.list("") if not key.startswith("index/")}


def heard(broker: MemoryBroker, queue: str) -> list[Envelope]:
    consumer = broker.consume(queue, prefetch=100)
    messages = []
    while delivery := consumer.poll(0.01):
        messages.append(parse(delivery.body))
        consumer.ack(delivery)
    consumer.close()
    return messages


def set_of(bench: Ingest, *exposures: str) -> SetReady:
    """Have some exposures come, with their noise; return the set."""
    for name in exposures:
        bench.arrive(Exposure(name, count=len(exposures)))
        bench.noise(Exposure(name))
    return bench.said[-1]


def test_a_store_in_order_has_no_gaps(bench: Ingest) -> None:
    ready = set_of(bench, "a", "b")
    bench.build(ready)
    bench.build(ready, "set-noise")
    bench.claim(Exposure("a"))
    bench.reject(Exposure("c"))
    assert found(bench) == []


def test_a_ramp_without_its_noise_is_announced_as_it_was_the_first_time(bench: Ingest) -> None:
    # Given two ramps, and the noise of one
    first = bench.ramp(Exposure("a")).messages
    bench.ramp(Exposure("b"))
    bench.noise(Exposure("b"))
    # When
    gap_found = found(bench)
    broker = MemoryBroker()
    assert [(gap.kind, gap.subject) for gap in republish(gap_found, bench.store, broker)] == [("noise", "a")]
    # Then the very message is said, also a second time
    list(republish(found(bench), bench.store, broker))
    assert [message.id for message in heard(broker, "noise")] == [first[0].id] * 2


def test_a_ramp_made_anew_has_no_noise_though_an_earlier_one_has(bench: Ingest) -> None:
    bench.noise(Exposure("a", version="0"))
    bench.ramp(Exposure("a"))
    assert [gap.kind for gap in found(bench)] == ["noise"]


@pytest.mark.parametrize(
    ("built", "missing"),
    [([], "dark reference and noise"), (["reference"], "noise"), (["set-noise"], "dark reference")],
)
def test_a_complete_set_without_its_products_has_ingest_say_so_again(
    bench: Ingest, built: list[str], missing: str
) -> None:
    # Given a set of which something was never made
    ready = set_of(bench, "a", "b")
    for product in built:
        bench.build(ready, product)
    # When
    [gap] = found(bench)
    # Then ingest is asked for it, and answers with the same set
    assert (gap.kind, gap.subject, gap.missing) == ("set", SLUG, f"{missing} of set {ready.set_id}")
    broker = MemoryBroker()
    list(republish([gap], bench.store, broker))
    [check] = heard(broker, "ingest")
    assert bench.answer(check) == [ready]
    # And once it is made there is no gap
    for product in {"reference", "set-noise"} - set(built):
        bench.build(ready, product)
    assert found(bench) == []


def test_a_set_that_settled_is_asked_for_and_no_sooner(bench: Ingest) -> None:
    bench.settings = bench.settings.model_copy(update={"settle_seconds": 1800.0})
    for name in "ab":
        bench.outgoing(Exposure(name))
        bench.noise(Exposure(name))
    assert found(bench, timedelta(minutes=20)) == []
    [gap] = found(bench, timedelta(minutes=40))
    # The check says since when nothing came, so that ingest decides as if its own had not got lost.
    [ready] = bench.answer(gap.message)
    assert len(ready.members) == 2
    # With one more exposure that came since, it would not
    bench.redate(bench.ramp(Exposure("c")).path, -1800)
    ArrivalIndex(bench.store, SLUG).remake()
    assert bench.answer(gap.message) == []


def test_sets_that_wait_and_sets_too_small_for_a_reference_are_no_gaps(bench: Ingest) -> None:
    bench.arrive(Exposure("a", count=2))
    bench.noise(Exposure("a"))
    assert found(bench) == []
    # A set of one integration, which darkref refuses, has its noise only
    alone = Ingest(DictStore(), bench.settings)
    [ready] = alone.arrive(Exposure("a", count=1))
    alone.noise(Exposure("a"))
    assert [gap.missing for gap in found(alone)] == [f"noise of set {ready.set_id}"]


def test_only_the_campaign_that_is_complete_is_asked_for(bench: Ingest) -> None:
    # Given a set that was never made, and another campaign that began
    ready = set_of(bench, "a", "b")
    for day, count in ((100.0, 2), (200.0, None)):
        one = Exposure(f"at {day}", day=day, integrations=2, count=count)
        assert bench.arrive(one) == []
        bench.noise(one)
    [gap] = found(bench)
    assert gap.missing == f"dark reference and noise of set {ready.set_id}"
    assert bench.answer(gap.message) == [ready]


def test_a_superseded_set_is_not_asked_for(bench: Ingest) -> None:
    set_of(bench, "a", "b")
    [whole] = bench.arrive(Exposure("late"))
    bench.noise(Exposure("late"))
    bench.build(whole)
    bench.build(whole, "set-noise")
    assert found(bench) == []


def test_an_exposure_that_was_begun_with_and_lost_is_announced_from_its_claim(bench: Ingest) -> None:
    # Given claims: of a ramp, of a refused exposure, of one under way, and of two that were lost
    now = datetime.now(UTC)
    for name in ("done", "refused", "lost", "old"):
        bench.claim(Exposure(name), None if name == "old" else now)
    bench.claim(Exposure("at work"), now + LATER)
    bench.ramp(Exposure("done"))
    bench.noise(Exposure("done"))
    bench.reject(Exposure("refused"))
    # When
    lost = found(bench)
    # Then both are announced, the file and its bytes as claimed
    assert [(gap.kind, gap.subject) for gap in lost] == [("exposure", "lost"), ("exposure", "old")]
    content = lost[0].message.content
    assert content.uri == "s3://archive/darks/lost_uncal.fits"
    assert len(content.sha256) == 64


def test_a_second_file_that_was_refused_does_not_hide_that_the_first_was_lost(bench: Ingest) -> None:
    claim = bench.claim(Exposure("a"), datetime.now(UTC))
    bench.store.put(
        "exposures/a/claim.json", claim.model_copy(update={"uri": "s3://x/y"}).model_dump_json().encode()
    )
    bench.reject(Exposure("a"))
    assert [gap.kind for gap in found(bench)] == ["exposure"]


def test_segments_are_announced_again_only_where_all_arrived_and_then_once(bench: Ingest) -> None:
    # Given an exposure of which a segment is missing, and one that was lost when all had arrived
    now = datetime.now(UTC)
    for name, numbers in (("waits", (1,)), ("lost", (1, 2))):
        for number in numbers:
            claim = bench.claim(Exposure(name), now)
            part = Segment(number=number, total=2, first=number, last=number)
            changed = claim.model_copy(update={"segment": part, "sha256": f"{number}"})
            bench.store.put(exposure_claim(name, f"{number}"), changed.model_dump_json().encode())
            bench.store.delete(exposure_claim(name, claim.sha256))
    # When, then
    assert [(gap.kind, gap.subject) for gap in found(bench)] == [("exposure", "lost")]


def test_work_within_the_grace_period_is_left_alone(bench: Ingest) -> None:
    bench.claim(Exposure("c"), datetime.now(UTC))
    set_of(bench, "a", "b")
    bench.ramp(Exposure("d"))
    assert found(bench, timedelta(seconds=500)) == []
    assert {gap.kind for gap in found(bench, timedelta(seconds=700))} == {"set", "noise", "exposure"}


def test_leftovers_are_swept_only_where_nobody_consumes(tmp_path) -> None:
    # Given a product, and what a killed attempt left of another
    store = LocalStore(tmp_path)
    bench = Ingest(store, StageSettings(store=tmp_path))
    bench.ramp(Exposure("a"))
    left = f"darkref/{SLUG}/s/{'0' * 32}/12345678/x.fits"
    store.put(left, b"half")
    before = besides_index(store)
    with pytest.raises(EnvironmentFault) as caught:
        sweep_leftovers(
            store, [QueueState("ingest", "service", 0, 0, 0), QueueState("noise", "service", 0, 0, 2)]
        )
    assert caught.value.where == "noise: 2"
    assert besides_index(store) == before
    assert sweep_leftovers(store, [QueueState("ingest", "service", 9, 0, 0)]) == 1
    assert caught.value.where == "noise: 2"
    assert besides_index(store) == before - {left}


def test_the_command_only_shows_with_dry_run(tmp_path, monkeypatch) -> None:
    store = LocalStore(tmp_path)
    bench = Ingest(store, StageSettings(store=tmp_path))
    bench.redate(bench.ramp(Exposure("a")).path, 700)
    monkeypatch.setenv("DARKS_STORE", str(tmp_path))
    monkeypatch.setattr("shared.broker.opening.open_services_broker", MemoryBroker)
    before = besides_index(store)

    def run(*words: str) -> list[dict]:
        result = CliRunner().invoke(app, ["reconcile", "--json", *words])
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    gap = {"kind": "noise", "subject": "a", "missing": "noise of the exposure"}
    for words, announced in ((("--dry-run",), 0), ((), 1)):
        report, last = run(*words)
        assert report == gap
        # The store has no index; it is made when something may be written
        assert last["summary"] == {
            **{"missing": 1, "announced": announced, "swept": None, "damaged": []},
            **{"indexed": announced, "unindexed": 0},
        }
    assert run("--older-than", "900")[0]["summary"]["missing"] == 0
    assert besides_index(store) == before
    assert CliRunner().invoke(app, ["reconcile", "--dry-run", "--sweep"]).exit_code == 2


def test_exposures_of_an_earlier_context_are_named_and_announced_again_when_asked(bench: Ingest) -> None:
    # Given a campaign of four, after half of which the CRDS context changed
    early = [Exposure(name, count=4, context="jwst_1303.pmap") for name in "ab"]
    for exposure in [*early, *(Exposure(name, count=4, context="jwst_1322.pmap") for name in "cd")]:
        bench.noise(exposure)
        bench.arrive(exposure)
    now = datetime.now(UTC) + LATER

    def configuration() -> StoredConfiguration:
        (only,) = stored_sets(read_stored(bench.store), bench.settings, now)
        return only

    def outdated() -> list[Gap]:
        missing = gaps(read_stored(bench.store), bench.settings, 600.0, now, outdated=True)
        return [gap for gap in missing if gap.kind == "exposure"]

    # Then the set holds those of the new context only, is not complete, and says why
    before = configuration()
    assert [(each.exposures, each.complete) for each in before.sets] == [(("c", "d"), False)]
    assert [ramp.subject for ramp in before.outdated] == ["a", "b"]
    assert before.waits_for is not None
    assert "2 made with jwst_1303.pmap, 2 made with jwst_1322.pmap" in before.waits_for
    # and the older ones are announced again only when that is asked for
    assert [gap for gap in found(bench) if gap.kind == "exposure"] == []
    assert [(gap.subject, type(gap.message)) for gap in outdated()] == [("a", Envelope), ("b", Envelope)]
    # When they are made again, Then the set is complete
    for exposure in early:
        bench.arrive(replace(exposure, context="jwst_1322.pmap"))
    after = configuration()
    assert [(each.exposures, each.complete) for each in after.sets] == [(("a", "b", "c", "d"), True)]
    assert (after.waits_for, after.outdated) == (None, ())
    assert outdated() == []


def test_sets_of_two_calibrations_are_the_same_in_every_command(bench: Ingest) -> None:
    # Given a complete epoch of four, of which two were calibrated elsewhere and two by somebody else
    ready: list[SetReady] = []
    for number, name in enumerate("abcd"):
        before = (("CAL_VER", "1.4.6" if number % 2 else "1.18.0"), ("CRDS_CTX", "jwst_1303.pmap"))
        exposure = Exposure(name, day=number / 10, count=4, integrations=2, before=before)
        ready += bench.arrive(exposure)
        bench.noise(exposure)
    now = datetime.now(UTC) + LATER
    # When ingest, `status` and `coverage` form its sets
    store = store_status(read_stored(bench.store), bench.settings, 10, now)
    (configuration,) = store.configurations
    cells = coverage_matrix(bench.store, bench.settings, now).cells
    # Then they are the same two
    by_id = {part.set_id: frozenset(part.exposures) for part in configuration.sets}
    assert by_id == {each.set_id: names(each) for each in ready}
    assert set(by_id.values()) == {frozenset("ac"), frozenset("bd")}
    assert len({part.calibrated_before for part in configuration.sets} - {""}) == 2
    assert max(cell.ramps for cell in cells) == 4
    # and `reconcile` misses the reference of each until it is built
    [gap] = found(bench)
    assert all(part.set_id in gap.missing for part in configuration.sets)
    bench.build(ready[0])
    [gap] = found(bench)
    assert f"dark reference and noise of set {ready[1].set_id}" in gap.missing
    assert f"dark reference and noise of set {ready[0].set_id}" not in gap.missing
