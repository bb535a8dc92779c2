"""`nircam-darks watch-mast` with buckets: of the archive, and of the services."""

import hashlib

import pytest

from shared.settings.stage import StageSettings
from shared.store.sources import source_of
from support.ceph_server import Ceph
from support.mast_watching import WATCH, exposure, run

pytestmark = pytest.mark.usefixtures("mast_environment")


@pytest.mark.xdist_group("ceph")
def test_a_file_in_the_public_bucket_is_announced_there_and_ingest_can_read_it(
    archive, heard, monkeypatch, capsys, ceph: Ceph, tmp_path
):
    # Given a public bucket that has one of two files, and another in an older size
    bucket, client = ceph.new_bucket(), ceph.client()
    client.put_bucket_acl(Bucket=bucket, ACL="public-read")
    listed = exposure(1, day=2, detectors=("nrca1", "nrca2", "nrca3"))
    archive.exposures = [listed]
    folder = "jwst/public/jw01062/jw01062001001"
    key = f"{folder}/{listed.name}_nrca1_uncal.fits"
    for name, content in ((key, listed.files["nrca1"]), (key.replace("nrca1", "nrca3"), b"older")):
        client.put_object(Bucket=bucket, Key=name, Body=content, ACL="public-read")
    # And no credentials
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("DARKS_MAST_PUBLIC_BUCKET", f"s3://{bucket}/jwst/public")
    monkeypatch.setenv("DARKS_SOURCE_S3_ENDPOINT", ceph.endpoint)
    monkeypatch.setenv("DARKS_SOURCE_S3_ANONYMOUS", "true")
    # When the archive is watched
    assert run(monkeypatch, *WATCH) == 0
    # Then it is announced there, and the others after a download
    output = [message.content for message in heard]
    assert output[0].uri == f"s3://{bucket}/{key}"
    assert output[0].size == len(listed.files["nrca1"])
    assert [each.uri.startswith("file://") for each in output] == [False, True, True]
    downloaded = [body["product"] for path, body in archive.asked if path == "retrieve_product"]
    assert [name.split("_")[-2] for name in downloaded] == ["nrca2", "nrca3"]
    # And ingest reads it
    settings = StageSettings(allowed_sources=[f"s3://{bucket}/jwst/public/"])
    with source_of(output[0].uri, settings).on_disk(lambda: tmp_path) as path:
        assert path.read_bytes() == listed.files["nrca1"]


@pytest.mark.xdist_group("ceph")
def test_files_and_state_go_to_the_bucket_of_the_services(archive, heard, monkeypatch, ceph: Ceph, tmp_path):
    bucket = ceph.new_bucket()
    monkeypatch.setenv("DARKS_STORE", f"s3://{bucket}/products")
    monkeypatch.setenv("DARKS_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("DARKS_S3_ENDPOINT", ceph.endpoint)
    monkeypatch.delenv("DARKS_MAST_PUBLIC_BUCKET")
    archive.exposures = [exposure(1, day=2, detectors=("nrca1",))]
    # When it is run twice, where the server has no such public bucket
    assert run(monkeypatch, *WATCH) == 0
    assert run(monkeypatch, *WATCH) == 0
    # Then the file lies in the store, announced once, and ingest reads it there
    (output,) = [message.content for message in heard]
    assert output.uri.startswith(f"s3://{bucket}/products/mast/files/jw01062/")
    settings = StageSettings(allowed_sources=[f"s3://{bucket}/products/mast/files/"])
    with source_of(output.uri, settings).on_disk(lambda: tmp_path) as path:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == output.sha256
    # And may go to another bucket
    other = ceph.new_bucket()
    archive.exposures += [exposure(2, day=3, detectors=("nrca1",))]
    assert run(monkeypatch, *WATCH, "--download-to", f"s3://{other}/darks/") == 0
    assert heard[1].content.uri.startswith(f"s3://{other}/darks/jw01062/")
    assert list(ceph.client().list_objects_v2(Bucket=other)["Contents"])


@pytest.mark.xdist_group("ceph")
def test_no_file_goes_where_the_services_would_not_find_it(
    archive, heard, monkeypatch, capsys, ceph: Ceph, tmp_path
):
    monkeypatch.setenv("DARKS_STORE", f"s3://{ceph.new_bucket()}")
    monkeypatch.setenv("DARKS_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("DARKS_S3_ENDPOINT", ceph.endpoint)
    monkeypatch.setenv("DARKS_SOURCE_S3_ANONYMOUS", "true")
    archive.exposures = [exposure(1, day=2, detectors=("nrca1",))]
    assert run(monkeypatch, *WATCH) == 2
    assert "--download-to" in capsys.readouterr().err
    assert heard == []
    assert run(monkeypatch, *WATCH, "--download-to", tmp_path / "darks") == 0
    assert len(heard) == 1
