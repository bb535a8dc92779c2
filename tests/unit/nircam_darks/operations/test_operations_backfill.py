"""`nircam-darks backfill`: everything once, at the pace asked for, and on from where it stopped."""

import json
import re
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nircam_darks.cli.main import app
from nircam_darks.operations.backfill import HandledAddress, Pace, backfill, progress_key
from nircam_darks.operations.backfill_sources import AddressList, Folder, FoundAddress, open_source
from nircam_darks.operations.redeliveries import Redeliveries
from shared.broker.memory import MemoryBroker
from shared.contracts.messages import Envelope, ExposureAnnounced
from shared.errors import BadInput, EnvironmentFault, PermanentError, PublishFailed
from shared.products.claim import Claim, exposure_claim
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from support.arrivals import SLUG, DictStore, Exposure, Ingest


class Hearing(MemoryBroker):
    """A broker that keeps what it is told, and fails at the announcement of `fails_at`."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Envelope] = []
        self.fails_at: str | None = None

    def publish(self, message: Envelope, delay: float = 0.0) -> None:
        if message.content.exposure_id == self.fails_at:
            raise PublishFailed("not confirmed")
        super().publish(message, delay)
        self.heard.append(message)

    @property
    def names(self) -> list[str]:
        return [message.content.exposure_id for message in self.heard]


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    for n in range(25):
        path = folder / ("later" if n % 2 else "") / f"jw{n:02d}_uncal.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * n)
    (folder / "jw00_rate.fits").write_bytes(b"no exposure")
    return folder


@pytest.fixture
def store() -> DictStore:
    return DictStore()


def settings(*allowed: str) -> StageSettings:
    return StageSettings(store="s3://test", allowed_sources=list(allowed) or ["file:///"])


def run(
    source: Any, store: Any, broker: MemoryBroker, pace: Pace | None = None, **options: Any
) -> list[HandledAddress]:
    return list(
        backfill(source, store, broker, options.pop("settings", settings()), pace or Pace(), **options)
    )


def everything(inbox: Path) -> list[str]:
    result = sorted(path.relative_to(inbox).as_posix() for path in inbox.rglob("*_uncal.fits"))
    return [Path(name).name.removesuffix("_uncal.fits") for name in result]


def test_every_file_that_fits_is_announced_once_in_the_order_of_its_path(
    inbox: Path, store: DictStore
) -> None:
    broker = Hearing()
    result = run(Folder(inbox, "*_uncal.fits"), store, broker)
    assert broker.names == [each.exposure_id for each in result] == everything(inbox)
    assert {entry.outcome for entry in result} == {"announced"}
    content: ExposureAnnounced = broker.heard[-1].content
    assert content.uri == (inbox / "later" / "jw23_uncal.fits").as_uri()
    assert content.size == 23


def test_by_default_raw_files_are_found_in_any_case_and_compressed(tmp_path: Path, store: DictStore) -> None:
    for name in ("a_uncal.fits", "B_UNCAL.FITS", "c_uncal.fits.gz", "d_rate.fits", "e_uncal.jpg"):
        (tmp_path / name).write_bytes(b"x")
    source = open_source(str(tmp_path), None, None, settings())
    assert [address.position for address in source.addresses("")] == [
        "B_UNCAL.FITS",
        "a_uncal.fits",
        "c_uncal.fits.gz",
    ]


def test_exposures_that_came_before_are_passed_over_unless_asked_for(inbox: Path, store: DictStore) -> None:
    # Given a ramp of one and a rejection of another
    for name in ("jw02", "jw05"):
        store.put(f"ingest/{SLUG}/{name}/{'0' * 32}/manifest.json", b"{}")
    # And objects of an attempt that was never committed, which count for nothing
    store.put(f"ingest/{SLUG}/jw07/{'0' * 32}/12345678/ramp.fits", b"")
    broker = Hearing()
    result = run(Folder(inbox, "*_uncal.fits"), store, broker)
    assert {each.exposure_id for each in result if each.outcome == "passed"} == {"jw02", "jw05"}
    assert set(everything(inbox)) - set(broker.names) == {"jw02", "jw05"}
    again = Hearing()
    run(Folder(inbox, "*_uncal.fits"), store, again, again=True)
    assert again.names == everything(inbox)


def test_a_file_that_was_delivered_again_since_is_announced_once(inbox: Path) -> None:
    # Given a store with a ramp of every exposure but one, made after the files were written
    store = DictStore()
    source = Folder(inbox, "*_uncal.fits")
    bench = Ingest(store, StageSettings(store="s3://test"))
    for name in everything(inbox)[1:]:
        bench.ramp(Exposure(name))
    first = Hearing()
    run(source, store, first)
    assert first.names == everything(inbox)[:1]
    bench.ramp(Exposure(everything(inbox)[0]))
    # When one of the files is delivered again, Then it is announced, and the next time it is not
    path = inbox / "jw04_uncal.fits"
    path.write_bytes(path.read_bytes())
    again, last = Hearing(), Hearing()
    run(source, store, again)
    assert again.names == ["jw04"]
    bench.ramp(Exposure("jw04", version="3"))
    run(source, store, last)
    assert last.names == []


def test_an_address_without_a_time_is_no_redelivery(tmp_path: Path) -> None:
    # Given addresses of an exposure that was taken: of which nothing is known, of a version that was taken,
    # of another version, and one that an earlier backfill handled
    bench = Ingest(DictStore(), StageSettings(store="s3://test"))
    made = bench.ramp(Exposure("jw1")).created
    bench.claim(Exposure("jw1"), claimed=made)
    taken = "s3://b/jw1_uncal.fits?versionId=1"
    claim = Claim(exposure_id="jw1", uri=taken, file="f", sha256="0", claimed=made - timedelta(hours=1))
    bench.store.put(exposure_claim("jw1", "0"), claim.model_dump_json().encode())
    later = made + timedelta(minutes=1)
    redeliveries = Redeliveries(bench.store)
    unknown = FoundAddress("1", "s3://b/jw1_uncal.fits")
    same = FoundAddress("1", taken, modified=later)
    other = FoundAddress("1", "s3://b/jw1_uncal.fits?versionId=2", modified=later)
    # Then only the other version is one
    assert [redeliveries.is_settled(each) for each in (unknown, same, other)] == [True, True, False]
    assert Redeliveries(bench.store, later + timedelta(hours=1)).is_settled(other)
    assert not redeliveries.is_settled(FoundAddress("1", "s3://b/jw2_uncal.fits"))


@pytest.mark.parametrize("fails_at", range(0, 25, 3))
def test_one_that_failed_goes_on_where_it_stopped(inbox: Path, store: DictStore, fails_at: int) -> None:
    # Given a broker that goes away under way
    wanted = everything(inbox)
    broker = Hearing()
    broker.fails_at = wanted[fails_at]
    with pytest.raises(PublishFailed):
        run(Folder(inbox, "*_uncal.fits"), store, broker)
    assert broker.names == wanted[:fails_at]
    # When it is back
    broker.fails_at = None
    run(Folder(inbox, "*_uncal.fits"), store, broker)
    # Then nothing is left out and nothing said twice
    assert broker.names == wanted


@pytest.mark.parametrize("killed_after", range(1, 25, 4))
def test_one_that_was_killed_says_at_most_a_handful_again(
    inbox: Path, store: DictStore, killed_after: int
) -> None:
    # Given one that is killed: it notes nothing any more
    wanted = everything(inbox)
    broker = Hearing()
    saying = backfill(Folder(inbox, "*_uncal.fits"), store, broker, settings(), Pace())
    for _ in range(killed_after):
        next(saying)
    noted = dict(store.objects)
    saying.close()
    store.objects = noted
    # When it is begun again
    run(Folder(inbox, "*_uncal.fits"), store, broker)
    # Then everything was said, a few twice and under the same id
    assert set(broker.names) == set(wanted)
    assert len(broker.names) - len(wanted) < 10
    assert len({message.id for message in broker.heard}) == len(wanted)


def test_one_that_came_to_its_end_begins_anew_and_finds_what_is_new(inbox: Path, store: DictStore) -> None:
    broker = Hearing()
    run(Folder(inbox, "*_uncal.fits"), store, broker)
    for name in broker.names:
        store.put(f"ingest/{SLUG}/{name}/{'0' * 32}/manifest.json", b"{}")
    (inbox / "aa_uncal.fits").write_bytes(b"new, and first by its name")
    broker.heard.clear()
    run(Folder(inbox, "*_uncal.fits"), store, broker)
    assert broker.names == ["aa"]


def test_restart_begins_at_the_beginning_and_a_note_that_is_none_asks_for_it(
    inbox: Path, store: DictStore
) -> None:
    source = Folder(inbox, "*_uncal.fits")
    broker = Hearing()
    broker.fails_at = everything(inbox)[5]
    with pytest.raises(PublishFailed):
        run(source, store, broker)
    anew = Hearing()
    run(source, store, anew, restart=True)
    assert anew.names == everything(inbox)
    store.put(progress_key(source), b"not a note")
    with pytest.raises(EnvironmentFault) as caught:
        run(source, store, broker)
    assert caught.value.setting == "--restart"


def test_another_pattern_is_another_backfill(inbox: Path, store: DictStore) -> None:
    assert progress_key(Folder(inbox, "*_uncal.fits")) != progress_key(Folder(inbox, "*.fits"))
    assert progress_key(AddressList(("a",), "*", settings())) != progress_key(
        AddressList(("a", "b"), "*", settings())
    )


def test_nothing_is_announced_where_an_address_would_be_refused(inbox: Path, store: DictStore) -> None:
    # Given that files of one folder only may be read
    broker = Hearing()
    allowed = settings((inbox / "later").as_uri())
    with pytest.raises(PermanentError) as error:
        run(Folder(inbox, "*_uncal.fits"), store, broker, settings=allowed)
    message = str(error.value)
    assert "nothing was announced" in message
    assert "13 of 25" in message
    assert "DARKS_ALLOWED_SOURCES" in message
    assert "and 10 more" in message
    assert "\n" not in message
    assert broker.heard == []
    assert not store.objects


def test_a_rate_is_kept(inbox: Path, store: DictStore) -> None:
    clock = Clock()
    run(
        Folder(inbox, "*_uncal.fits"),
        store,
        Hearing(),
        Pace(rate=4, pause=clock.pause, clock=lambda: clock.now),
    )
    # 25 at 4 a second, the first at once
    assert clock.now - 100.0 == pytest.approx(24 / 4)
    assert max(clock.pauses) == pytest.approx(0.25)


def test_never_more_than_allowed_wait_for_ingest(inbox: Path, store: DictStore) -> None:
    # Given an ingest that takes three messages each time somebody waits
    broker = Hearing()
    taken = 0

    def waiting() -> int:
        ready = len(broker.heard) - taken
        most.append(ready)
        return ready

    def pause(seconds: float) -> None:
        nonlocal taken
        taken = min(len(broker.heard), taken + 3)

    most: list[int] = []
    pace = Pace(max_ready=5, waiting=waiting, pause=pause)
    for _ in backfill(Folder(inbox, "*_uncal.fits"), store, broker, settings(), pace):
        assert len(broker.heard) - taken <= 5
    assert max(most) == 5
    assert len(broker.names) == 25


def listed(tmp_path: Path, lines: Iterable[str]) -> Path:
    path = tmp_path / "list.txt"
    path.write_text("\n".join(lines))
    return path


def test_a_list_may_hold_files_objects_and_remarks(inbox: Path, tmp_path: Path, store: DictStore) -> None:
    may = settings("file:///", "s3://archive/darks/")
    file = listed(
        tmp_path,
        [
            "# of 2022",
            "s3://archive/darks/a%20b_uncal.fits?versionId=7",
            "",
            str(inbox / "jw02_uncal.fits"),
            "s3://archive/darks/x_uncal.fits",
        ],
    )
    broker = Hearing()
    run(open_source(None, file, None, may), store, broker, settings=may)
    assert [message.content.uri for message in broker.heard] == [
        "s3://archive/darks/a%20b_uncal.fits?versionId=7",
        (inbox / "jw02_uncal.fits").as_uri(),
        "s3://archive/darks/x_uncal.fits",
    ]
    assert broker.names == ["a-b", "jw02", "x"]


def test_a_list_with_an_address_that_is_none_is_refused_as_a_whole(tmp_path: Path, store: DictStore) -> None:
    may = settings("s3://archive/darks/")
    file = listed(tmp_path, ["s3://archive/darks/a.fits", "ftp://archive/a.fits", "s3://other/a.fits"])
    broker = Hearing()
    with pytest.raises(PermanentError) as caught:
        run(open_source(None, file, None, may), store, broker, settings=may)
    assert re.findall(r"\d of \d", str(caught.value)) == ["2 of 3"]
    assert broker.heard == []


@pytest.mark.parametrize("where", ["/no/such/folder", "s3://-", "s3://"])
def test_what_is_no_source_is_said(where: str) -> None:
    with pytest.raises(BadInput):
        open_source(where, None, None, settings())
    with pytest.raises(BadInput) as caught:
        open_source(None, Path(where), None, settings())
    assert (caught.value.check, caught.value.setting) == ("file", "--list")


def test_the_command(inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LocalStore(tmp_path / "store").put(f"ingest/{SLUG}/jw02/{'0' * 32}/manifest.json", b"{}")
    monkeypatch.setenv("DARKS_STORE", str(tmp_path / "store"))
    monkeypatch.setattr("shared.broker.opening.open_services_broker", MemoryBroker)
    monkeypatch.setenv("DARKS_ALLOWED_SOURCES", json.dumps([inbox.as_uri()]))
    runner = CliRunner()
    result = runner.invoke(app, ["backfill", str(inbox), "--json"])
    assert result.exit_code == 0, result.output
    *said, last = [json.loads(line) for line in result.stdout.splitlines()]
    assert last == {"summary": {"announced": 24, "passed": 1}}
    assert [each["exposure_id"] for each in said if each["outcome"] == "announced"].count("jw03") == 1
    assert runner.invoke(app, ["backfill"]).exit_code == 2
    assert runner.invoke(app, ["backfill", str(inbox), "--list", "x"]).exit_code == 2
