"""The line with which `nircam-darks inspect` begins: what a file is."""

import gzip
import io

import asdf
import numpy as np
import pytest
from astropy.io import fits
from rich.console import Console

from nircam_darks.cli.inspect import inspect_file, print_inspection
from support.ingest_exposures import edit, write_exposure, write_references, write_segments

FGS = "jw01019001001_gs-acq1_2022117003102_uncal.fits"
DARK = "NRCA3 SUB64P RAPID, 2 integrations x 6 groups"


def kind(path) -> str:
    return inspect_file(path).kind


@pytest.fixture
def dark(tmp_path):
    return write_exposure(tmp_path / "jw01062001001_02101_00001_nrca3_uncal.fits")


def with_sci(path, shape, **keywords):
    primary = fits.PrimaryHDU()
    primary.header["TELESCOP"], primary.header["INSTRUME"], primary.header["DETECTOR"] = (
        "JWST",
        "NIRCAM",
        "NRCA3",
    )
    primary.header.update(keywords)
    fits.HDUList([primary, fits.ImageHDU(np.zeros(shape, np.float32), name="SCI")]).writeto(path)
    return path


def test_a_raw_dark_and_its_calibrated_ramp(dark):
    assert kind(dark) == f"level 1b NIRCam dark, {DARK}"
    edit(dark, S_DQINIT="COMPLETE", S_SATURA="COMPLETE")
    assert kind(dark) == f"calibrated ramp of a NIRCam dark, {DARK}"
    edit(dark, PEDIGREE="SIMULATION")
    assert kind(dark) == f"simulated calibrated ramp of a NIRCam dark, {DARK}"


def test_a_real_ramp_of_another_instrument(shared_data):
    expected = "level 1b FGS exposure (FGS_ACQ1), GUIDER2 128X128 ACQ1, 6 integrations x 2 groups"
    assert kind(shared_data / FGS) == expected


@pytest.mark.parametrize(
    ("instrument", "exposure_type", "what"),
    [
        ("MIRI", "MIR_DARKIMG", "MIRI dark (MIR_DARKIMG)"),
        ("NIRSPEC", "NRS_DARK", "NIRSpec dark (NRS_DARK)"),
        ("NIRISS", "NIS_IMAGE", "NIRISS exposure (NIS_IMAGE)"),
    ],
)
def test_other_instruments(dark, instrument, exposure_type, what):
    edit(dark, INSTRUME=instrument, EXP_TYPE=exposure_type)
    assert kind(dark) == f"level 1b {what}, {DARK}"


def test_a_segment_says_which_it_is(dark, tmp_path):
    second = write_segments(dark, tmp_path / "segments", [1, 1])[1]
    assert kind(second) == (
        "segment 2 of 2 (integrations 2 to 2) of a level 1b NIRCam dark, "
        "NRCA3 SUB64P RAPID, 1 integration x 6 groups"
    )


def test_a_reference(tmp_path):
    mask = write_references(tmp_path)["mask"]
    assert kind(mask) == "mask reference (CRDS MASK) of NIRCam, NRCA3 SUB64P RAPID"


@pytest.mark.parametrize(
    ("shape", "keywords", "what"),
    [
        ((4, 4), {"S_RAMP": "COMPLETE"}, "rate image"),
        ((3, 4, 4), {"DATAMODL": "CubeModel"}, "rate image for each of 3 integrations"),
        ((4, 4), {"S_RAMP": "COMPLETE", "S_FLAT": "COMPLETE"}, "calibrated image (level 2b)"),
        ((4, 4), {"S_RAMP": "COMPLETE", "S_RESAMP": "COMPLETE"}, "combined image (level 3)"),
        ((4, 4), {}, "2-D image"),
    ],
)
def test_what_is_made_of_ramps(tmp_path, shape, keywords, what):
    path = with_sci(tmp_path / "x.fits", shape, EXP_TYPE="NRC_DARK", **keywords)
    assert kind(path) == f"{what} of a NIRCam dark, NRCA3, not a ramp"


def test_a_file_of_another_telescope(tmp_path):
    path = with_sci(tmp_path / "x.fits", (4, 4), TELESCOP="HST", INSTRUME="WFC3")
    assert kind(path) == "FITS file that is not from JWST (HST WFC3; SCI 4 x 4)"


def test_a_truncated_file(dark):
    dark.write_bytes(dark.read_bytes()[:60000])
    assert kind(dark) == f"level 1b NIRCam dark, {DARK}, incomplete (truncated)"


def test_a_compressed_dark(dark, tmp_path):
    path = tmp_path / "jw1.fits.gz"
    path.write_bytes(gzip.compress(dark.read_bytes()))
    assert kind(path) == f"level 1b NIRCam dark, {DARK}, compressed by gzip"
    packed = tmp_path / "jw1.fits.fz"
    with fits.open(dark) as hdus:
        image = fits.CompImageHDU(hdus["SCI"].data.reshape(-1, 64, 64), name="SCI")
        fits.HDUList([hdus[0], image]).writeto(packed)
    assert kind(packed).endswith("compressed by fpack")


def test_what_is_not_fits(tmp_path):
    roman = {"meta": {"telescope": "ROMAN", "instrument": {"name": "WFI", "detector": "WFI01"}}}
    asdf.AsdfFile({"roman": roman}).write_to(tmp_path / "roman.asdf")
    assert kind(tmp_path / "roman.asdf") == "ASDF file (ROMAN WFI WFI01)"
    for content, what in (
        (b"", "empty file"),
        (b"no, this is not FITS\n", "text file"),
        (b"\x89PNG\r\n", "PNG picture"),
        (b"\x1f\x8bno", "file compressed by gzip, not a FITS file"),
        (b"\x00\x01", "file in a format that is not known here"),
        (b"SIMPLE  =      T", "FITS file whose primary header cannot be read"),
    ):
        path = tmp_path / "x"
        path.write_bytes(content)
        assert kind(path) == what
    assert kind(tmp_path / "none") == "no such file"


def test_a_folder(tmp_path, dark):
    (tmp_path / "deeper").mkdir()
    dark.rename(tmp_path / "deeper" / dark.name)
    assert kind(tmp_path).startswith("folder with 1 FITS file")


def test_the_line_is_one_line_in_a_narrow_terminal(dark):
    out = io.StringIO()
    print_inspection(inspect_file(dark), Console(file=out, width=40))
    assert out.getvalue().splitlines()[0].rstrip() == f"{dark.name}: level 1b NIRCam dark, {DARK}"
