"""The sums of a file: astropy's are the oracle, and what contradicts them is named."""

import hashlib
import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from services.ingest import file_sums
from services.ingest.checks import first_failure
from services.ingest.file_sums import add_words, read_sums
from services.ingest.header_checks import header_checks
from services.ingest.probe import open_exposure


def write(path: Path, checksum: bool = True) -> Path:
    rng = np.random.default_rng(5)
    table = fits.BinTableHDU.from_columns([fits.Column("time", "D", array=rng.random(7))], name="INT_TIMES")
    images = [
        fits.ImageHDU(rng.integers(0, 65536, (2, 3, 40, 50)).astype(np.uint16), name="SCI"),
        fits.ImageHDU(rng.random((40, 50)).astype(np.float32), name="ERR"),
        fits.ImageHDU(rng.random((4, 5)), name="ERR"),
    ]
    fits.HDUList([fits.PrimaryHDU(), *images, table]).writeto(path, checksum=checksum)
    return path


def test_sums_that_astropy_wrote_agree(tmp_path: Path) -> None:
    # Given a file with sums in every HDU
    path = write(tmp_path / "a.fits")
    # When it is read
    sums = read_sums(path)
    # Then all of them hold
    assert sums.checked == ("PRIMARY", "SCI", "ERR", "ERR", "INT_TIMES")
    assert sums.contradictions == ()
    assert sums.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("piece", [2880, 2 * 2880])
def test_the_pieces_of_a_long_file_add_up(tmp_path: Path, monkeypatch, piece: int) -> None:
    monkeypatch.setattr(file_sums, "_PIECE", piece)
    path = write(tmp_path / "a.fits")
    assert read_sums(path).contradictions == ()
    assert read_sums(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


# The primary HDU, which is the first, has no data.
@pytest.mark.parametrize(
    ("hdu", "part"), [(0, "header"), *itertools.product(range(1, 5), ("header", "data"))]
)
def test_a_changed_byte_is_seen_wherever_astropy_sees_it(tmp_path: Path, hdu: int, part: str) -> None:
    # Given one changed byte in the header or in the data of an HDU
    path = write(tmp_path / "a.fits")
    with fits.open(path) as hdus:
        place, name = hdus[hdu].fileinfo(), hdus[hdu].name
    content = bytearray(path.read_bytes())
    # Of a header, a letter of the comment of BITPIX, its second card.
    at = place["datLoc"] + 5 if part == "data" else place["hdrLoc"] + 80 + 36
    content[at] ^= 1
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fits.open(path, checksum=True).close()
    assert caught
    # Then the HDU is named, and its data where they are at fault
    [contradiction] = read_sums(path).contradictions
    assert name in contradiction
    assert ("but its data" in contradiction) == (part == "data")


def test_a_file_without_sums_or_with_undefined_ones_passes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", checksum=False)
    assert read_sums(path).checked == ()
    with fits.open(path, mode="update") as hdus:
        hdus["SCI"].header["CHECKSUM"] = hdus["SCI"].header["DATASUM"] = ""
    sums = read_sums(path)
    assert (sums.checked, sums.contradictions) == ((), ())


@pytest.mark.parametrize(("checksum", "tail", "contradictions"), [(True, 1, 1), (True, 0, 0), (False, 1, 0)])
def test_bytes_after_the_last_hdu_are_told_of_where_the_others_have_sums(
    tmp_path: Path, checksum: bool, tail: int, contradictions: int
) -> None:
    path = write(tmp_path / "a.fits", checksum)
    path.write_bytes(path.read_bytes() + bytes([tail]) * 2881)
    sums = read_sums(path)
    assert len(sums.contradictions) == contradictions
    assert sums.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_hdu_that_is_none_any_more_is_missed(tmp_path: Path) -> None:
    # Given a file with sums, in which a bit of the first card of the third HDU was flipped
    path = write(tmp_path / "a.fits")
    with fits.open(path) as hdus:
        place = hdus[2].fileinfo()["hdrLoc"]
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    # Then the file does not pass as one of two HDUs
    assert len(read_sums(path).contradictions) == 1


def test_what_is_no_whole_fits_file_has_a_sha256(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits")
    path.write_bytes(path.read_bytes()[:-2880])
    sums = read_sums(path)
    assert sums.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sums.checked == sums.contradictions == ()


def test_the_check_fails_before_the_header_is_believed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits")
    content = bytearray(path.read_bytes())
    content[-2880] ^= 1
    path.write_bytes(content)
    probe, ramp = open_exposure(path, read_sums(path))
    assert ramp is not None
    ramp.close()
    failure = first_failure(header_checks(probe), path.name)
    assert failure is not None
    assert failure.check == "checksum"


@given(
    words=st.lists(st.integers(0, 2**32 - 1), max_size=50), total=st.integers(0, 2**32 - 1), data=st.data()
)
def test_words_are_added_with_the_carry_around(words: list[int], total: int, data) -> None:
    # Given the sum of all words as integers: modulo 2**32 - 1 it is the ones' complement sum
    expected = (total + sum(words)) % (2**32 - 1)
    body = np.array(words, ">u4").tobytes()
    cut = 4 * data.draw(st.integers(0, len(words)))
    result = add_words(add_words(total, body[:cut]), body[cut:])
    assert 0 <= result < 2**32
    assert result % (2**32 - 1) == expected


@pytest.mark.parametrize("keyword", ["CHECKSUM", "DATASUM"])
def test_a_sum_that_cannot_be_parsed_does_not_hold(tmp_path: Path, keyword: str) -> None:
    # Given a file in which one sum's card is damaged
    path = write(tmp_path / "a.fits")
    content = path.read_bytes()
    at = content.index(keyword.encode().ljust(8) + b"=", content.index(b"XTENSION"))
    path.write_bytes(content[: at + 10] + b"'open".ljust(70) + content[at + 80 :])
    # Then it is not taken for a file without that sum
    [contradiction] = read_sums(path).contradictions
    assert keyword in contradiction
    assert "SCI" in contradiction
