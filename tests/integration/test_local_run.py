"""The laptop's run around its services: leftovers, faults of its own, a disk that is full."""

import io
import json
import os
import threading
from pathlib import Path

import pytest
from astropy.io import fits
from pydantic import BaseModel
from rich.console import Console

from nircam_darks.cli.progress import StageBars
from nircam_darks.cli.run import local_run
from nircam_darks.cli.run.local_run import run_local
from nircam_darks.cli.run.tracker import RunTracker
from nircam_darks.operations.candidates import Candidate
from nircam_darks.operations.find_exposures import find_exposures
from shared.errors import EnvironmentFault, NoSpaceLeft
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import Draft, InputDigest, find
from support.ingest_exposures import ARCHIVE_ID, IDENTITY, START_MJD, edit, write_exposure

HANDLER = """
from shared.errors import NoSpaceLeft
def handle(message, context):
    {body}
    return []
"""


class Results(BaseModel):
    value: float = 1.0


def run(out: Path, candidates: list[Candidate] | None = None, jobs: int = 1):
    bars = StageBars(Console(file=io.StringIO()), len(candidates or []))
    return run_local(candidates or [], out, StageSettings(store=out), jobs, {}, bars)


@pytest.fixture
def ingest_by(tmp_path, monkeypatch):
    """Let a function of these lines take the place of ingest."""

    def use(body: str) -> None:
        (tmp_path / "stand_in.py").write_text(HANDLER.format(body=body))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(local_run.STAGE_HANDLERS, "ingest", "stand_in:handle")

    return use


def candidates(count: int) -> list[Candidate]:
    return [Candidate(Path(f"/darks/e{n}_uncal.fits"), f"e{n}") for n in range(count)]


def draft(store: LocalStore, path: str) -> Draft:
    return Draft(store, "set-noise", path, [InputDigest(role="ramp", uri="a", sha256="a")], {}, {})


def test_a_run_removes_what_a_killed_one_left(tmp_path):
    # Given a committed product, and objects of products whose run was killed before the commit
    store = LocalStore(tmp_path)
    stages = ("ingest", "persistence", "darkref", "noise")
    for stage in stages:
        made = draft(store, f"{stage}/c/s/{'a' * 32}")
        made.add("table.json", b"{}")
        made.commit(Results())
        for key in ("a" * 32, "b" * 32):
            draft(store, f"{stage}/c/s/{key}").add("table.json", b"left")
    store.put("exposures/e/claim.json", b"{}")

    # When the next run begins, Then they are gone, and all else is there
    run(tmp_path)
    assert not [key for key in store.list("") if store.get(key) == b"left"]
    assert store.get("exposures/e/claim.json") == b"{}"
    for stage in stages:
        manifest = find(store, f"{stage}/c/s/{'a' * 32}")
        assert manifest is not None
        assert store.get(manifest.objects[0].key) == b"{}"


def test_only_one_run_at_a_time_and_the_second_touches_nothing(tmp_path):
    # Given a run at work in a folder, with an object that is not committed yet
    store = LocalStore(tmp_path)
    entry = draft(store, f"noise/c/s/{'a' * 32}").add("table.json", b"{}")
    with local_run._alone_in(tmp_path), pytest.raises(EnvironmentFault) as caught:
        # When another is started there, Then it is refused, and the object is still there
        run(tmp_path)
    assert (caught.value.where, caught.value.setting) == (str(tmp_path), "--out")
    assert store.get(entry.key) == b"{}"


@pytest.mark.parametrize("beneath", [(), ("below",)])
def test_results_cannot_go_where_a_file_is(tmp_path, beneath):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault) as caught:
        run(tmp_path.joinpath("file", *beneath))
    assert caught.value.setting == "--out"


@pytest.mark.timeout(60)
def test_a_fault_in_following_the_run_ends_it(tmp_path, monkeypatch, ingest_by):
    # Given a campaign that fails over what it is told
    ingest_by("pass")
    monkeypatch.setattr(RunTracker, "_check_sets", lambda self: {}["a fault of ours"])
    # When it is run, Then the fault is raised, where the run would else wait for ever
    with pytest.raises(KeyError) as caught:
        run(tmp_path / "out", candidates(2))
    assert caught.value.args == ("a fault of ours",)


IN_TURN = """
    import time
    from pathlib import Path
    from shared.errors import TransientError
    folder, me = context.settings.store.parent, message.content.exposure_id
    def note(what):
        with open(folder / "events", "a") as file:
            file.write(what + " " + me + chr(10))
    note("begin")
    tried = Path(folder / (me + ".tried"))
    if me == "e0" and not tried.exists():
        tried.touch()
        # Fails only when the next exposure is at work beside it.
        while "begin e1" not in (folder / "events").read_text():
            time.sleep(0.02)
        raise TransientError("again, please")
    context.wait_turn()
    note("end")
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("jobs", [2, 3])
def test_exposures_of_a_detector_run_side_by_side_and_end_in_order_of_time(tmp_path, jobs, ingest_by):
    # Given exposures of one detector within the persistence window, in no order, of which the first fails
    # once while the next one is at work
    ingest_by(IN_TURN.strip())
    starts = {f"e{n}": n * 1e-4 for n in range(6)}
    shuffled = [
        Candidate(
            Path(f"/darks/{name}_uncal.fits"),
            name,
            detector="NRCA1",
            configuration="c",
            start_mjd=starts[name],
            end_mjd=starts[name] + 0.5e-4,
        )
        for name in ("e3", "e0", "e5", "e1", "e4", "e2")
    ]

    # When they are run, Then each goes on in its turn, after the one before it, and none before
    outcome = run(tmp_path / "out", shuffled, jobs)
    events = (tmp_path / "events").read_text().splitlines()
    assert [event.split()[1] for event in events if event.startswith("end")] == sorted(starts)
    assert events.index("begin e1") < events.index("end e0")
    assert outcome.summary.failures == []
    assert not (tmp_path / "out" / ".turns").exists()


@pytest.mark.timeout(60)
def test_a_bar_that_cannot_be_drawn_ends_nothing(tmp_path, monkeypatch, ingest_by):
    ingest_by("pass")

    def fail(self: StageBars, event: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(StageBars, "observe", fail)
    run(tmp_path / "out", candidates(2))
    assert (tmp_path / "out" / "summary.json").exists()


@pytest.mark.timeout(60)
def test_a_full_disk_ends_the_run_for_all_that_wait(tmp_path, monkeypatch, ingest_by):
    # Given 40 exposures, and a disk that is full at the first
    monkeypatch.setattr(local_run, "STORE_PAUSES", (0.1,))
    monkeypatch.setattr(local_run, "RETRY_DELAYS", (0.1,))
    log = tmp_path / "attempts"
    attempt = f"import time; time.sleep(0.1); open({str(log)!r}, 'a').write('x')"
    ingest_by(f"{attempt}; raise NoSpaceLeft('no space left on /disk: make room')")

    # When it is run, Then each has the reason, after a few attempts and not after five of each
    outcome = run(tmp_path / "out", candidates(40))
    summary = json.loads(outcome.summary_path.read_text())
    assert [e["reason"] for e in summary["exposures"]] == ["no space left on /disk: make room"] * 40
    assert log.stat().st_size < 20
    assert threading.active_count() < 5


def test_what_cannot_be_written_at_the_end_is_a_fault_of_the_store(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(local_run, "write_report", full)
    with pytest.raises(NoSpaceLeft) as caught:
        run(tmp_path)
    assert caught.value.where == str(tmp_path)


@pytest.mark.timeout(120)
def test_where_the_rawest_file_of_an_exposure_fails_the_next_is_tried(tmp_path, monkeypatch):
    # Given a raw file whose pixels contradict its sums, two calibrated files of its exposure, the later of
    # which fails as well, and a good file of another exposure
    (tmp_path / "stand_in.py").write_text(HANDLER.format(body="pass"))
    monkeypatch.syspath_prepend(tmp_path)
    for service in ("darkref", "noise"):
        monkeypatch.setitem(local_run.STAGE_HANDLERS, service, "stand_in:handle")
    folder = tmp_path / "darks"
    files = []
    for name, finished, date in (("uncal", False, 1), ("darkpipeline", True, 2), ("jumpstep", True, 1)):
        path = write_exposure(folder / f"{ARCHIVE_ID}_{name}.fits", finished=finished)
        files.append(edit(path, **IDENTITY, DATE=f"2026-01-0{date}T00:00:00"))
    other = write_exposure(folder / "other_uncal.fits", seed=1, start_mjd=START_MJD + 0.01, finished=True)
    edit(other, **{**IDENTITY, "EXPOSURE": "2"})
    for path in files[:2]:
        with fits.open(path, memmap=False) as hdus:
            hdus.writeto(path, overwrite=True, checksum=True)
        body = bytearray(path.read_bytes())
        body[-4000] ^= 1
        path.write_bytes(body)
    found = find_exposures([folder])
    assert [each.path for each in found.candidates] == [files[0], other]
    # When a run is given the folder
    out = tmp_path / "out"
    bars = StageBars(Console(file=io.StringIO()), 2)
    settings = StageSettings(store=out, persistence_time=0)
    summary = run_local(found.candidates, out, settings, 1, {}, bars, found).summary
    # Then the third file is the exposure's, both bad files are told, and none is said not to be needed
    status = {Path(entry.file).name: entry.status for entry in summary.exposures}
    assert status == {
        files[0].name: "rejected",
        files[1].name: "rejected",
        files[2].name: "ingested",
        other.name: "ingested",
    }
    assert summary.ingested == 2
    assert not summary.all_well
