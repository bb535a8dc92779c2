"""`nircam-darks inspect`: on a real file, on good and on broken ones."""

import io
import json

import numpy as np
import pytest
from astropy.io import fits
from rich.console import Console

from nircam_darks.cli.inspect import inspect_file, print_inspection
from support.ingest_exposures import edit, put_nan, write_exposure
from support.peak_memory import needs_proc, peak_of

FGS = "jw01019001001_gs-acq1_2022117003102_uncal.fits"


def printed(inspection) -> str:
    out = io.StringIO()
    print_inspection(inspection, Console(file=out, width=200))
    return out.getvalue()


def failures(inspection) -> list[str]:
    return [check.name for check in inspection.checks if check.passed is False]


def test_the_real_fgs_ramp_gives_the_independently_measured_numbers(shared_data):
    # When a real ramp of another instrument is inspected
    result = inspect_file(shared_data / FGS)
    look = result.quick_look
    # Then its numbers are those measured independently
    first = [medians[0] for medians in look.group_medians]
    assert (min(first), max(first)) == (14661, 14737)
    assert look.cds.cds_medians == [11, -3, 6, 7, 12, 4]
    assert look.cds.temporal_std_dn == pytest.approx(10.44, abs=0.005)
    assert look.cds.temporal_std_median_removed_dn == pytest.approx(9.07, abs=0.005)
    # And it would not be ingested
    assert not result.passed
    assert failures(result)[0] == "EXP_TYPE"
    text = printed(result)
    for said in ("GUIDER2", "10.44", "9.07", "+11.00", "FAILED"):
        assert said in text


def test_a_good_dark_passes_every_check_and_names_its_configuration(tmp_path):
    path = write_exposure(tmp_path / "jw1_nrca3_uncal.fits")
    result = inspect_file(path)
    assert result.passed, failures(result)
    assert result.slug.startswith("nrca3_sub64p_rapid_g6_")
    with fits.open(path) as hdus:
        data = hdus["SCI"].data.astype(float)
    np.testing.assert_allclose(result.quick_look.group_medians, np.median(data, axis=(2, 3)))
    assert "none done" in printed(result)


def test_flags_are_counted_by_name(tmp_path):
    path = tmp_path / "ramp.fits"
    group_flags = np.zeros((1, 2, 4, 4), np.uint8)
    group_flags[0, 1, 0, 0] = 4 | 32
    group_flags[0, 0, 1, 1] = 4
    pixel_flags = np.zeros((4, 4), np.uint32)
    pixel_flags[2, 2] = 1 | 2048
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(np.zeros((1, 2, 4, 4), np.float32), name="SCI"),
            fits.ImageHDU(pixel_flags, name="PIXELDQ"),
            fits.ImageHDU(group_flags, name="GROUPDQ"),
        ]
    ).writeto(path)
    look = inspect_file(path).quick_look
    assert look.group_flags == {"JUMP_DET": 2, "PERSISTENCE": 1}
    assert look.pixel_flags == {"DO_NOT_USE": 1, "HOT": 1}


def broken(tmp_path, kind):
    path = write_exposure(tmp_path / "jw1_nrca3_uncal.fits")
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:60000])
    elif kind == "FITS":
        path.write_text("no, this is not FITS")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "header":
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "missing":
        path.unlink()
    elif kind == "NaN":
        put_nan(path, 1, 2, 3, 4)
    elif kind == "3-D":
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2, 4, 4), np.float32), name="SCI")]).writeto(
            path, overwrite=True
        )
    elif kind == "keyword":
        edit(path, NGROUPS=None)
    return path


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("truncated", "truncated"),
        ("FITS", "FITS"),
        ("empty", "FITS"),
        ("header", "truncated"),
        ("missing", "file"),
        ("NaN", "finite data"),
        ("3-D", "shape"),
        ("keyword", "keywords"),
    ],
)
def test_a_broken_file_is_printed_as_far_as_it_goes(tmp_path, kind, check):
    result = inspect_file(broken(tmp_path, kind))
    assert check in failures(result)
    assert "FAILED" in printed(result)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["passed"] is False
    if kind == "truncated":
        assert result.identity["DETECTOR"] == "NRCA3"
    if kind == "NaN":
        assert "integration 2, group 3, x 5, y 4" in printed(result)


def write_huge(small, path, nints, ngroups) -> None:
    """Blow a small dark up to a full-frame one of 20 GB, whose pixels are a hole in the file."""
    with fits.open(small) as hdus:
        primary, science = hdus[0].header.copy(), hdus["SCI"].header.copy()
    primary.update(NINTS=nints, NGROUPS=ngroups, SUBARRAY="FULL", SUBSIZE1=2048, SUBSIZE2=2048, NOUTPUTS=4)
    science.update(NAXIS1=2048, NAXIS2=2048, NAXIS3=ngroups, NAXIS4=nints)
    headers = (primary.tostring() + science.tostring()).encode("ascii")
    size = 2048 * 2048 * 2 * nints * ngroups
    with path.open("wb") as file:
        file.write(headers)
        file.truncate(len(headers) + size + -size % 2880)


_INSPECT = """
import time
from nircam_darks.cli.main import main
try:
    main()
except SystemExit as end:
    assert end.code == 3, end
print(time.process_time())
"""


@needs_proc
def test_a_file_of_20_gb_is_inspected_within_seconds_and_little_memory(tmp_path):
    # Given a file of 20 GB, every frame of which holds one constant
    small = write_exposure(tmp_path / "jw1_nrca3_uncal.fits")
    huge = tmp_path / "huge_uncal.fits"
    write_huge(small, huge, nints=10, ngroups=240)
    assert huge.stat().st_size > 20e9
    # When the program inspects it
    peak, text = peak_of(_INSPECT, "inspect", huge, "--json")
    # Then it says from which groups its numbers are
    text, seconds = text.rsplit("\n", 1)
    result = json.loads(text)
    assert result["kind"] == "level 1b NIRCam dark, NRCA3 FULL RAPID, 10 integrations x 240 groups"
    look = result["quick_look"]
    assert look["integrations"] == [0, 1, 3, 4, 5, 6, 8, 9]
    assert look["groups"][:2] == [0, 1]
    assert look["groups"][-1] == 239
    assert (look["groups_read"], look["groups_of_file"]) == (8 * len(look["groups"]), 2400)
    assert {value for medians in look["group_medians"] for value in medians} == {32768}
    # And finds what is wrong in them, in the numbers of the file, without a verdict on what it did not read
    telemetry = next(check for check in result["checks"] if check["name"] == "telemetry")
    assert "integration 1, group 1: 32768 DN" in telemetry["detail"]
    assert telemetry["passed"]
    # And it takes less than ten seconds of processor time and 1 GiB
    assert float(seconds) < 10
    assert peak < 1 << 30


def test_a_sample_says_so_and_full_reads_everything(tmp_path, monkeypatch):
    monkeypatch.setattr("nircam_darks.cli.inspect._SAMPLE", 8 * 64 * 64)
    path = write_exposure(tmp_path / "jw1_nrca3_uncal.fits", ngroups=12)
    edit_plane(path, 1, 11, 0)
    edit_plane(path, 1, 4, 0)
    # When a sample is inspected that has the last group, and not the fifth
    sample = inspect_file(path)
    look = sample.quick_look
    assert (look.groups_read, look.groups_of_file) == (8, 24)
    assert 4 not in look.groups
    with fits.open(path) as hdus:
        data = hdus["SCI"].data.astype(float)[np.ix_(look.integrations, look.groups)]
    np.testing.assert_allclose(look.group_medians, np.median(data, axis=(2, 3)))
    telemetry = {check.name: check for check in sample.checks}["telemetry"]
    assert telemetry.passed
    assert "8 of 24 groups" in telemetry.detail
    assert "integration 2, group 12" in telemetry.detail
    assert "group 5" not in telemetry.detail
    assert "from 8 of 24 groups" in printed(sample)
    # Then --full finds both
    whole = inspect_file(path, full=True)
    telemetry = {check.name: check for check in whole.checks}["telemetry"]
    assert "integration 2, group 5" in telemetry.detail
    assert (whole.quick_look.groups_read, len(whole.quick_look.group_medians[0])) == (24, 12)
    assert "--full" not in printed(whole)


def edit_plane(path, integration, group, value) -> None:
    with fits.open(path, mode="update") as hdus:
        hdus["SCI"].data[integration, group] = value
