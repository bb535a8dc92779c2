"""Exposures compressed by gzip: the same bytes come out, and what does not end well leaves nothing behind."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from services.ingest import compressed
from services.ingest.compressed import uncompressed
from shared.contracts.messages import ExposureAnnounced
from shared.errors import BadInput


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "jw1_nrca3_uncal.fits"
    fits.PrimaryHDU(np.random.default_rng(3).integers(0, 65535, (300, 400)).astype(np.uint16)).writeto(path)
    return path


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def announcement(path: Path) -> ExposureAnnounced:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ExposureAnnounced(
        exposure_id="e", uri=path.as_uri(), size=path.stat().st_size, sha256=digest, expected_exposures=3
    )


def zipped(plain: Path, name: str = "jw1_nrca3_uncal.fits.gz") -> Path:
    path = plain.with_name(name)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def test_a_plain_file_stays_where_it_is(plain: Path, scratch: Path) -> None:
    announced = announcement(plain)
    with uncompressed(plain, announced, lambda: scratch) as (path, same):
        assert (path, same) == (plain, announced)
        assert not list(scratch.iterdir())


@pytest.mark.parametrize("name", ["jw1_nrca3_uncal.fits.gz", "JW1_NRCA3_UNCAL.FITS.GZ", "dark.fits"])
def test_what_gzip_compressed_is_there_while_it_is_needed(plain: Path, scratch: Path, name: str) -> None:
    # Given a compressed file, whose announcement has its own size and sha256
    content = plain.read_bytes()
    path = zipped(plain, name)
    # When it is decompressed
    with uncompressed(path, announcement(path), lambda: scratch) as (target, announced):
        # Then its bytes are those before compression, and are not compared with the announcement again
        assert target.read_bytes() == content
        assert target.name == name.removesuffix(".gz").removesuffix(".GZ")
        assert (announced.size, announced.sha256, announced.expected_exposures) == (None, None, 3)
    assert not list(scratch.iterdir())


def test_several_gzip_members_are_one_file(plain: Path, scratch: Path) -> None:
    content = plain.read_bytes()
    path = zipped(plain)
    path.write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:]))
    with uncompressed(path, announcement(path), lambda: scratch) as (target, _):
        assert target.read_bytes() == content


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        (lambda body, _: body[:-2000], "truncated"),
        (lambda body, _: body[:-8] + b"\0\0\0\0" + body[-4:], "FITS"),
        (lambda body, _: body[:3000] + b"\xff" * 200 + body[3200:], "FITS"),
        (lambda _, __: gzip.compress(b"text"), "FITS"),
        (lambda _, __: gzip.compress(b""), "FITS"),
        (lambda _, plain: gzip.compress(plain[:2880] + bytes(20_000_000)), "FITS"),
    ],
    ids=["cut", "wrong CRC", "garbage", "not FITS", "empty", "bomb"],
)
def test_what_cannot_be_an_exposure_is_rejected(plain: Path, scratch: Path, damage, check: str) -> None:
    path = zipped(plain)
    path.write_bytes(damage(path.read_bytes(), plain.read_bytes()))
    with (
        pytest.raises(BadInput) as caught,
        uncompressed(path, announcement(path), lambda: scratch),
    ):
        pass
    assert caught.value.check == check
    assert not list(scratch.iterdir())


def test_no_file_becomes_larger_than_an_exposure_may_be(plain: Path, scratch: Path, monkeypatch) -> None:
    monkeypatch.setattr(compressed, "_LARGEST", 100_000)
    path = zipped(plain)
    with pytest.raises(BadInput), uncompressed(path, announcement(path), lambda: scratch):
        pass
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    ("wrong", "check"), [({"size": 1}, "size"), ({"sha256": "0" * 64}, "sha256")], ids=["size", "sha256"]
)
def test_another_file_than_was_announced_is_not_decompressed(
    plain: Path, scratch: Path, wrong: dict, check: str
) -> None:
    path = zipped(plain)
    with (
        pytest.raises(BadInput) as caught,
        uncompressed(path, announcement(path).model_copy(update=wrong), lambda: scratch),
    ):
        pass
    assert caught.value.check == check


def packed(path: Path, data: np.ndarray, **how: object) -> Path:
    """A file as fpack makes it, with a table that it leaves as it is."""
    image = fits.CompImageHDU(data, name="SCI", tile_shape=(1, 1, 1, data.shape[-1]), **how)
    table = fits.BinTableHDU.from_columns([fits.Column("x", "D", array=np.arange(5.0))], name="INT_TIMES")
    primary = fits.PrimaryHDU()
    primary.header["EXP_TYPE"] = "NRC_DARK"
    fits.HDUList([primary, image, table]).writeto(path)
    return path


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4"])
def test_what_fpack_kept_comes_out_as_it_was(tmp_path: Path, scratch: Path, dtype: str) -> None:
    # Given a packed ramp of integers, or of floats that were not rounded
    data = np.random.default_rng(1).normal(10000, 6, (2, 3, 16, 20)).astype(dtype)
    how = {"compression_type": "GZIP_2", "quantize_level": 0.0} if dtype == "f4" else {}
    path = packed(tmp_path / "jw1_nrca3_uncal.fits.fz", data, **how)
    # When it is unpacked
    with uncompressed(path, announcement(path), lambda: scratch) as (target, announced):
        # Then pixels, header and table are those before
        assert (target.name, announced.sha256) == ("jw1_nrca3_uncal.fits", None)
        with fits.open(target) as hdus:
            assert type(hdus["SCI"]) is fits.ImageHDU
            np.testing.assert_array_equal(hdus["SCI"].data, data)
            np.testing.assert_array_equal(hdus["INT_TIMES"].data["x"], np.arange(5.0))
            assert hdus[0].header["EXP_TYPE"] == "NRC_DARK"
            hdus.verify("exception")
    assert not list(scratch.iterdir())


def test_what_fpack_rounded_or_somebody_cut_is_refused(tmp_path: Path, scratch: Path, monkeypatch) -> None:
    # Given rounded floats, half a file, and one that becomes larger than any dark
    data = np.random.default_rng(1).normal(10000, 6, (2, 3, 16, 20))
    rounded = packed(tmp_path / "a.fits.fz", data.astype("f4"), quantize_level=4.0)
    cut = packed(tmp_path / "b.fits.fz", data.astype("u2"))
    cut.write_bytes(cut.read_bytes()[: 2 * 2880 + 100])
    large = packed(tmp_path / "c.fits.fz", data.astype("u2"))
    for path, limit, check in ((rounded, 10**9, "FITS"), (cut, 10**9, "truncated"), (large, 100, "FITS")):
        monkeypatch.setattr(compressed, "_LARGEST", limit)
        # Then each is rejected, and nothing is left of it
        with pytest.raises(BadInput) as caught, uncompressed(path, announcement(path), lambda: scratch):
            pass
        assert caught.value.check == check
        assert not list(scratch.iterdir())
