"""Ingest from a bucket into a bucket: the same ramp as from a file, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits import FITSDiff

from services.ingest.handler import handle
from shared.contracts.messages import Envelope, ExposureAnnounced, ExposureIngested, ExposureRejected
from shared.errors import BadMessage, TransientError
from shared.nircam.exposure_id import exposure_id
from shared.runtime.handler import StageContext
from shared.settings.stage import S3Settings, SourceS3Settings, StageSettings
from shared.store.opening import open_store
from shared.store.sources import source_of
from support.ceph_server import Ceph
from support.ingest_exposures import (
    ARCHIVE_ID,
    IDENTITY,
    Bench,
    bench_on,
    edit,
    write_exposure,
    write_references,
    write_segments,
)

pytestmark = pytest.mark.xdist_group("ceph")


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return write_references(tmp_path_factory.mktemp("references"))


@pytest.fixture
def bench(tmp_path: Path, references, monkeypatch) -> Bench:
    return bench_on(tmp_path, references, monkeypatch)


@pytest.fixture
def bucket(ceph: Ceph) -> str:
    return ceph.new_bucket()


@pytest.fixture
def context(ceph: Ceph, bucket: str, tmp_path: Path, references):
    settings = StageSettings(
        store=f"s3://{bucket}/products",
        scratch=tmp_path / "scratch",
        s3=S3Settings(endpoint=ceph.endpoint),
        allowed_sources=[f"s3://{bucket}/raw/"],
        overrides=references,
    )
    store = open_store(settings)
    yield StageContext(store, settings)
    store.close()


def content(context: StageContext, uri: str, exposure_id: str = "jw1_nrca3", **said):
    announced = ExposureAnnounced(exposure_id=exposure_id, uri=uri, **said)
    return handle(Envelope.of(announced, identity=uri), context)[0].message.content


def test_an_exposure_in_a_bucket_gives_the_ramp_of_its_file(
    ceph: Ceph, bucket: str, bench: Bench, context: StageContext
) -> None:
    # Given one exposure as a file, and as an object
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits")
    ceph.client().put_object(Bucket=bucket, Key=f"raw/{path.name}", Body=path.read_bytes())
    # When both are ingested
    of_file = bench.content(path)
    of_object = content(
        context, f"s3://{bucket}/raw/{path.name}", of_file.member.exposure_id, size=path.stat().st_size
    )
    # Then it is one product with one content, and nothing of the object is left on this disk
    assert isinstance(of_object, ExposureIngested)
    assert of_object.member.product == of_file.member.product
    with (
        fits.HDUList.fromstring(context.store.get(of_object.member.ramp.key)) as one,
        fits.open(bench.root / "store" / of_file.member.ramp.key) as other,
    ):
        for name in ("SCI", "GROUPDQ", "PIXELDQ"):
            assert FITSDiff(
                fits.HDUList([fits.PrimaryHDU(), one[name]]), fits.HDUList([fits.PrimaryHDU(), other[name]])
            ).identical
    assert not list(context.store.scratch().glob("*-*"))


def test_segments_in_a_bucket_are_fetched_and_joined(
    ceph: Ceph, bucket: str, bench: Bench, context: StageContext
) -> None:
    # Given an exposure as one file, and its segments as objects
    whole = edit(write_exposure(bench.inbox / f"{ARCHIVE_ID}_uncal.fits", nints=5), **IDENTITY)
    of_file = bench.content(whole)
    segments = write_segments(whole, bench.inbox, (2, 3))
    for path in segments:
        ceph.client().put_object(Bucket=bucket, Key=f"raw/{path.name}", Body=path.read_bytes())
    uris = [f"s3://{bucket}/raw/{path.name}" for path in segments]
    # When they are announced by the names of their objects, the second first
    sent = []
    for uri in reversed(uris):
        announced = ExposureAnnounced(exposure_id=exposure_id(uri), uri=uri)
        sent += handle(Envelope.of(announced, identity=uri), context)
    # Then one exposure comes of them, with the pixels of the file, and nothing is left on this disk
    [message] = sent
    assert message.message.content.member.exposure_id == ARCHIVE_ID
    with (
        fits.HDUList.fromstring(context.store.get(message.message.content.member.ramp.key)) as one,
        fits.open(bench.root / "store" / of_file.member.ramp.key) as other,
    ):
        for name in ("SCI", "GROUPDQ", "PIXELDQ"):
            np.testing.assert_array_equal(one[name].data, other[name].data)
    assert not list(context.store.scratch().glob("*-*"))


def test_what_is_no_exposure_there_is_rejected_and_told_of(
    ceph: Ceph, bucket: str, context: StageContext
) -> None:
    ceph.client().put_object(Bucket=bucket, Key="raw/a.fits", Body=b"not FITS")
    rejected = content(context, f"s3://{bucket}/raw/a.fits", "a.fits")
    assert isinstance(rejected, ExposureRejected)
    assert (rejected.check, rejected.uri) == ("FITS", f"s3://{bucket}/raw/a.fits")
    assert "a.fits" in rejected.reason
    with pytest.raises(BadMessage) as caught:
        content(context, f"s3://{bucket}/elsewhere/a.fits")
    assert caught.value.setting == "DARKS_ALLOWED_SOURCES"


def test_an_event_that_is_ahead_of_its_object_is_tried_again(
    ceph: Ceph, bucket: str, bench: Bench, context: StageContext
) -> None:
    # Given an exposure that is announced before it can be read
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits")
    uri = f"s3://{bucket}/raw/{path.name}"
    # When it is ingested, then it is not rejected: a worker tries again
    with pytest.raises(TransientError) as caught:
        content(context, uri)
    assert caught.value.where == uri
    assert not list(context.store.list(""))
    # And once it can be read, it is ingested
    ceph.client().put_object(Bucket=bucket, Key=f"raw/{path.name}", Body=path.read_bytes())
    assert isinstance(content(context, uri), ExposureIngested)


def test_a_version_is_read_as_it_was(ceph: Ceph, bucket: str, context: StageContext) -> None:
    client = ceph.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = client.put_object(Bucket=bucket, Key="raw/a.fits", Body=b"first")["VersionId"]
    client.put_object(Bucket=bucket, Key="raw/a.fits", Body=b"second")
    for version, body in ((f"?versionId={first}", b"first"), ("", b"second")):
        source = source_of(f"s3://{bucket}/raw/a.fits{version}", context.settings)
        with source.on_disk(context.store.scratch) as path:
            assert (path.name, path.read_bytes()) == ("a.fits", body)
        assert not path.exists()
        assert source.may_exist()
    client.delete_object(Bucket=bucket, Key="raw/a.fits")
    assert not source.may_exist()


def test_a_public_bucket_is_read_without_credentials(ceph: Ceph, bucket: str, context: StageContext) -> None:
    # Given an object that anybody may read
    ceph.client().put_object(Bucket=bucket, Key="raw/a.fits", Body=b"public", ACL="public-read")
    ceph.client().put_object(Bucket=bucket, Key="raw/b.fits", Body=b"private")
    # When exposures are reached without credentials, and the store with them
    public = SourceS3Settings(endpoint=ceph.endpoint, anonymous=True, attempts=1)
    settings = context.settings.model_copy(update={"source_s3": public})
    # Then the one is read, and of the other nobody can say that it is not there
    with source_of(f"s3://{bucket}/raw/a.fits", settings).on_disk(context.store.scratch) as path:
        assert path.read_bytes() == b"public"
    assert source_of(f"s3://{bucket}/raw/b.fits", settings).may_exist()
