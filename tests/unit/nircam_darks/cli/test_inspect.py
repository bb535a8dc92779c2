"""`nircam-darks inspect`: on a real file, on good and on broken ones."""

import io
import json

import numpy as np
import pytest
from astropy.io import fits
from ingest_exposures import edit, put_nan, write_exposure
from rich.console import Console

from services.inspect import inspect_file, render

FGS = "jw01019001001_gs-acq1_2022117003102_uncal.fits"


def printed(inspection) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(render(inspection))
    return out.getvalue()


def failures(inspection) -> list[str]:
    return [check.name for check in inspection.checks if check.passed is False]


def test_the_real_fgs_ramp_gives_the_independently_measured_numbers(shared_data):
    # When a real ramp of another instrument is inspected
    found = inspect_file(shared_data / FGS)
    look = found.quick_look
    # Then its numbers are those measured independently
    first = [medians[0] for medians in look.group_medians]
    assert (min(first), max(first)) == (14661, 14737)
    assert look.cds.cds_medians == [11, -3, 6, 7, 12, 4]
    assert look.cds.temporal_std_dn == pytest.approx(10.44, abs=0.005)
    assert look.cds.temporal_std_median_removed_dn == pytest.approx(9.07, abs=0.005)
    # And it would not be ingested
    assert not found.passed
    assert failures(found)[0] == "EXP_TYPE"
    text = printed(found)
    for said in ("GUIDER2", "10.44", "9.07", "+11.00", "FAILED"):
        assert said in text


def test_a_good_dark_passes_every_check_and_names_its_configuration(tmp_path):
    path = write_exposure(tmp_path / "jw1_nrca3_uncal.fits")
    found = inspect_file(path)
    assert found.passed, failures(found)
    assert found.slug.startswith("nrca3_sub64p_rapid_g6_")
    with fits.open(path) as hdus:
        data = hdus["SCI"].data.astype(float)
    np.testing.assert_allclose(found.quick_look.group_medians, np.median(data, axis=(2, 3)))
    assert "none done" in printed(found)


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
    found = inspect_file(broken(tmp_path, kind))
    assert check in failures(found)
    assert "FAILED" in printed(found)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["passed"] is False
    if kind == "truncated":
        assert found.identity["DETECTOR"] == "NRCA3"
    if kind == "NaN":
        assert "integration 2, group 3, x 5, y 4" in printed(found)
