"""What is announced of the files and folders that a command line names, and what is passed over."""

import gzip
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from nircam_darks.operations.find_exposures import (
    BROKEN_LINKS,
    NOT_DARKS,
    NOT_FITS,
    NOT_RAMPS,
    REPEATED,
    PassedOver,
    find_exposures,
    read_first_headers,
)
from support.ingest_exposures import ARCHIVE_ID, IDENTITY, edit, write_exposure

NAME = f"{ARCHIVE_ID}_uncal.fits"
FURTHER = [ARCHIVE_ID.replace("_00001_", f"_0000{number}_") for number in range(2, 6)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("made") / NAME
    return edit(write_exposure(path), **IDENTITY, DATE="2026-02-01T00:00:00.000")


def dark(path: Path, made: Path, **keywords) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(made, path)
    return edit(path, **keywords) if keywords else path


def image(path: Path, **keywords) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    primary = fits.PrimaryHDU()
    primary.header.update(keywords)
    fits.HDUList([primary, fits.ImageHDU(np.zeros((4, 4), "f4"), name="SCI")]).writeto(path)
    return path


def announced(*paths: Path) -> list[Path]:
    return [candidate.path for candidate in find_exposures(paths).candidates]


def test_a_download_tree_is_searched_to_its_leaves(tmp_path: Path, made: Path) -> None:
    # Given exposures as MAST's download makes them: a folder each, in any case, one of them compressed
    tree = tmp_path / "mastDownload"
    upper = dark(tree / "JWST" / "a" / NAME.upper(), made)
    second = dark(tree / "JWST" / "b" / f"{FURTHER[0]}_uncal.fits", made, EXPOSURE="00002")
    plain = dark(tmp_path / "plain.fits", made, EXPOSURE="00003")
    packed = tree / "JWST" / "c" / f"{FURTHER[1]}_uncal.fits.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    # When the folder is searched
    found = find_exposures([tree])
    # Then each is announced under the id of its header, with its place in the tree
    assert [candidate.path for candidate in found.candidates] == [upper, second, packed]
    assert [candidate.exposure_id for candidate in found.candidates] == [ARCHIVE_ID, *FURTHER[:2]]
    assert found.candidates[0].place == f"JWST/a/{NAME.upper()}"
    assert len({candidate.configuration for candidate in found.candidates}) == 1
    assert not found.passed_over


def test_what_is_no_dark_is_counted_by_kind(tmp_path: Path, made: Path) -> None:
    good = dark(tmp_path / NAME, made)
    for number in range(200):
        image(tmp_path / "other" / f"image_{number:03d}.fits")
    image(tmp_path / "science.fits", INSTRUME="NIRCAM", EXP_TYPE="NRC_IMAGE")
    image(tmp_path / f"{ARCHIVE_ID}_rate.fits", INSTRUME="NIRCAM", EXP_TYPE="NRC_DARK")
    image(tmp_path / "reference.fits", INSTRUME="NIRCAM", REFTYPE="DARK")
    (tmp_path / "picture.fits").write_bytes(b"\xff\xd8\xff" + bytes(5000))
    (tmp_path / "empty.fits").touch()
    (tmp_path / "preview.JPG").touch()
    (tmp_path / "._hidden.fits").touch()
    (tmp_path / "folder.fits").mkdir()
    (tmp_path / "gone.fits").symlink_to("/nonexistent/x.fits")
    found = find_exposures([tmp_path])
    assert [candidate.path for candidate in found.candidates] == [good]
    assert found.passed_over.kinds == {NOT_DARKS: 202, NOT_RAMPS: 1, NOT_FITS: 2, "*.jpg": 1, BROKEN_LINKS: 1}


def test_damaged_files_that_look_like_darks_are_announced(tmp_path: Path, made: Path) -> None:
    cut = tmp_path / "cut.fits"
    cut.write_bytes(made.read_bytes()[:40000])
    empty = tmp_path / f"{FURTHER[0]}_uncal.fits"
    empty.touch()
    words = tmp_path / "words_uncal.fits"
    words.write_text("no FITS file")
    flat = image(tmp_path / "x_uncal.fits", INSTRUME="NIRCAM", EXP_TYPE="NRC_DARK")
    # Of another instrument, an unreadable file is no dark either
    (tmp_path / "jw01062001001_02101_00001_mirimage_uncal.fits").touch()
    assert announced(tmp_path) == [cut, empty, words, flat]


def test_a_file_that_is_named_is_announced_whatever_it_is(tmp_path: Path, made: Path) -> None:
    named = [image(tmp_path / "image.fits"), tmp_path / "missing.fits", tmp_path / "notes.txt"]
    named[-1].touch()
    good = dark(tmp_path / "darks" / NAME, made)
    assert announced(*named, good.parent) == [*named, good]


@pytest.mark.parametrize("names", [("a.fits", "b.fits"), ("b.fits", "a.fits")])
@pytest.mark.parametrize("suffix", ["dark", "linearitystep", "mycopy"])
def test_the_rawest_file_of_an_exposure_counts(tmp_path: Path, made: Path, names, suffix: str) -> None:
    # Given the raw file of an exposure and one that steps were run on, under whatever names
    raw = dark(tmp_path / names[0], made)
    calibrated = dark(
        tmp_path / names[1],
        made,
        S_DQINIT="COMPLETE",
        S_LINEAR="COMPLETE",
        FILENAME=f"{ARCHIVE_ID}_{suffix}.fits",
        DATE="2026-03-01T00:00:00.000",
    )
    # Then the raw one counts
    found = find_exposures([tmp_path])
    assert [candidate.path for candidate in found.candidates] == [raw]
    assert [unneeded.candidate.path for unneeded in found.not_needed] == [calibrated]
    # Unless it is damaged: then the next counts, and the damaged one is announced to be reported
    raw.write_bytes(raw.read_bytes()[:-5760])
    found = find_exposures([tmp_path])
    assert {candidate.path for candidate in found.candidates} == {raw, calibrated}
    assert not found.not_needed


def test_of_equally_raw_files_the_latest_counts_and_of_copies_one(tmp_path: Path, made: Path) -> None:
    copies = [dark(tmp_path / name / NAME, made) for name in ("a", "b")]
    packed = tmp_path / "0.fits.gz"
    packed.write_bytes(gzip.compress(made.read_bytes()))
    assert announced(tmp_path) == copies[:1]
    later = dark(tmp_path / "c" / NAME, made, DATE="2026-02-02T00:00:00.000")
    assert announced(tmp_path) == [later]


def test_files_of_one_date_that_differ_are_both_announced(tmp_path: Path, made: Path) -> None:
    # Given two raw files of one DATE, of which the second holds something more
    first, second = dark(tmp_path / "a.fits", made), dark(tmp_path / "b.fits", made)
    with fits.open(second, mode="append") as hdus:
        hdus.append(fits.ImageHDU(np.zeros((40, 40), "f4"), name="EXTRA"))
    # Then ingest compares their pixels
    assert announced(tmp_path) == [first, second]


def test_segments_are_parts_and_no_copies(tmp_path: Path, made: Path) -> None:
    for number in (1, 2):
        dark(
            tmp_path / f"seg{number}.fits", made, EXSEGNUM=number, EXSEGTOT=2, INTSTART=number, INTEND=number
        )
    assert len(announced(tmp_path)) == 2


def test_without_an_identity_only_files_of_one_start_are_one_exposure(tmp_path: Path, made: Path) -> None:
    for number in range(3):
        gone = dict.fromkeys(IDENTITY)
        dark(
            tmp_path / f"{number}.fits", made, **gone, FILENAME="dark_uncal.fits", EXPSTART=61042.25 + number
        )
    assert len(announced(tmp_path)) == 3


def test_a_file_is_announced_once_however_often_it_is_given(tmp_path: Path, made: Path) -> None:
    path = dark(tmp_path / "darks" / NAME, made)
    (tmp_path / "darks" / "again.fits").symlink_to(path)
    (tmp_path / "darks" / "loop").symlink_to(tmp_path / "darks")
    found = find_exposures([path, path.parent, path])
    assert [candidate.path for candidate in found.candidates] == [path]
    assert found.passed_over.kinds == {REPEATED: 3}


def test_results_and_reference_caches_are_not_searched(tmp_path: Path, made: Path) -> None:
    path = dark(tmp_path / NAME, made)
    for name in (".lock", "run.log", "ramp.fits"):
        dark(tmp_path / "results" / name, made)
    dark(tmp_path / "crds_cache" / "references" / "x.fits", made)
    (tmp_path / "crds_cache" / "config" / "jwst").mkdir(parents=True)
    assert announced(tmp_path) == [path]
    assert not find_exposures([tmp_path]).passed_over


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_counted(tmp_path: Path, made: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    assert sum(find_exposures([tmp_path]).passed_over.kinds.values()) == 1
    closed.chmod(0o700)


def test_the_first_two_headers_are_those_that_astropy_reads(tmp_path: Path, made: Path) -> None:
    packed = tmp_path / "a.fits.gz"
    packed.write_bytes(gzip.compress(made.read_bytes()))
    with fits.open(made) as hdus:
        for path in (made, packed):
            primary, science = read_first_headers(path)
            assert repr(primary) == repr(hdus[0].header)
            assert repr(science) == repr(hdus[1].header)
    # A primary HDU may hold data
    path = tmp_path / "b.fits"
    fits.HDUList([fits.PrimaryHDU(np.zeros((70, 70))), fits.ImageHDU(name="NEXT")]).writeto(path)
    assert read_first_headers(path)[1]["EXTNAME"] == "NEXT"


def test_thousands_of_files_take_seconds(tmp_path: Path, made: Path) -> None:
    content = bytearray(made.read_bytes())
    at = content.index(b"EXPOSURE=") + len("EXPOSURE= ")
    for number in range(1000):
        content[at : at + 10] = f"'{number:05d}   '".encode()
        (tmp_path / f"{number}.fits").write_bytes(content)
        (tmp_path / f"{number}.jpg").touch()
    start = time.process_time()
    found = find_exposures([tmp_path])
    assert time.process_time() - start < 30
    assert found.passed_over.kinds == {"*.jpg": 1000}
    assert len(found.candidates) == 1000


def test_one_kind_is_told_in_one_sentence() -> None:
    assert str(PassedOver(Counter({NOT_DARKS: 200}))) == "200 files are not NIRCam darks"
    assert str(PassedOver(Counter({NOT_DARKS: 1}))) == "1 file is not a NIRCam dark"
    assert str(PassedOver(Counter({"*.jpg": 8}))) == "8 files (*.jpg)"
    mixed = PassedOver(Counter({NOT_DARKS: 200, "*.jpg": 8, NOT_FITS: 1}))
    assert str(mixed) == "209 files: 200 are not NIRCam darks, 8 *.jpg, 1 is not FITS"
    many = PassedOver(Counter({f"*.{number}": 20 - number for number in range(8)}))
    assert str(many).endswith("of other kinds")
