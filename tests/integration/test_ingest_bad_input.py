"""Every bad input gets one clear line, and the rest goes on."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from services.ingest.handler import handle
from services.ingest.references import crds_faults
from shared.contracts.messages import Envelope, ExposureAnnounced, ExposureIngested, ExposureRejected
from shared.errors import BadMessage, EnvironmentFault
from shared.store.manifest import find_all
from support.ingest_exposures import (
    bench_on,
    edit,
    put_nan,
    write_exposure,
    write_references,
)
from support.paths import TESTS


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return write_references(tmp_path_factory.mktemp("references"))


@pytest.fixture
def bench(tmp_path, references, monkeypatch):
    return bench_on(tmp_path, references, monkeypatch)


def truncate(path):
    path.write_bytes(path.read_bytes()[:70000])


def not_fits(path):
    path.write_text("these are not the bytes you are looking for")


def flatten(path):
    with fits.open(path, memmap=False) as hdus:
        hdus["SCI"] = fits.ImageHDU(hdus["SCI"].data[0], name="SCI")
        hdus.writeto(path, overwrite=True)


def flag_all(path):
    with fits.open(path, memmap=False) as hdus:
        shape = hdus["SCI"].data.shape
        hdus.append(fits.ImageHDU(np.ones(shape[2:], np.uint32), name="PIXELDQ"))
        hdus.append(fits.ImageHDU(np.zeros(shape, np.uint8), name="GROUPDQ"))
        hdus.writeto(path, overwrite=True)
    edit(path, S_DQINIT="COMPLETE")


def change_a_pixel(path):
    with fits.open(path, memmap=False) as hdus:
        hdus.writeto(path, overwrite=True, checksum=True)
    with fits.open(path) as hdus:
        at = hdus["SCI"].fileinfo()["datLoc"]
    content = bytearray(path.read_bytes())
    content[at + 1001] ^= 4
    path.write_bytes(content)


def cut_behind_sci(path):
    """Cut a calibrated file between two HDUs, as a download may that is interrupted."""
    write_exposure(path, finished=True)
    with fits.open(path) as hdus:
        end = hdus["SCI"].fileinfo()["datLoc"] + hdus["SCI"].fileinfo()["datSpan"]
    path.write_bytes(path.read_bytes()[:end])


def end_early(path):
    """Damage a card of the header of a calibrated file so that it reads END, and linearity seems undone."""
    write_exposure(path, finished=True)
    content = path.read_bytes()
    at = content.index(b"S_LINEAR")
    path.write_bytes(content[:at] + b"END".ljust(80) + content[at + 80 :])


BAD = {
    "cards behind END": (end_early, "FITS", "its END is followed by"),
    "cut between HDUs": (cut_behind_sci, "DQ shapes", "no PIXELDQ and no GROUPDQ"),
    "flags by the header": (lambda p: edit(p, S_DQINIT="COMPLETE"), "DQ shapes", "dq_init"),
    "truncated": (truncate, "truncated", "truncated"),
    "not FITS": (not_fits, "FITS", "not"),
    "checksum": (change_a_pixel, "checksum", "HDU SCI: DATASUM"),
    "no file": (Path.unlink, "file", "no such file"),
    "missing keyword": (lambda p: edit(p, TFRAME=None), "keywords", "TFRAME"),
    "NGROUPS": (lambda p: edit(p, NGROUPS=7), "shape", "NGROUPS = 7"),
    "READPATT": (lambda p: edit(p, NFRAMES=2, TGROUP=4.0), "READPATT", "NFRAMES = 2"),
    "EXP_TYPE": (lambda p: edit(p, EXP_TYPE="NRC_IMAGE"), "EXP_TYPE", "NRC_IMAGE"),
    "detector": (lambda p: edit(p, DETECTOR="NRCA9"), "DETECTOR", "NRCA9"),
    "axes": (lambda p: edit(p, FASTAXIS=1), "FASTAXIS/SLOWAXIS", "FASTAXIS"),
    "3-D": (flatten, "shape", "3-D"),
    "NaN": (lambda p: put_nan(p, 1, 2, 3, 4), "finite data", "SCI"),
    "infinite": (lambda p: put_nan(p, 0, 0, 0, 0), "finite data", "1 NaN or infinite"),
    "steps out of order": (lambda p: edit(p, S_LINEAR="COMPLETE"), "step order", "S_LINEAR"),
    "dark already subtracted": (lambda p: edit(p, S_DARK="COMPLETE"), "other steps", "S_DARK"),
    "unknown step": (lambda p: edit(p, S_MAGIC="COMPLETE"), "other steps", "S_MAGIC"),
    "all flagged": (flag_all, "usable pixels", "PIXELDQ"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_rejected_with_one_line_and_recorded(bench, kind):
    # Given a file with one thing wrong
    spoil, check, words = BAD[kind]
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits")
    spoil(path)
    # When it is ingested
    content = bench.content(path)
    # Then it is rejected, with one line that names the file and what is wrong
    assert isinstance(content, ExposureRejected)
    assert content.check == check
    assert words in content.reason
    assert content.reason.startswith("jw1_nrca3_uncal.fits: ")
    assert "\n" not in content.reason
    # And the rejection is a product, found again at a redelivery
    again = bench.ingest(path)
    assert again[0].message.content == content
    assert bench.products() == ["rejection"]


def test_a_mended_file_goes_through_after_its_rejection(bench):
    path = edit(write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True), FASTAXIS=1)
    assert isinstance(bench.content(path), ExposureRejected)
    assert isinstance(bench.content(edit(path, FASTAXIS=-1)), ExposureIngested)


def test_the_announced_size_and_checksum_are_kept(bench):
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    assert bench.content(path, size=5).check == "size"
    assert bench.content(path, sha256="0" * 64).check == "sha256"
    assert isinstance(bench.content(path, size=path.stat().st_size), ExposureIngested)


def test_the_same_bytes_under_another_id_are_a_duplicate(bench):
    first = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    other = bench.inbox / "copy" / "jw7_nrca3_uncal.fits"
    other.parent.mkdir()
    other.write_bytes(first.read_bytes())
    assert isinstance(bench.content(first), ExposureIngested)
    content = bench.content(other)
    assert content.check == "duplicate"
    assert "same bytes as jw1_nrca3_uncal.fits" in content.reason


def test_a_folder_that_was_moved_is_no_duplicate(bench):
    first = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    before = bench.content(first)
    bench.progress.clear()
    moved = bench.inbox.rename(bench.root / "moved") / first.name
    assert bench.content(moved) == before
    assert "writing" not in bench.progress


def with_a_mask_that_flags_everything(bench, tmp_path):
    mask = tmp_path / "mask.fits"
    mask.write_bytes(bench.settings.overrides["mask"].read_bytes())
    with fits.open(mask, mode="update") as hdus:
        hdus["DQ"].data[:] = 1
    return bench.settings.model_copy(update={"overrides": {**bench.settings.overrides, "mask": mask}})


def test_a_file_of_which_calibration_leaves_nothing_gives_its_exposure_free(bench, tmp_path):
    # Given an exposure of which every pixel is flagged once it is calibrated
    good = bench.settings
    bench.settings = with_a_mask_that_flags_everything(bench, tmp_path)
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits")
    assert bench.content(path).check == "usable pixels"

    # When the mask is mended and the file fetched again, Then it is no duplicate of the first
    bench.settings = good
    write_exposure(path, seed=5)
    assert isinstance(bench.content(path), ExposureIngested)


def fault_of(bench, path, **overrides) -> str:
    bench.settings = bench.settings.model_copy(
        update={"overrides": {**bench.settings.overrides, **overrides}}
    )
    with pytest.raises(EnvironmentFault) as caught:
        bench.ingest(path)
    assert bench.products() == []
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_reference_for_another_detector_stops_before_any_work(bench, tmp_path):
    other = write_references(tmp_path / "other", "NRCB2")
    output = fault_of(
        bench, write_exposure(bench.inbox / "jw1_nrca3_uncal.fits"), superbias=other["superbias"]
    )
    assert "NRCB2" in output
    assert "NRCA3" in output
    assert str(other["superbias"]) in output
    assert "superbias" not in bench.progress


def test_a_reference_that_does_not_cover_the_subarray(bench):
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", xstart=101)
    assert "does not cover" in fault_of(bench, path)


@pytest.mark.parametrize("kind", ["missing", "not FITS", "unknown type"])
def test_an_override_that_does_not_serve(bench, tmp_path, kind):
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits")
    file = tmp_path / "reference.fits"
    if kind == "not FITS":
        file.write_text("nothing")
    output = fault_of(bench, path, **{"foo" if kind == "unknown type" else "mask": file})
    assert str(file) in output


def test_a_message_that_cannot_be_served_is_no_bad_exposure(bench):
    elsewhere = ExposureAnnounced(exposure_id="a", uri="gopher://host/a.fits")
    with pytest.raises(BadMessage) as caught:
        handle(Envelope.of(elsewhere, identity="a"), bench.context)
    assert caught.value.where == elsewhere.uri
    strange = ExposureAnnounced(exposure_id="../a", uri="/a.fits")
    with pytest.raises(BadMessage) as caught:
        handle(Envelope.of(strange, identity="a"), bench.context)
    assert caught.value.keyword == "exposure_id"


def test_the_real_fgs_ramp_is_rejected_by_its_exposure_type(bench, shared_data):
    content = bench.content(shared_data / "jw01019001001_gs-acq1_2022117003102_uncal.fits")
    assert content.check == "EXP_TYPE"
    assert "FGS_ACQ1" in content.reason


SCRIPT = """
from pathlib import Path
from support.ingest_exposures import Bench, write_references
from shared.errors import EnvironmentFault
root = Path({root!r})
bench = Bench(root, write_references(root / "references"))
try:
    bench.ingest(root / "jw1_nrca3_uncal.fits")
except EnvironmentFault as fault:
    print(fault)
print(bench.products())
"""


def test_no_crds_cache_says_what_to_set_and_is_not_recorded(tmp_path):
    # Given an exposure, every override, and no CRDS cache (jwst then leaves by SystemExit)
    write_exposure(tmp_path / "jw1_nrca3_uncal.fits")
    script = SCRIPT.format(root=str(tmp_path))
    environment = {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "CRDS_PATH": str(tmp_path / "none"),
        "CRDS_SERVER_URL": "https://crds-serverless-mode.stsci.edu",
    }
    # When it is ingested in a process of its own
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=True,
    )
    # Then one line says what to set, nothing is recorded, and nothing else is on the console
    output, products = done.stdout.splitlines()
    assert "CRDS_PATH" in output
    assert "CRDS_SERVER_URL" in output
    assert products == "[]"
    assert "CRDS - ERROR" not in done.stderr


def test_a_cache_that_may_not_be_written_to_says_what_to_set(monkeypatch):
    # Given a cache without the folders that CRDS makes for every instrument; when they cannot be made
    monkeypatch.setenv("CRDS_PATH", "/crds")
    with (
        pytest.raises(EnvironmentFault) as caught,
        crds_faults("x"),
    ):
        raise OSError(errno.EROFS, "Read-only file system", "/crds/references/jwst/fgs")
    assert caught.value.where == "/crds/references/jwst/fgs"
    assert caught.value.setting == "CRDS_READONLY_CACHE"
    # Then it says so; and of another folder, or a full disk, it is somebody else's to say
    for fault in (
        OSError(errno.EROFS, "Read-only file system", "/out/x"),
        OSError(errno.ENOSPC, "full", "/crds/x"),
    ):
        with pytest.raises(OSError) as passed, crds_faults("x"):
            raise fault
        assert passed.value is fault


def test_a_rejection_names_its_configuration_where_the_header_gives_one(bench):
    path = edit(write_exposure(bench.inbox / "jw1_nrca3_uncal.fits"), FASTAXIS=1)
    content = bench.content(path)
    assert content.configuration.startswith("nrca3_sub64p_rapid_g6_")
    [manifest] = find_all(bench.store, f"ingest/{content.configuration}/jw1_nrca3/")
    assert manifest.results["reason"] == content.reason
