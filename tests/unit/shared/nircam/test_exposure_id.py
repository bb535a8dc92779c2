"""An exposure is what its header says, whatever its file is called."""

import pytest

from shared.nircam.exposure_id import contradicts, exposure_id, exposure_id_of

ROOT = "jw01062001001_02101_00001_nrcalong"
HEADER = {
    "PROGRAM": "01062",
    "OBSERVTN": "001",
    "VISIT": "001",
    "VISITGRP": "02",
    "SEQ_ID": "1",
    "ACT_ID": "01",
    "EXPOSURE": "1",
    "DETECTOR": "NRCALONG",
}


@pytest.mark.parametrize(
    "name",
    [
        f"{ROOT}_uncal.fits",
        f"{ROOT}_dark.fits",
        f"{ROOT}_darkpipeline.fits",
        f"{ROOT}_linearitystep.fits",
        f"{ROOT}_jumpstep.fits.gz",
        f"{ROOT}_uncal (copy).fits",
        f"{ROOT.upper()}_UNCAL.FITS",
        "jw01062001001_02101_00001-seg002_nrcalong_uncal.fits",
    ],
)
def test_every_product_and_segment_of_the_archive_gives_one_id(name: str) -> None:
    assert exposure_id(f"darks/{name}") == ROOT


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("ground_0012_uncal.fits", "ground_0012"),
        ("ground_0012_darkpipeline.fits", "ground_0012"),
        ("ground_0012_linearitystep.fits", "ground_0012"),
        ("ground_0012-seg001_jump.fits", "ground_0012"),
        ("my dark 1.fits", "my-dark-1"),
        (".fits", "unnamed"),
        # NRCA10 is no detector, and its name must not be taken for that of NRCA1.
        ("jw01062001001_02101_00001_nrca10.fits", "jw01062001001_02101_00001_nrca10"),
    ],
)
def test_a_file_that_is_not_from_the_archive_is_known_by_its_name(name: str, identity: str) -> None:
    assert exposure_id(name) == identity


def test_the_keywords_decide_and_no_name_does() -> None:
    # Given a file that somebody renamed, whose FILENAME names another exposure still
    header = {**HEADER, "FILENAME": "jw01062001001_02101_00009_nrcalong_uncal.fits"}
    assert exposure_id("my dark.fits", header) == ROOT


def test_numbers_are_padded_as_the_archive_pads_them() -> None:
    header = {**HEADER, "PROGRAM": 1062, "EXPOSURE": 12, "ACT_ID": "1B"}
    assert exposure_id_of(header) == "jw01062001001_0211b_00012_nrcalong"


@pytest.mark.parametrize("keyword", HEADER)
def test_a_header_without_one_of_the_keywords_gives_no_id(keyword: str) -> None:
    header = {**HEADER, keyword: ""}
    assert exposure_id_of(header) is None
    assert exposure_id("x.fits", header | {"FILENAME": "ground_7_uncal.fits"}) == "ground_7"


@pytest.mark.parametrize("value", ["1234567", "../..", True, 1.5, None])
def test_a_value_that_cannot_be_a_part_gives_no_id(value: object) -> None:
    assert exposure_id_of({**HEADER, "PROGRAM": value}) is None


def test_only_the_id_of_another_exposure_of_the_archive_contradicts_a_header() -> None:
    assert contradicts("jw01062001001_02101_00002_nrcalong", ROOT)
    assert not contradicts(ROOT, ROOT)
    assert not contradicts(f"{ROOT}_somestep", ROOT)
    assert not contradicts("my-dark", ROOT)
