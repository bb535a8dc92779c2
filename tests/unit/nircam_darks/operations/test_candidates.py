"""What the header of a file tells before it is announced."""

from pathlib import Path

from nircam_darks.operations.candidates import Candidate, odd_lengths, peek
from shared.settings.stage import StageSettings
from support.configurations import configuration
from support.ingest_exposures import write_exposure


def candidate(name: str, **key) -> Candidate:
    return Candidate(Path(f"/darks/{name}.fits"), name, key=configuration(**key))


def test_the_exposure_of_another_length_is_named_with_the_cure():
    # Given three exposures of eight groups and one of seven, and another configuration of five
    candidates = [candidate(f"jw{n}", ngroups=8) for n in range(3)]
    candidates += [candidate("jw3", ngroups=7), candidate("jw4", ngroups=5, detector="NRCA1")]
    # When
    [sentence] = odd_lengths(candidates)
    # Then the odd exposure and the option are named
    assert "jw3.fits" in sentence
    assert "--truncate 7" in sentence
    assert "NRCA1" not in sentence


def test_exposures_of_one_length_are_no_matter():
    assert odd_lengths([candidate(f"jw{n}", ngroups=8) for n in range(3)]) == []
    assert odd_lengths([Candidate(Path("/darks/x.fits"), "x")]) == []


def test_the_configuration_is_that_of_the_truncated_exposure(tmp_path):
    long = write_exposure(tmp_path / "jw1_nrca3_uncal.fits", ngroups=6)
    short = write_exposure(tmp_path / "jw2_nrca3_uncal.fits", ngroups=5)
    settings = StageSettings(store=tmp_path / "store", truncate=5)
    assert peek(long).configuration != peek(short).configuration
    assert peek(long, settings).configuration == peek(short, settings).configuration
    assert peek(long, settings).configuration == peek(short).configuration
