"""What `nircam-darks status` says."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from typer.testing import CliRunner

from nircam_darks.cli.commands.status import status_tables
from nircam_darks.cli.main import app
from nircam_darks.operations.coverage import coverage_matrix
from nircam_darks.operations.status import Status, ask_status, store_status
from services.ingest.plan import plan_for
from services.ingest.references import MissingReference, UncachedReference
from services.ingest.unserved import noted_if_unserved
from shared.broker.rabbitmq.management import QueueState
from shared.catalog.store_contents import read_stored
from shared.errors import StoreUnavailable, TransientError
from shared.products.claim import Claim, Segment, exposure_claim
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from support.arrivals import SLUG, DictStore, Exposure, Ingest, names

QUEUES = [
    QueueState("ingest", "service", 12, 1, 2),
    QueueState("ingest.dead", "dead", 3, 0, 0),
]


@pytest.fixture
def bench() -> Ingest:
    return Ingest(DictStore(), StageSettings(store="s3://test"))


def asked(bench: Ingest, **options: object) -> Status:
    return ask_status(lambda: QUEUES, lambda: bench.store, bench.settings, **options)


def shown(found: Status) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    for part in status_tables(found):
        console.print(part, soft_wrap=False)
    return console.export_text()


def test_every_complete_set_has_exactly_one_current_reference_a_late_exposure_notwithstanding(
    bench: Ingest,
) -> None:
    # Given a set of two whose reference was built twice, and one of three that a late exposure made
    bench.arrive(Exposure("a", count=2))
    [first] = bench.arrive(Exposure("b"))
    once, again = bench.build(first), bench.build(first, parameters="again")
    bench.redate(once, 100)
    [second] = bench.arrive(Exposure("late"))
    last = bench.build(second)
    noise = bench.build(second, "set-noise")
    # When
    result = asked(bench)
    # Then the one set is complete and has the one that is current
    assert result.whole
    [configuration] = result.store.configurations
    [the_set] = configuration.sets
    assert (the_set.set_id, the_set.complete) == (second.set_id, True)
    assert (the_set.reference, the_set.noise) == (last, noise)
    assert set(the_set.exposures) == names(second)
    assert configuration.waits_for is None
    # And of the others it is said which one stands in their place
    assert {reference.path: reference.superseded_by for reference in configuration.references} == {
        once: last,
        again: last,
        last: None,
    }


def test_it_is_said_what_a_set_waits_for(bench: Ingest) -> None:
    bench.arrive(Exposure("a", count=5))
    bench.arrive(Exposure("b", rejected=True))
    [configuration] = asked(bench).store.configurations
    assert (configuration.ingested, configuration.rejected, configuration.expected) == (1, 1, 5)
    assert "1 of 5 announced exposures ingested, 1 rejected; more may come" in configuration.waits_for
    [the_set] = configuration.sets
    assert (the_set.complete, the_set.reference) == (False, None)


def test_each_campaign_waits_for_its_own_count(bench: Ingest) -> None:
    # Given a campaign that is complete with a refused exposure, and two that are not, 100 days apart
    for each in (Exposure("a", count=2), Exposure("b", rejected=True), Exposure("c", day=100.0, count=3)):
        bench.arrive(each)
    bench.arrive(Exposure("d", day=200.0))
    # When
    [configuration] = asked(bench).store.configurations
    # Then
    assert [(each.complete, each.expected) for each in configuration.sets] == [
        (True, 2),
        (False, 3),
        (False, None),
    ]
    assert (configuration.expected, configuration.rejected) == (5, 1)
    assert configuration.waits_for == (
        "from MJD 60100.00: 1 of 3 announced exposures ingested, 0 rejected; more may come; "
        "from MJD 60200.00: 1 exposure ingested, 0 rejected; more may come"
    )


def test_a_rejection_of_an_earlier_version_does_not_say_when_it_began(bench: Ingest) -> None:
    # Given a manifest without the start
    manifest = bench.reject(Exposure("b", day=100.0))
    del manifest.results["start_mjd"]
    bench.store.put(f"{manifest.path}/manifest.json", manifest.model_dump_json(by_alias=True).encode())
    # When the other exposure of a set of two comes, then both ingest and status take it as complete
    [ready] = bench.arrive(Exposure("a", count=2))
    [configuration] = asked(bench).store.configurations
    assert [(each_set.set_id, each_set.complete) for each_set in configuration.sets] == [(ready.set_id, True)]


def test_settled_sets_are_complete_once_nothing_came_for_so_long(bench: Ingest) -> None:
    bench.settings = bench.settings.model_copy(update={"settle_seconds": 600.0})
    bench.arrive(Exposure("a", integrations=2))
    now = datetime.now(UTC)
    for seconds, complete in ((100, False), (700, True)):
        result = asked(bench, now=now + timedelta(seconds=seconds))
        assert result.store.configurations[0].sets[0].complete is complete


def test_ramps_of_an_earlier_version_are_no_part_of_the_sets_of_this_one(bench: Ingest) -> None:
    # Given a set of three, of which two were calibrated again by a newer version
    for name in "abc":
        bench.redate(bench.ramp(Exposure(name, version="0")).path, 500)
    for name in "ab":
        bench.arrive(Exposure(name, count=2))
    # Then nobody takes the two for the set
    [the_set] = asked(bench).store.configurations[0].sets
    assert (the_set.complete, bench.said) == (False, [])
    # When the third is made again, Then the set is that of ingest
    bench.arrive(Exposure("c"))
    result = asked(bench)
    [the_set] = result.store.configurations[0].sets
    assert {the_set.set_id} == {each.set_id for each in bench.said}
    assert the_set.exposures == ["a", "b", "c"]


def test_the_newest_products_are_told_of_with_their_verdicts(bench: Ingest) -> None:
    paths = [bench.ramp(Exposure("a")).path, bench.reject(Exposure("b")).path]
    bench.noise(Exposure("a"))
    for seconds, path in zip((30, 20), paths, strict=True):
        bench.redate(path, seconds)
    result = asked(bench, last=2)
    kinds = [(product.kind, product.subject, product.verdict) for product in result.store.last_products]
    assert kinds == [
        ("exposure-noise", "a", "within"),
        ("rejection", "b", "b_uncal.fits: 3-D data"),
    ]
    assert result.store.last_products[1].age_seconds == pytest.approx(20, abs=5)
    assert (result.store.ingested, result.store.rejected) == (1, 1)


def test_a_damaged_manifest_is_named_and_hides_nothing_else(bench: Ingest) -> None:
    bench.ramp(Exposure("a"))
    bench.store.put(f"ingest/{SLUG}/b/{'0' * 32}/manifest.json", b"{")
    result = asked(bench)
    assert result.store.damaged == [f"dict:ingest/{SLUG}/b/{'0' * 32}/manifest.json"]
    assert result.store.ingested == 1
    assert f"dict:ingest/{SLUG}" in shown(result).replace("\n", "")


def test_where_one_server_is_away_the_other_is_still_told_of(bench: Ingest) -> None:
    def away() -> list[QueueState]:
        raise TransientError("no answer from\nthe broker")

    def gone() -> DictStore:
        raise StoreUnavailable("the store did not answer")

    bench.arrive(Exposure("a", count=2))
    no_broker = ask_status(away, lambda: bench.store, bench.settings)
    assert (no_broker.broker_problem, no_broker.queues) == ("no answer from the broker", None)
    assert no_broker.store.ingested == 1
    assert not no_broker.whole
    no_store = ask_status(lambda: QUEUES, gone, bench.settings)
    assert (no_store.store_problem, no_store.store) == ("the store did not answer", None)
    assert [queue.ready for queue in no_store.queues] == [12, 3]
    assert "Broker: no answer from the broker" in shown(no_broker)
    text = shown(no_store)
    assert "Store: the store did not answer" in text
    assert "ingest.dead" in text


def test_the_tables_say_it_in_eighty_columns(bench: Ingest) -> None:
    bench.arrive(Exposure("jw01062001001_02101_00001_nrca3", count=3))
    [ready] = [*bench.check(final=True)]
    bench.build(ready)
    bench.reject(Exposure("jw01062001001_02101_00002_nrca3"))
    text = shown(asked(bench))
    assert max(map(len, text.splitlines())) <= 80
    output = " ".join(text.split())
    for words in (
        "nrca3_sub64p_rapid_g6 3 1 1 1 1",
        "ingest 12 1 2",
        "1 of 3 announced exposures ingested",
        "rejection jw01062001001_02101_00002_nrca3 3-D data",
        "reference nrca3_sub64p_rapid_g6 within",
    ):
        assert words in output


def test_the_command_ends_with_three_and_json_where_the_broker_is_away(tmp_path, monkeypatch) -> None:
    # Given a store, and a port where nobody listens
    (tmp_path / "store").mkdir()
    bench = Ingest(LocalStore(tmp_path / "store"), StageSettings(store=tmp_path / "store"))
    bench.arrive(Exposure("a", count=2))
    monkeypatch.setenv("DARKS_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("DARKS_BROKER_URL", "amqp://127.0.0.1:1/darks")
    # When
    result = CliRunner().invoke(app, ["status", "--json"])
    # Then
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert document["queues"] is None
    assert document["broker_problem"]
    assert document["store"]["configurations"][0]["expected"] == 2
    monkeypatch.setenv("DARKS_STORE", str(tmp_path / "none"))
    document = json.loads(CliRunner().invoke(app, ["status", "--json"]).stdout)
    assert "no such folder" in document["store_problem"]


def claim_of(bench: Ingest, exposure: str, number: int | None, stands_aside: str = "") -> Claim:
    segment = None if number is None else Segment(number=number, total=3, first=number, last=number)
    digest = f"{number}{len(stands_aside)}"
    claim = Claim(
        exposure_id=exposure,
        uri=f"s3://archive/{exposure}-{digest}",
        file=f"{exposure}-{digest}",
        sha256=digest,
        segment=segment,
        stands_aside=stands_aside,
    )
    bench.store.put(exposure_claim(exposure, digest), claim.model_dump_json().encode())
    return claim


def test_an_exposure_that_lacks_segments_is_named_with_them(bench: Ingest) -> None:
    # Given two exposures in segments, of which all came of the other, and what it made is in the store
    for exposure, numbers in (("a", (1, 3)), ("b", (1, 2, 3))):
        for number in numbers:
            claim_of(bench, exposure, number)
    bench.ramp(Exposure("b"))
    # When
    result = asked(bench)
    # Then
    [waiting] = result.store.waiting_for_segments
    assert (waiting.exposure_id, waiting.missing, waiting.total) == ("a", [2], 3)
    assert len(waiting.arrived) == 2
    assert "2 of 3" in shown(result)
    assert json.loads(result.model_dump_json())["store"]["waiting_for_segments"][0]["missing"] == [2]


def test_a_file_that_is_not_needed_is_told_with_the_reason(bench: Ingest) -> None:
    bench.ramp(Exposure("a"))
    claim = claim_of(bench, "a", None, "not needed: x is rawer")
    result = asked(bench)
    assert [(each.uri, each.reason) for each in result.store.not_needed] == [(claim.uri, claim.stands_aside)]
    assert "1 file not needed" in shown(result)


def test_a_configuration_without_a_reference_is_noted_once_until_a_ramp_is_made(
    bench: Ingest, caplog
) -> None:
    # Given three exposures of which each meets that CRDS has no reference for their configuration
    plan = plan_for([], bench.settings, persistence_done=True)
    for _ in range(3):
        with pytest.raises(MissingReference), noted_if_unserved(SLUG, plan, bench.store):
            raise MissingReference(f"{SLUG}: CRDS has no SUPERBIAS reference")
    # When `status` and `coverage` look, Then both tell it, once, and so does the log
    now = datetime.now(UTC)
    [note] = store_status(read_stored(bench.store), bench.settings, 10, now).unserved
    assert (note.configuration, note.kind) == (SLUG, "N/A")
    assert coverage_matrix(bench.store, bench.settings, now).unserved == [note]
    assert len(caplog.records) == 1
    # and what the cache lacks is another kind
    with pytest.raises(UncachedReference), noted_if_unserved(SLUG, plan, bench.store):
        raise UncachedReference("the GAIN reference is not in the cache")
    assert [each.kind for each in read_stored(bench.store).still_unserved()] == ["not in the cache"]
    # When a ramp of the configuration is made, Then there is nothing left to tell
    bench.arrive(Exposure("a"))
    assert read_stored(bench.store).still_unserved() == []
    assert read_stored(bench.store).counts == {}
