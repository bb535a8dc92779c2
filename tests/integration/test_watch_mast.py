"""`nircam-darks watch-mast` against an archive on this machine."""

import hashlib
import json
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest

from nircam_darks.operations.mast.state import FileMark, WatchState
from shared.settings.mast import mast_settings_table
from support.mast_watching import WATCH, counts, exposure, names, run
from support.paths import DOCS

pytestmark = pytest.mark.usefixtures("mast_environment")


def test_new_darks_of_all_detectors_are_downloaded_and_announced_with_their_digest(
    archive, heard, monkeypatch, capsys, tmp_path
):
    # Given two darks, an image, and a dark of another program
    archive.exposures = [
        exposure(2, day=3),
        exposure(1, day=2),
        exposure(3, day=4, exp_type="NRC_IMAGE"),
        exposure(4, day=4, program="1063"),
    ]
    # When the archive is watched once
    assert run(monkeypatch, *WATCH) == 0
    # Then each raw file is announced, the first observed first, from where it lies now
    first = [f"jw01062001001_02101_00001_{detector}" for detector in ("nrca1", "nrcblong")]
    second = [f"jw01062001001_02101_00002_{detector}" for detector in ("nrca1", "nrcblong")]
    assert names(heard) == first + second
    output = heard[0].content
    path = tmp_path / "store/mast/files/jw01062/jw01062001001" / f"{first[0]}_uncal.fits"
    content = archive.exposures[1].files["nrca1"]
    assert output.uri == path.as_uri()
    assert path.read_bytes() == content
    assert (output.size, output.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert output.expected_exposures is None
    out = capsys.readouterr().out
    assert f"announced {first[0]} at {output.uri}" in out
    expected = {"exposure": 2, "new": 4, "announced before": 0, "not public": 0, "refused": 0}
    assert counts(out.splitlines()[-1]).items() >= expected.items()


def test_the_archive_is_read_page_by_page(archive, heard, monkeypatch):
    monkeypatch.setenv("DARKS_MAST_PAGE_SIZE", "3")
    archive.exposures = [exposure(number, day=2 + number, detectors=("nrca1",)) for number in range(7)]
    assert run(monkeypatch, *WATCH) == 0
    assert len(heard) == 7
    assert [(body["offset"], body["limit"]) for body in archive.searches()] == [(0, 3), (3, 3), (6, 3)]


def test_a_second_look_announces_only_what_is_new_or_was_published_late(archive, heard, monkeypatch):
    # Given a look at one dark
    archive.exposures = [exposure(5, day=20)]
    run(monkeypatch, *WATCH)
    heard.clear()
    # When nothing came, nothing is said
    assert run(monkeypatch, *WATCH) == 0
    assert heard == []
    # When a newer one came, and an older one was published late
    archive.exposures += [
        exposure(6, day=25, detectors=("nrca1",)),
        exposure(4, day=10, detectors=("nrca1",)),
    ]
    assert run(monkeypatch, *WATCH) == 0
    # Then these two are announced
    assert names(heard) == ["jw01062001001_02101_00004_nrca1", "jw01062001001_02101_00006_nrca1"]


def test_a_file_that_the_archive_delivers_again_is_announced_again_once(archive, heard, monkeypatch):
    # Given a dark of two detectors that was announced
    archive.exposures = [exposure(5, day=20)]
    run(monkeypatch, *WATCH)
    first = {message.content.exposure_id: message.id for message in heard}
    heard.clear()
    # When the archive makes one of its files anew
    archive.exposures[0].files["nrca1"] += b"and more"
    for _ in range(2):
        assert run(monkeypatch, *WATCH) == 0
    # Then that file is announced once more, by a message of its own
    assert names(heard) == ["jw01062001001_02101_00005_nrca1"]
    assert heard[0].content.size == len(archive.exposures[0].files["nrca1"])
    assert heard[0].id != first[heard[0].content.exposure_id]


def test_a_delivery_is_told_by_size_and_etag_as_far_as_they_are_known():
    # Given a state that knows a file by its size only, as it was downloaded
    state = WatchState(announced={"a": datetime(2024, 1, 2, tzinfo=UTC)}, marks={"a": FileMark(size=5)})
    # When it appears in the public bucket, Then it is the same, and its ETag counts from then on
    assert state.is_known("a", FileMark(size=5, etag="x"))
    assert state.is_known("a", FileMark(size=None, etag=None))
    assert not state.is_known("a", FileMark(size=5, etag="y"))
    assert not state.is_known("a", FileMark(size=6))
    assert not state.is_known("b", FileMark(size=5))


def test_what_is_long_past_is_neither_asked_for_nor_kept(archive, heard, monkeypatch, tmp_path):
    monkeypatch.setenv("DARKS_MAST_OVERLAP_DAYS", "5")
    archive.exposures = [exposure(1, day=2), exposure(2, day=20)]
    run(monkeypatch, *WATCH)
    run(monkeypatch, *WATCH)
    assert archive.searches()[-1]["conditions"][-1] == {"date_obs": ">=2024-01-15 10:00:00"}
    (state,) = (tmp_path / "store/mast/program-1062").glob("*.json")
    assert {name[20:25] for name in json.loads(state.read_text())["announced"]} == {"00002"}
    assert len(heard) == 4


def test_until_bounds_the_period(archive, heard, monkeypatch):
    archive.exposures = [exposure(1, day=2, detectors=("nrca1",)), exposure(2, day=20, detectors=("nrca1",))]
    assert run(monkeypatch, *WATCH, "--until", "2024-01-10") == 0
    assert names(heard) == ["jw01062001001_02101_00001_nrca1"]
    assert archive.searches()[0]["conditions"][-1] == {"date_obs": "2024-01-01 00:00:00..2024-01-10 00:00:00"}


def test_what_is_not_public_is_counted_and_announced_once_it_is(archive, heard, monkeypatch, capsys):
    monkeypatch.setenv("DARKS_MAST_OVERLAP_DAYS", "0")
    archive.exposures = [exposure(1, day=2, access="RESTRICTED"), exposure(2, day=20)]
    assert run(monkeypatch, *WATCH) == 0
    assert {name[20:25] for name in names(heard)} == {"00002"}
    expected = {"new": 2, "announced before": 0, "not public": 2}
    assert counts(capsys.readouterr().out.splitlines()[-1]).items() >= expected.items()
    # When it is released, the look goes back to it although newer ones were announced
    archive.exposures[0].access = "PUBLIC"
    heard.clear()
    assert run(monkeypatch, *WATCH) == 0
    assert {name[20:25] for name in names(heard)} == {"00001"}


def test_a_file_of_the_wrong_size_is_refused_and_tried_again(archive, heard, monkeypatch, capsys, tmp_path):
    archive.exposures = [exposure(1, day=2)]
    name = "jw01062001001_02101_00001_nrca1_uncal.fits"
    for content in (b"too short", b"too long" * 1000):
        archive.downloads[name] = content
        assert run(monkeypatch, *WATCH) == 3
        assert f"refused {name}" in capsys.readouterr().err
        assert not list((tmp_path / "store").rglob(name))
    assert names(heard) == ["jw01062001001_02101_00001_nrcblong"]
    archive.downloads.clear()
    assert run(monkeypatch, *WATCH) == 0
    assert names(heard)[1:] == ["jw01062001001_02101_00001_nrca1"]


def test_passing_failures_are_asked_again(archive, heard, monkeypatch):
    # Given an archive that is slow once, fails, talks nonsense and forgets a field, in searches and downloads
    monkeypatch.setenv("DARKS_MAST_READ_TIMEOUT", "0.3")
    monkeypatch.setenv("DARKS_MAST_ATTEMPTS", "6")
    released = threading.Event()
    archive.exposures = [exposure(1, day=2, detectors=("nrca1",))]
    archive.faults = [lambda: released.wait(20), 500, 503, b"<html>", b'{"results": [{}]}']
    archive.downloads = {}
    assert run(monkeypatch, *WATCH) == 0
    released.set()
    assert names(heard) == ["jw01062001001_02101_00001_nrca1"]
    assert len(archive.searches()) == 6


def test_an_empty_answer_is_no_failure(archive, heard, monkeypatch, capsys):
    assert run(monkeypatch, *WATCH) == 0
    assert counts(capsys.readouterr().out).items() >= {"exposure": 0, "new": 0}.items()
    assert [path for path, _ in archive.asked] == ["search"]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (500, "400 or 500"),
        (503, "503 Server Error"),
        (b"<html>", "not JSON"),
        (b'{"results": 3}', "results"),
    ],
)
def test_an_archive_that_stays_away_is_one_line_and_exit_code_2(
    archive, heard, monkeypatch, capsys, fault, why
):
    archive.faults = [fault] * 4
    assert run(monkeypatch, *WATCH) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"nircam-darks: {archive.url}: no answer from the archive")
    assert why in line


def test_an_archive_that_cannot_be_reached_is_named(heard, monkeypatch, capsys):
    monkeypatch.setenv("DARKS_MAST_URL", "http://127.0.0.1:9")
    assert run(monkeypatch, *WATCH) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "http://127.0.0.1:9: no answer from the archive" in line
    assert "Connection refused" in line


def test_a_dry_run_announces_downloads_and_notes_nothing(archive, heard, monkeypatch, capsys, tmp_path):
    archive.exposures = [exposure(1, day=2, detectors=("nrca1",))]
    assert run(monkeypatch, *WATCH, "--dry-run", "--json") == 0
    output, report = map(json.loads, capsys.readouterr().out.splitlines())
    assert (output["event"], output["uri"], output["message_id"]) == ("announced", None, None)
    assert (report["event"], report["announced"]) == ("round", 1)
    assert heard == []
    assert "retrieve_product" not in {path for path, _ in archive.asked}
    assert not list((tmp_path / "store").rglob("*.json"))


def test_what_the_broker_confirmed_is_not_said_again_after_a_failure(
    archive, heard, faults, monkeypatch, capsys
):
    # Given a broker that fails at the second of two files
    archive.exposures = [exposure(1, day=2)]
    archive.downloads["jw01062001001_02101_00001_nrcblong_uncal.fits"] = lambda: setattr(
        faults, "lose_publishes", 1
    )
    assert run(monkeypatch, *WATCH) == 2
    assert "not confirmed" in capsys.readouterr().err
    archive.downloads.clear()
    # When it is run again
    assert run(monkeypatch, *WATCH) == 0
    # Then each was announced once
    assert names(heard) == [
        "jw01062001001_02101_00001_nrca1",
        "jw01062001001_02101_00001_nrcblong",
    ]


def test_files_go_to_the_folder_that_is_asked_for(archive, heard, monkeypatch, tmp_path):
    archive.exposures = [exposure(1, day=2, detectors=("nrca1",))]
    assert run(monkeypatch, *WATCH, "--download-to", tmp_path / "darks") == 0
    path = tmp_path / "darks/jw01062/jw01062001001/jw01062001001_02101_00001_nrca1_uncal.fits"
    assert heard[0].content.uri == path.as_uri()
    assert path.read_bytes() == archive.exposures[0].files["nrca1"]


def test_a_name_that_is_none_is_never_a_path(archive, heard, monkeypatch, tmp_path):
    archive.exposures = [exposure(1, day=2, detectors=("../../nrca1",))]
    assert run(monkeypatch, *WATCH) == 0
    assert heard == []


def test_what_is_not_the_state_of_a_watch_is_named(archive, heard, monkeypatch, capsys, tmp_path):
    folder = tmp_path / "store/mast/program-1062"
    folder.mkdir(parents=True)
    (folder / "since-20240101T000000.json").write_text("[]")
    assert run(monkeypatch, *WATCH) == 2
    assert "since-20240101T000000.json" in capsys.readouterr().err


def test_an_embedded_broker_is_not_announced_to(monkeypatch, capsys):
    monkeypatch.setenv("DARKS_BROKER_URL", "memory://")
    assert run(monkeypatch, *WATCH) == 2
    assert "memory://" in capsys.readouterr().err


def test_help_does_not_load_astroquery():
    code = (
        "import sys; from nircam_darks.cli.main import app; "
        "app(['watch-mast', '--help'], standalone_mode=False); assert 'astroquery' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Find new NIRCam darks" in done.stdout


def test_the_documented_settings_are_those_in_force():
    page = (DOCS / "settings.md").read_text()
    assert mast_settings_table() in page
