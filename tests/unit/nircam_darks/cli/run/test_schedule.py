"""Which exposures are announced when."""

import dataclasses
import os
from pathlib import Path

from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from ingest_exposures import write_exposure

from services.schedule import Candidate, Schedule, peek

SECOND = 1 / 86400


def candidate(name, detector="NRCA1", start=0.0, length=10.0, configuration="c"):
    return Candidate(
        Path(f"/{name}.fits"), name, detector, configuration, start * SECOND, (start + length) * SECOND
    )


def names(candidates):
    return [c.exposure_id for c in candidates]


def test_an_exposure_waits_for_the_one_whose_persistence_may_reach_it():
    # Given two exposures of one detector within the window, and one of another detector
    schedule = Schedule(
        [candidate("b", start=20), candidate("a", start=0), candidate("x", detector="NRCB1")],
        persistence_time=1000,
    )

    # When the first are announced, and a has been settled
    first = schedule.announce()
    schedule.settle("file:///a.fits")
    second = schedule.announce()

    # Then b came only after a
    assert sorted(names(first)) == ["a", "x"]
    assert names(second) == ["b"]


def test_exposures_beyond_the_window_go_side_by_side():
    schedule = Schedule([candidate("a"), candidate("b", start=2000)], persistence_time=1000)
    assert names(schedule.announce()) == ["a", "b"]


def test_without_a_persistence_step_all_go_side_by_side():
    schedule = Schedule([candidate("a"), candidate("b", start=20)], persistence_time=0)
    assert names(schedule.announce()) == ["a", "b"]


def test_two_files_of_one_exposure_never_race():
    one = Candidate(Path("/m/a_jump.fits"), "a")
    two = Candidate(Path("/m/a_uncal.fits"), "a")
    schedule = Schedule([two, one], persistence_time=0)
    assert schedule.announce() == [one]


@given(
    starts=st.lists(st.tuples(st.sampled_from(["A", "B"]), st.integers(0, 5000)), max_size=12),
    window=st.sampled_from([0, 100, 1000]),
)
def test_every_exposure_is_announced_once_and_the_schedule_ends(starts, window):
    every = [candidate(f"e{n}", detector, start) for n, (detector, start) in enumerate(starts)]
    schedule = Schedule(every, window)
    announced = []
    while batch := schedule.announce():
        announced += batch
        for c in batch:
            assert not schedule.complete("c")
            schedule.settle(c.uri)
    assert sorted(names(announced)) == sorted(names(every))
    assert schedule.finished
    assert schedule.complete("c")


def test_peek_never_fails(tmp_path):
    # Given a file that is not FITS, one without keywords and one that is not there
    (tmp_path / "junk.fits").write_bytes(b"junk" * 1000)
    fits.PrimaryHDU().writeto(tmp_path / "empty_uncal.fits")

    # When / Then each still has an id to be announced under
    assert peek(tmp_path / "junk.fits").exposure_id == "junk"
    assert peek(tmp_path / "empty_uncal.fits").exposure_id == "empty"
    assert peek(tmp_path / "gone.fits").configuration is None


def test_peek_reads_the_header_of_a_truncated_file_without_a_word(tmp_path, capfd, recwarn):
    # Given an exposure whose end is missing, under another name
    whole = write_exposure(tmp_path / "jw01062001001_02101_00001_nrca3_uncal.fits")
    cut = tmp_path / "cut.fits"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])

    capfd.readouterr()
    recwarn.clear()

    # When both are looked at, Then they say the same
    mine, theirs = peek(cut), peek(whole)
    assert mine.configuration is not None
    assert mine.start_mjd is not None
    assert dataclasses.replace(mine, path=whole) == theirs
    # And nobody is bothered with it: ingest says what is wrong
    assert capfd.readouterr() == ("", "")
    assert not [str(warning.message) for warning in recwarn]


def test_peek_does_not_wait_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.fits")
    assert peek(tmp_path / "pipe.fits").exposure_id == "pipe"


def test_peek_prefers_the_name_in_the_header(tmp_path):
    header = fits.Header({"FILENAME": "jw01062001001_02101_00001_nrca1_uncal.fits"})
    fits.PrimaryHDU(header=header).writeto(tmp_path / "copy.fits")
    assert peek(tmp_path / "copy.fits").exposure_id == "jw01062001001_02101_00001_nrca1"
