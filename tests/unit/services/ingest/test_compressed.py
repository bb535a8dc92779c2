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
