"""Fetching an exposure's file from a bucket over a bad line, and onto a disk that is too small."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.errors import (
    BadInput,
    DamagedInTransit,
    EnvironmentFault,
    PermanentError,
    ScratchTooSmall,
    StoreUnavailable,
)
from shared.settings.stage import SourceS3Settings
from shared.store import s3_fetch
from shared.store.s3 import S3Store
from shared.store.s3_fetch import fetch
from support.ceph_server import Ceph
from support.flipping_proxy import FlippingProxy, flipping_proxy

pytestmark = pytest.mark.xdist_group("ceph")

MIB = 1 << 20
BODY = random.Random(5).randbytes(3 * MIB + 17)
LARGE = random.Random(6).randbytes(11 * MIB + 17)


@pytest.fixture
def bucket(ceph: Ceph) -> str:
    return ceph.new_bucket()


@pytest.fixture
def line(ceph: Ceph) -> Iterator[FlippingProxy]:
    with flipping_proxy(ceph.endpoint) as proxy:
        yield proxy


@pytest.fixture
def settings(line: FlippingProxy) -> SourceS3Settings:
    return SourceS3Settings(endpoint=line.endpoint, attempts=2)


def in_parts(ceph: Ceph, bucket: str, key: str, *lengths: int) -> str:
    """Upload LARGE in parts of these lengths; return its ETag."""
    client, named = ceph.client(), {"Bucket": bucket, "Key": key}
    named["UploadId"] = client.create_multipart_upload(**named)["UploadId"]
    parts: list[dict[str, Any]] = []
    at = 0
    for number, length in enumerate(lengths, start=1):
        answer = client.upload_part(**named, PartNumber=number, Body=LARGE[at : at + length])
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        at += length
    assert at >= len(LARGE)
    etag: str = client.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})["ETag"]
    return etag


def test_a_body_that_is_damaged_on_its_way_is_fetched_again(
    ceph: Ceph, bucket: str, line: FlippingProxy, settings: SourceS3Settings, tmp_path: Path
) -> None:
    ceph.client().put_object(Bucket=bucket, Key="a.fits", Body=BODY)
    # Given a line that damages one body, When the object is fetched, Then what lies there is the object
    line.flips = 1
    assert fetch(settings, bucket, "a.fits", None, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert line.gets == 2
    # Given a line that damages every body, Then it is told of, and it is not the store that is down
    line.flips = 10**6
    with pytest.raises(DamagedInTransit) as caught:
        fetch(settings, bucket, "a.fits", None, tmp_path / "a")
    assert not isinstance(caught.value, (StoreUnavailable, PermanentError))
    assert f"s3://{bucket}/a.fits" in caught.value.where


@pytest.mark.parametrize("knows_parts", [True, False])
def test_a_multipart_upload_is_compared_by_its_parts(
    ceph: Ceph,
    bucket: str,
    line: FlippingProxy,
    settings: SourceS3Settings,
    tmp_path: Path,
    knows_parts: bool,
) -> None:
    # Given an object in parts, of a server that tells how long they are, or that does not
    etag = in_parts(ceph, bucket, "a.fits", 5 * MIB, 5 * MIB, 5 * MIB)
    if knows_parts:
        line.part_lengths[f"/{bucket}/a.fits"] = 5 * MIB
    # When a body is damaged, Then it is fetched again
    line.flips = 1
    assert fetch(settings, bucket, "a.fits", None, tmp_path / "a", etag)
    assert (tmp_path / "a").read_bytes() == LARGE
    assert line.gets == 2


def test_parts_of_unequal_length_are_no_damage(
    ceph: Ceph, bucket: str, line: FlippingProxy, settings: SourceS3Settings, tmp_path: Path
) -> None:
    # Given parts of which nobody can tell the length from their number, and a first part that misleads
    in_parts(ceph, bucket, "a.fits", 5 * MIB, 6 * MIB, MIB)
    line.part_lengths[f"/{bucket}/a.fits"] = 5 * MIB
    # When the object is fetched, Then it is taken, as it arrives twice alike
    assert fetch(settings, bucket, "a.fits", None, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == LARGE
    assert line.gets == 2


def test_what_this_project_stored_is_compared_with_its_sha256(
    ceph: Ceph, bucket: str, line: FlippingProxy, settings: SourceS3Settings, tmp_path: Path
) -> None:
    store: S3Store = ceph.store(bucket, tmp_path / "scratch", part_size=5 * MIB)
    (tmp_path / "large").write_bytes(LARGE)
    store.put_file("a.fits", tmp_path / "large")
    line.flips = 1
    assert fetch(settings, bucket, "a.fits", None, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == LARGE


def test_an_object_that_was_replaced_since_its_event_is_not_taken_for_it(
    ceph: Ceph, bucket: str, settings: SourceS3Settings, tmp_path: Path
) -> None:
    first = ceph.client().put_object(Bucket=bucket, Key="a.fits", Body=BODY)["ETag"]
    assert fetch(settings, bucket, "a.fits", None, tmp_path / "a", first.strip('"'))
    ceph.client().put_object(Bucket=bucket, Key="a.fits", Body=BODY[::-1])
    with pytest.raises(BadInput) as caught:
        fetch(settings, bucket, "a.fits", None, tmp_path / "a", first)
    assert caught.value.check == "etag"
    assert not fetch(settings, bucket, "missing.fits", None, tmp_path / "a", first)


def test_what_does_not_fit_is_not_fetched(
    ceph: Ceph,
    bucket: str,
    line: FlippingProxy,
    settings: SourceS3Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ceph.client().put_object(Bucket=bucket, Key="a.fits", Body=BODY)
    usage = type(shutil.disk_usage(tmp_path))

    def disk(total: int, free: int) -> None:
        monkeypatch.setattr(s3_fetch.shutil, "disk_usage", lambda _: usage(total, total - free, free))

    # Given a disk that is too full, When the object is fetched, Then it ends after a few attempts
    disk(10 * MIB, MIB)
    with pytest.raises(ScratchTooSmall) as full:
        fetch(settings, bucket, "a.fits", None, tmp_path / "a")
    assert not isinstance(full.value, StoreUnavailable)
    # Given a disk that is too small, Then it ends at once
    disk(2 * MIB, 2 * MIB)
    with pytest.raises(EnvironmentFault) as small:
        fetch(settings, bucket, "a.fits", None, tmp_path / "a")
    assert full.value.setting == small.value.setting == "DARKS_SCRATCH"
    # And nothing was written
    assert list(tmp_path.iterdir()) == []
