"""The store in a bucket against a real server: what S3 alone has, beyond the contract of every store."""

import hashlib
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from astropy.io import fits
from botocore.exceptions import NoCredentialsError
from pydantic import BaseModel

from shared.errors import DamagedObject, EnvironmentFault, StoreUnavailable
from shared.ramps.ramp import Ramp
from shared.settings.stage import S3Settings, StageSettings
from shared.store.base import get_many
from shared.store.local import LocalStore
from shared.store.manifest import (
    BuiltProduct,
    DamagedManifest,
    Draft,
    ProductSpec,
    find,
    find_all,
    get_or_build,
)
from shared.store.opening import open_store
from shared.store.s3 import S3Store
from shared.store.s3_client import code_of
from shared.store.s3_probe import StoreCapabilities, probe
from support.ceph_server import Ceph
from support.flipping_proxy import flipping_proxy

pytestmark = pytest.mark.xdist_group("ceph")

MIB = 1 << 20


@pytest.fixture
def bucket(ceph: Ceph) -> str:
    return ceph.new_bucket()


@pytest.fixture
def store(ceph: Ceph, bucket: str, tmp_path: Path) -> Iterator[S3Store]:
    store = ceph.store(bucket, tmp_path / "scratch", part_size=5 * MIB, attempts=2)
    yield store
    store.close()


@pytest.fixture
def requests(store: S3Store) -> list[tuple[str, str]]:
    """Method and address of each request, in order."""
    seen: list[tuple[str, str]] = []
    store.client.meta.events.register(
        "before-send.s3", lambda request, **_: seen.append((request.method, request.url))
    )
    return seen


def test_connections_of_many_requests_at_once_are_kept(
    store: S3Store, caplog: pytest.LogCaptureFixture
) -> None:
    # Given many objects
    keys = [f"many/{number}" for number in range(96)]
    for key in keys:
        store.put(key, b"x")
    # When two threads read them, each with as many requests at once as it sends
    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(lambda: dict(get_many(store, keys))) for _ in range(2)]
    # Then no connection was closed for want of room
    assert [reader.result() for reader in readers] == [dict.fromkeys(keys, b"x")] * 2
    assert [record.message for record in caplog.records if record.name == "urllib3.connectionpool"] == []


def test_settings_open_a_bucket_or_a_folder_in_any_process(
    ceph: Ceph, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given settings from the environment, handed on as to a job's process
    monkeypatch.setenv("DARKS_S3_ENDPOINT", ceph.endpoint)
    monkeypatch.setenv("DARKS_SCRATCH", str(tmp_path / "scratch"))
    settings = pickle.loads(pickle.dumps(StageSettings(store=f"s3://{bucket}/a/b/")))
    # When opened, Then keys lie under the prefix
    store = open_store(settings)
    store.put("k", b"x")
    assert store.uri("k") == f"s3://{bucket}/a/b/k"
    assert [entry["Key"] for entry in ceph.client().list_objects_v2(Bucket=bucket)["Contents"]] == ["a/b/k"]
    assert store.scratch().is_relative_to(tmp_path / "scratch")
    store.close()
    # And a folder stays a folder, named either way
    assert isinstance(open_store(StageSettings(store=tmp_path)), LocalStore)
    assert isinstance(open_store(StageSettings(store=str(tmp_path))), LocalStore)


def test_two_prefixes_of_one_bucket_do_not_see_each_other(ceph: Ceph, bucket: str, tmp_path: Path) -> None:
    one, two = (ceph.store(f"{bucket}/{name}", tmp_path) for name in ("run", "run-2"))
    one.put("a", b"1")
    two.put("a", b"2")
    assert (list(one.list("")), list(two.list(""))) == (["a"], ["a"])
    assert (one.get("a"), two.get("a")) == (b"1", b"2")


def test_no_credential_is_in_what_is_handed_on_or_said(store: S3Store) -> None:
    output = repr(store.__reduce__()).encode() + pickle.dumps(store) + repr(store).encode()
    assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() not in output


def test_a_large_file_goes_in_parts_and_comes_back(
    store: S3Store, bucket: str, ceph: Ceph, requests: list[tuple[str, str]]
) -> None:
    # Given a file of two parts and a bit
    data = os.urandom(11 * MIB)
    file = store.scratch() / "ramp.fits"
    file.write_bytes(data)
    # When it is put
    digest = hashlib.sha256(data).hexdigest()
    assert store.put_file("ramp.fits", file) == (len(data), digest)
    # Then it went in parts, is whole, is noted with its digest, and leaves scratch free
    assert sum("partNumber=" in url for _, url in requests) == 3
    assert store.get("ramp.fits") == data
    assert ceph.client().head_object(Bucket=bucket, Key="ramp.fits")["Metadata"]["sha256"] == digest
    assert not file.exists()


def test_a_file_from_elsewhere_stays_where_it_is(store: S3Store, tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_bytes(b"x")
    store.put_file("a", file)
    assert file.exists()


def test_listing_goes_over_pages(store: S3Store) -> None:
    pages = store.client.get_paginator
    store.client.get_paginator = lambda name: _SmallPages(pages(name))
    keys = [f"p/{n:02}" for n in range(25)]
    for key in keys:
        store.put(key, b"")
    assert list(store.list("p/")) == keys


class _SmallPages:
    def __init__(self, pages: Any) -> None:
        self._pages = pages

    def paginate(self, **asked: Any) -> Any:
        return self._pages.paginate(**asked, PaginationConfig={"PageSize": 10})


def test_a_ramp_reads_the_same_as_astropy_with_few_requests(
    store: S3Store, tmp_path: Path, requests: list[tuple[str, str]]
) -> None:
    # Given a ramp with a long header, as jwst writes it
    rng = np.random.default_rng(7)
    sci = rng.normal(0, 5, (2, 6, 96, 128)).astype(np.float32)
    primary = fits.PrimaryHDU()
    for n in range(400):
        primary.header[f"KEY{n}"] = n
    hdus = [
        primary,
        fits.ImageHDU(sci, name="SCI"),
        fits.ImageHDU(rng.integers(0, 99, (96, 128), np.uint32), name="PIXELDQ"),
        fits.ImageHDU(rng.integers(0, 5, sci.shape, np.uint8), name="GROUPDQ"),
    ]
    file = tmp_path / "jw_ramp.fits"
    fits.HDUList(hdus).writeto(file)
    store.put("ramp.fits", file.read_bytes())
    requests.clear()
    # When it is opened and read in windows
    with Ramp(store.open("ramp.fits"), "ramp.fits") as ramp, fits.open(file) as oracle:
        opening = len(requests)
        for integration in range(2):
            for rows in (slice(None), slice(0, 10), slice(37, 96)):
                for name in ("SCI", "GROUPDQ"):
                    window = ramp.read(name, integration, slice(1, 5), rows)
                    np.testing.assert_array_equal(window, oracle[name].data[integration, 1:5, rows])
        np.testing.assert_array_equal(ramp.read_image("PIXELDQ"), oracle["PIXELDQ"].data)
        assert ramp.headers["SCI"]["NAXIS"] == 4
    # Then the headers cost one request an HDU at most
    assert opening <= len(hdus) + 1


def test_an_object_replaced_under_its_reader_is_never_mixed(store: S3Store) -> None:
    # Given an object larger than what is read ahead
    store.put("a", b"1" * MIB)
    with store.open("a") as reader:
        assert reader.read(0, 10) == b"1" * 10
        store.put("a", b"2" * MIB)
        # When it is read on, Then that is refused
        with pytest.raises(StoreUnavailable) as caught:
            reader.read(0, MIB)
        assert "/a on " in caught.value.where
        store.delete("a")
        with pytest.raises(StoreUnavailable) as caught:
            reader.read(MIB // 2, 10)
        assert "/a on " in caught.value.where


def test_in_a_bucket_that_keeps_versions_a_reader_reads_on(ceph: Ceph, bucket: str, store: S3Store) -> None:
    ceph.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    store.put("a", b"1" * MIB)
    with store.open("a") as reader:
        store.put("a", b"2" * MIB)
        store.delete("a")
        assert reader.read(0, MIB) == b"1" * MIB
    with pytest.raises(KeyError):
        store.get("a")


def test_what_is_not_what_was_put_is_told(ceph: Ceph, bucket: str, store: S3Store) -> None:
    ceph.client().put_object(
        Bucket=bucket, Key="a", Body=b"damaged", Metadata={"sha256": hashlib.sha256(b"whole").hexdigest()}
    )
    with pytest.raises(DamagedObject) as caught:
        store.get("a")
    assert caught.value.where.startswith(f"s3://{bucket}/a on ")


def test_a_bit_that_is_flipped_on_the_way_is_read_again(ceph: Ceph, bucket: str, tmp_path: Path) -> None:
    # Given a line that flips a bit of an object, once
    ceph.store(bucket, tmp_path).put("a", b"whole")
    with flipping_proxy(ceph.endpoint) as line:
        store = S3Store(f"s3://{bucket}", S3Settings(endpoint=line.endpoint), tmp_path / "beyond the line")
        line.flips = 1
        # When it is read, Then it is as it was put, and the first answer is not believed
        assert store.get("a") == b"whole"
        assert (line.gets, line.flips) == (2, 0)
        store.close()


class Empty(BaseModel):
    """The results of a product that has none."""


def rot(ceph: Ceph, store: S3Store, key: str) -> None:
    """Change a bit of an object in the store; what the store knows of it stays."""
    at, client = store.address_of(key), ceph.client()
    answer = client.get_object(Bucket=at.bucket, Key=at.key)
    body = bytearray(answer["Body"].read())
    body[len(body) // 2] ^= 1
    client.put_object(Bucket=at.bucket, Key=at.key, Body=bytes(body), Metadata=answer["Metadata"])


def test_a_manifest_that_rots_in_the_store_stops_nothing_but_its_product(ceph: Ceph, store: S3Store) -> None:
    # Given two products, and a bit of the manifest of one that is no longer as it was
    specs = [ProductSpec("set-noise", "noise/c/s", [], {"gain": gain}, {"noise": "1"}) for gain in (1.0, 2.0)]
    made = []

    def build(draft: Draft) -> BuiltProduct:
        made.append(draft.path)
        return BuiltProduct(Empty())

    rotten, whole = (get_or_build(store, spec, build) for spec in specs)
    rot(ceph, store, specs[0].manifest_key)
    # When it is looked for, Then that is no matter of time, for which a worker would wait for ever
    with pytest.raises(DamagedManifest):
        find(store, rotten.path)
    # And a walk passes over it, and tells
    damaged: list[str] = []
    assert list(find_all(store, "noise/", damaged=damaged)) == [whole]
    assert damaged == [store.uri(specs[0].manifest_key)]
    # And whoever makes the product again sets it aside
    again = get_or_build(store, specs[0], build)
    assert made == [rotten.path, whole.path, rotten.path]
    assert find(store, rotten.path) == again
    assert sum("/damaged-" in key for key in store.list(rotten.path)) == 1


def test_the_probe_says_what_this_server_does_and_leaves_nothing(store: S3Store) -> None:
    assert probe(store) == StoreCapabilities(
        conditional_put=True, atomic=True, content_md5=True, ranged_reads=True
    )
    assert list(store.list("")) == []


def test_the_probe_sees_a_server_that_ignores_the_condition(store: S3Store) -> None:
    store.client.meta.events.register(
        "before-call.s3.PutObject", lambda params, **_: params["headers"].pop("If-None-Match", None) and None
    )
    seen = probe(store)
    assert (seen.conditional_put, seen.atomic, seen.content_md5) == (False, False, True)
    assert str(seen) == "If-None-Match no, atomic no, Content-MD5 yes, ranged reads yes"


def each_call(store: S3Store, tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    return {
        "put": lambda: store.put("a", b"x"),
        "put_file": lambda: store.put_file("a", file),
        "put_if_absent": lambda: store.put_if_absent("a", b"x"),
        "get": lambda: store.get("a"),
        "open": lambda: store.open("a"),
        "delete": lambda: store.delete("a"),
        "list": lambda: list(store.list("")),
        "probe": lambda: probe(store),
    }


def assert_each_call_fails_in_one_line(store: S3Store, tmp_path: Path) -> None:
    for name, call in each_call(store, tmp_path).items():
        with pytest.raises(EnvironmentFault) as caught:
            call()
        assert caught.value.where.startswith(f"s3://{store.bucket}"), name
        assert "\n" not in str(caught.value)
        assert "tester-secret" not in str(caught.value)


def test_a_missing_bucket_is_its_owner_s_to_cure(ceph: Ceph, tmp_path: Path) -> None:
    store = ceph.store("no-such-bucket", tmp_path / "scratch")
    assert_each_call_fails_in_one_line(store, tmp_path)
    with pytest.raises(EnvironmentFault) as caught:
        store.put("a", b"x")
    assert code_of(caught.value.__cause__) == "NoSuchBucket"


@pytest.mark.parametrize(
    ("variable", "code"),
    [("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"), ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId")],
)
def test_wrong_credentials_are_their_owner_s_to_cure(
    ceph: Ceph, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, code: str
) -> None:
    monkeypatch.setenv(variable, "not-this-one")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    store = ceph.store(bucket, tmp_path / "scratch")
    with pytest.raises(EnvironmentFault) as refused:
        store.put("a", b"x")
    assert code_of(refused.value.__cause__) == code
    for call in each_call(store, tmp_path).values():
        with pytest.raises(EnvironmentFault) as caught:
            call()
        assert "not-this-one" not in str(caught.value)


def test_without_credentials_it_says_so(
    ceph: Ceph, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    store = ceph.store(bucket, tmp_path / "scratch")
    assert_each_call_fails_in_one_line(store, tmp_path)
    with pytest.raises(EnvironmentFault) as caught:
        store.put("a", b"x")
    assert isinstance(caught.value.__cause__, NoCredentialsError)


def test_tls_is_checked_against_the_authority_that_is_named(ceph: Ceph, bucket: str, tmp_path: Path) -> None:
    def over_tls(**more: Any) -> S3Store:
        return S3Store(f"s3://{bucket}", S3Settings(endpoint=ceph.tls_endpoint, attempts=1, **more), tmp_path)

    store = over_tls(ca=ceph.ca)
    file = tmp_path / "f"
    file.write_bytes(b"over TLS")
    store.put_file("a", file)
    assert store.get("a") == b"over TLS"
    assert store.put_if_absent("a", b"x") is False
    with pytest.raises(EnvironmentFault) as untrusted:
        over_tls().get("a")
    with pytest.raises(EnvironmentFault) as missing:
        over_tls(ca=tmp_path / "none.pem").get("a")
    assert [each.value.setting for each in (untrusted, missing)] == ["DARKS_S3_CA"] * 2
    assert missing.value.where == str(tmp_path / "none.pem")


def test_a_scratch_folder_of_somebody_else_is_not_used(
    ceph: Ceph, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ceph.store(bucket, tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(EnvironmentFault) as caught:
        store.scratch()
    assert caught.value.setting == "DARKS_SCRATCH"
