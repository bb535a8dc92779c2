"""What `nircam-darks status` says."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from arrivals import SLUG, DictStore, Exposure, Ingest, names
from rich.console import Console
from typer.testing import CliRunner

from services.cli import app
from services.operations.status import Status, status
from services.operations.status_tables import status_tables
from shared.broker.rabbitmq.queues import QueueState
from shared.errors import StoreUnavailable, TransientError
from shared.settings import StageSettings
from shared.store.local import LocalStore

QUEUES = [
    QueueState("ingest", "service", 12, 1, 2),
    QueueState("ingest.dead", "dead", 3, 0, 0),
]


@pytest.fixture
def bench() -> Ingest:
    return Ingest(DictStore(), StageSettings(store="s3://test"))


def asked(bench: Ingest, **options: object) -> Status:
    return status(lambda: QUEUES, lambda: bench.store, bench.settings, **options)


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
    found = asked(bench)
    # Then the one set is complete and has the one that is current
    assert found.whole
    [configuration] = found.store.configurations
    [the_set] = configuration.sets
    assert (the_set.set_id, the_set.complete) == (second.set_id, True)
    assert (the_set.reference, the_set.noise) == (last, noise)
    assert set(the_set.exposures) == names(second)
    assert configuration.waits_for is None
    # And of the others it is said which one stands in their place
    assert {one.path: one.superseded_by for one in configuration.references} == {
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
    for one in (Exposure("a", count=2), Exposure("b", rejected=True), Exposure("c", day=100.0, count=3)):
        bench.arrive(one)
    bench.arrive(Exposure("d", day=200.0))
    # When
    [configuration] = asked(bench).store.configurations
    # Then
    assert [(one.complete, one.expected) for one in configuration.sets] == [
        (True, 2),
        (False, 3),
        (False, None),
    ]
    assert (configuration.expected, configuration.rejected) == (5, 1)
    assert configuration.waits_for == (
        "from MJD 60100.00: 1 of 3 announced exposures ingested, 0 rejected; more may come; "
        "from MJD 60200.00: 1 exposures ingested, 0 rejected; more may come"
    )


def test_a_rejection_of_an_earlier_version_does_not_say_when_it_began(bench: Ingest) -> None:
    # Given a manifest without the start
    manifest = bench.reject(Exposure("b", day=100.0))
    del manifest.facts["start_mjd"]
    bench.store.put(f"{manifest.path}/manifest.json", manifest.model_dump_json(by_alias=True).encode())
    # When the other exposure of a set of two comes, then both ingest and status take it as complete
    [ready] = bench.arrive(Exposure("a", count=2))
    [configuration] = asked(bench).store.configurations
    assert [(one.set_id, one.complete) for one in configuration.sets] == [(ready.set_id, True)]


def test_settled_sets_are_complete_once_nothing_came_for_so_long(bench: Ingest) -> None:
    bench.settings = bench.settings.model_copy(update={"settle_seconds": 600.0})
    bench.arrive(Exposure("a", integrations=2))
    now = datetime.now(UTC)
    for seconds, complete in ((100, False), (700, True)):
        found = asked(bench, now=now + timedelta(seconds=seconds))
        assert found.store.configurations[0].sets[0].complete is complete


def test_ramps_of_an_earlier_version_are_no_part_of_the_sets_of_this_one(bench: Ingest) -> None:
    # Given a set of three, of which two were calibrated again by a newer version
    for name in "abc":
        bench.redate(bench.ramp(Exposure(name, version="0")).path, 500)
    for name in "ab":
        bench.arrive(Exposure(name, count=2))
    found = asked(bench)
    # Then the set is that of ingest
    [the_set] = found.store.configurations[0].sets
    assert {the_set.set_id} == {one.set_id for one in bench.said}
    assert the_set.exposures == ["a", "b"]


def test_the_newest_products_are_told_of_with_their_verdicts(bench: Ingest) -> None:
    paths = [bench.ramp(Exposure("a")).path, bench.reject(Exposure("b")).path]
    bench.noise(Exposure("a"))
    for seconds, path in zip((30, 20), paths, strict=True):
        bench.redate(path, seconds)
    found = asked(bench, last=2)
    kinds = [(one.kind, one.subject, one.verdict) for one in found.store.last_products]
    assert kinds == [
        ("exposure-noise", "a", "within"),
        ("rejection", "b", "b_uncal.fits: 3-D data"),
    ]
    assert found.store.last_products[1].age_seconds == pytest.approx(20, abs=5)
    assert (found.store.ingested, found.store.rejected) == (1, 1)


def test_a_damaged_manifest_is_named_and_hides_nothing_else(bench: Ingest) -> None:
    bench.ramp(Exposure("a"))
    bench.store.put(f"ingest/{SLUG}/b/{'0' * 32}/manifest.json", b"{")
    found = asked(bench)
    assert found.store.damaged == [f"dict:ingest/{SLUG}/b/{'0' * 32}/manifest.json"]
    assert found.store.ingested == 1
    assert "damaged" in shown(found)


def test_where_one_server_is_away_the_other_is_still_told_of(bench: Ingest) -> None:
    def away() -> list[QueueState]:
        raise TransientError("no answer from\nthe broker")

    def gone() -> DictStore:
        raise StoreUnavailable("the store did not answer")

    bench.arrive(Exposure("a", count=2))
    no_broker = status(away, lambda: bench.store, bench.settings)
    assert (no_broker.broker_problem, no_broker.queues) == ("no answer from the broker", None)
    assert no_broker.store.ingested == 1
    assert not no_broker.whole
    no_store = status(lambda: QUEUES, gone, bench.settings)
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
    said = " ".join(text.split())
    for words in (
        "1 exposure ingested, 1 rejected",
        "Queues",
        "ingest 12 1 2",
        "Waiting for more",
        "1 of 3 announced exposures ingested",
        "Last products",
        "rejection jw01062001001_02101_00002_nrca3 3-D data",
        "reference nrca3_sub64p_rapid_g6 within",
    ):
        assert words in said


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
    said = json.loads(result.stdout)
    assert said["queues"] is None
    assert said["broker_problem"]
    assert said["store"]["configurations"][0]["expected"] == 2
    monkeypatch.setenv("DARKS_STORE", str(tmp_path / "none"))
    said = json.loads(CliRunner().invoke(app, ["status", "--json"]).stdout)
    assert "no such folder" in said["store_problem"]
