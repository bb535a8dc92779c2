"""Which announced addresses are read at all."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.addresses import bucket_address
from shared.errors import BadMessage
from shared.settings.stage import StageSettings
from shared.store.sources import source_of


def settings(*allowed: str) -> StageSettings:
    return StageSettings(store=Path("/store"), allowed_sources=list(allowed))


BUCKET = settings("s3://darks/raw/")

HOSTILE = [
    "s3://other/raw/a.fits",
    "s3://darks/raw-evil/a.fits",
    "s3://darks/rawa.fits",
    "s3://darks/raw",
    "s3://darks/raw/",
    "s3://darks/raw/../secret/a.fits",
    "s3://darks/raw/%2e%2e/secret/a.fits",
    "s3://darks/raw/%2E./a.fits",
    "s3://darks/raw%2Fa.fits",
    "s3://darks/raw/%252e%252e/a.fits",
    "s3://darks/raw/./a.fits",
    "s3://darks/raw//a.fits",
    "s3://darks//raw/a.fits",
    "s3://darks/raw/a.fits?acl",
    "s3://darks/raw/a.fits?versionId=1&x=2",
    "s3://darks/raw/a.fits?versionId=1%0a",
    "s3://darks/raw/a.fits#b",
    "s3://darks/raw/a\nb.fits",
    "s3://darks/raw/a%0Ab.fits",
    "s3://user@darks/raw/a.fits",
    "s3://darks:80/raw/a.fits",
    "s3://DARKS/raw/a.fits",
    "S3://darks/raw/a.fits",
    "s3:/darks/raw/a.fits",
    "s3:///raw/a.fits",
    "https://darks/raw/a.fits",
    "ftp://darks/raw/a.fits",
    "file://darks/raw/a.fits",
    "file:///etc/passwd",
    "/etc/passwd",
    "/data/a\0b.fits",
    "file:///data/a%00b.fits",
    "",
]


@pytest.mark.parametrize("uri", HOSTILE)
def test_a_hostile_address_is_refused_in_one_line(uri: str) -> None:
    with pytest.raises(BadMessage) as caught:
        source_of(uri, BUCKET)
    assert "\n" not in str(caught.value)
    assert str(caught.value)


@pytest.mark.parametrize(
    ("uri", "key", "version"),
    [
        ("s3://darks/raw/jw01062_nrca1_uncal.fits", "raw/jw01062_nrca1_uncal.fits", None),
        ("s3://darks/raw/a%20b/c.fits", "raw/a b/c.fits", None),
        ("s3://darks/raw/a.fits?versionId=3%2Fx", "raw/a.fits", "3/x"),
    ],
)
def test_an_object_in_an_allowed_prefix_is_a_source(uri: str, key: str, version: str | None) -> None:
    source = source_of(uri, BUCKET)
    assert (source.at.prefix, source.version) == (key, version)
    assert source.uri == uri
    assert source.name == key.rpartition("/")[2]


@given(st.text(max_size=30))
def test_whatever_is_admitted_lies_in_the_prefix(rest: str) -> None:
    try:
        source = source_of(f"s3://darks/{rest}", BUCKET)
    except BadMessage:
        return
    assert source.at.bucket == "darks"
    assert source.at.prefix.startswith("raw/")
    assert ".." not in source.at.prefix.split("/")


def test_unless_allowed_nothing_is_read(tmp_path: Path) -> None:
    for uri in (str(tmp_path / "a b.fits"), (tmp_path / "a.fits").as_uri(), "s3://darks/raw/a.fits"):
        with pytest.raises(BadMessage) as caught:
            source_of(uri, settings())
        assert caught.value.setting == "DARKS_ALLOWED_SOURCES"


def test_a_path_and_its_address_are_one_source(tmp_path: Path) -> None:
    path = tmp_path / "a b.fits"
    assert source_of(str(path), settings("file:///")).uri == path.as_uri()


def test_a_file_must_really_lie_in_the_allowed_folder(tmp_path: Path) -> None:
    # Given a folder, and a link in it that leads out
    folder, secret = tmp_path / "data", tmp_path / "secret"
    folder.mkdir()
    secret.write_bytes(b"x")
    (folder / "link.fits").symlink_to(secret)
    (folder / "a.fits").write_bytes(b"x")
    allowed = settings(folder.as_uri())
    # When files are announced, Then only what lies in it is read
    with source_of(f"file://{folder}/a.fits", allowed).on_disk(Path) as path:
        assert path == folder / "a.fits"
    (folder / "loop").symlink_to(folder / "loop")
    for uri in (
        f"{folder}/loop",
        f"{folder}/link.fits",
        f"file://{folder}/../secret",
        f"file://{folder}/%2e%2e/secret",
        str(secret),
        f"{tmp_path}/data-2/a.fits",
    ):
        with pytest.raises(BadMessage) as caught:
            source_of(uri, allowed)
        assert caught.value.setting == "DARKS_ALLOWED_SOURCES"


@pytest.mark.parametrize("prefix", ["http://x/", "s3://", "file://host/data", "data/", "s3://b/../c"])
def test_a_place_that_cannot_be_meant_is_refused_as_a_setting(prefix: str) -> None:
    with pytest.raises(ValueError):
        settings(prefix)


@pytest.mark.parametrize(
    "address", ["s3://", "s3://x", "s3://Bucket", "s3://b_c", "s3:/b", "bucket", "s3://bb/../c"]
)
def test_the_store_s_address_is_checked(address: str) -> None:
    with pytest.raises(ValueError):
        bucket_address(address)
