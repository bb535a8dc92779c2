"""Which exposures are announced when."""

import dataclasses
import os
from pathlib import Path

from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from nircam_darks.cli.run.schedule import Schedule
from nircam_darks.operations.candidates import Candidate, peek
from support.ingest_exposures import write_exposure

SECOND = 1 / 86400


def candidate(name, detector="NRCA1", start=0.0, length=10.0, configuration="c"):
    return Candidate(
        Path(f"/{name}.fits"),
        name,
        detector=detector,
        configuration=configuration,
        start_mjd=start * SECOND,
        end_mjd=(start + length) * SECOND,
    )


def names(candidates):
    return [c.exposure_id for c in candidates]


def test_an_exposure_waits_for_the_one_whose_persistence_may_reach_it():
    # Given two exposures of one detector within the window, and one of another detector
    schedule = Schedule(
        [candidate("b", start=20), candidate("a", start=0), candidate("x", detector="NRCB1")],
        persistence_time=1000,
        jobs=1,
    )

    # When the first are announced, and a has been settled
    first = schedule.announce()
    schedule.settle("file:///a.fits")
    second = schedule.announce()

    # Then b came only after a
    assert sorted(names(first)) == ["a", "x"]
    assert names(second) == ["b"]


def test_exposures_beyond_the_window_go_side_by_side():
    schedule = Schedule([candidate("a"), candidate("b", start=2000)], persistence_time=1000, jobs=1)
    assert names(schedule.announce()) == ["a", "b"]


def test_without_a_persistence_step_all_go_side_by_side():
    schedule = Schedule([candidate("a"), candidate("b", start=20)], persistence_time=0, jobs=1)
    assert names(schedule.announce()) == ["a", "b"]


def test_two_files_of_one_exposure_never_race():
    one = Candidate(Path("/m/a_jump.fits"), "a")
    two = Candidate(Path("/m/a_uncal.fits"), "a")
    schedule = Schedule([two, one], persistence_time=0, jobs=1)
    assert schedule.announce() == [one]


def test_with_two_jobs_the_next_exposure_of_a_detector_starts_and_waits_for_its_turn():
    # Given three exposures of one detector within the window, and two processes
    schedule = Schedule([candidate("a"), candidate("b", start=20), candidate("c", start=40)], 1000, jobs=2)

    # When the run begins, Then two may start, and the second waits for its turn
    assert names(schedule.announce()) == ["a", "b"]
    assert [schedule.has_turn(f"file:///{name}.fits") for name in "ab"] == [True, False]
    assert schedule.release() == []

    # When the first is settled, Then it is the second's turn, and the third starts
    schedule.settle("file:///a.fits")
    assert names(schedule.release()) == ["b"]
    assert names(schedule.announce()) == ["c"]
    assert [schedule.has_turn(f"file:///{name}.fits") for name in "bc"] == [True, False]


def test_an_exposure_that_waits_for_its_turn_keeps_no_other_detector_waiting():
    exposures = [candidate(f"a{n}", start=20 * n) for n in range(3)]
    exposures += [candidate(f"x{n}", "NRCB1", start=20 * n) for n in range(3)]
    schedule = Schedule(exposures, 1000, jobs=2)
    assert names(schedule.announce()) == ["a0", "x0", "a1"]
    schedule.settle("file:///x0.fits")
    assert schedule.release() == []
    assert names(schedule.announce()) == ["x1"]
    assert schedule.has_turn("file:///x1.fits")


def test_an_exposure_that_cannot_be_announced_comes_again_when_its_turn_has_come():
    schedule = Schedule([candidate("a"), candidate("b", start=20)], 1000, jobs=2)
    _, second = schedule.announce()
    schedule.postpone(second)
    schedule.settle("file:///a.fits")
    assert names(schedule.announce()) == ["b"]
    assert schedule.has_turn(second.uri)


@given(
    starts=st.lists(st.tuples(st.sampled_from(["A", "B"]), st.integers(0, 5000)), max_size=12),
    window=st.sampled_from([0, 100, 1000]),
    jobs=st.integers(1, 4),
    choices=st.randoms(use_true_random=False),
)
def test_every_exposure_is_announced_once_and_has_its_turn_after_those_that_reach_into_it(
    starts, window, jobs, choices
):
    # Given exposures of two detectors, and processes that take them up in the order of announcement
    every = [candidate(f"e{n}", detector, start) for n, (detector, start) in enumerate(starts)]
    schedule = Schedule(every, window, jobs)
    announced, queue, processes, settled = [], [], [], []
    while not schedule.finished:
        schedule.release()
        queue += (batch := schedule.announce())
        announced += batch
        while queue and len(processes) < jobs:
            processes.append(queue.pop(0))
        # When one of the processes that need not wait ends; one of them always can
        ready = [c for c in processes if schedule.has_turn(c.uri)]
        assert ready
        done = choices.choice(ready)
        # Then all that reach into it have been settled
        for other in every:
            gap = (done.start_mjd - other.end_mjd) / SECOND
            is_earlier = (other.start_mjd, other.path.name) < (done.start_mjd, done.path.name)
            if window and other.detector == done.detector and is_earlier and gap < window - 1e-6:
                assert other.uri in settled
        assert not schedule.complete("c")
        processes.remove(done)
        # It may be tried again first, behind all others
        if choices.random() < 0.3:
            queue.append(done)
            continue
        settled.append(done.uri)
        schedule.settle(done.uri)
    assert sorted(names(announced)) == sorted(names(every))
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
