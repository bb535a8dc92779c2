"""The commands of operators against a real bucket: what is listed, announced, and seen there."""

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from nircam_darks.cli.main import app
from nircam_darks.operations.backfill import Pace, backfill
from nircam_darks.operations.backfill_sources import open_source
from nircam_darks.operations.reconcile import gaps
from nircam_darks.operations.status import ask_status
from shared.broker.memory import MemoryBroker
from shared.catalog.store_contents import read_stored
from shared.contracts.messages import Envelope, parse
from shared.contracts.s3_events import announcements
from shared.settings.stage import S3Settings, SourceS3Settings, StageSettings
from shared.store import s3_client as s3_fetch
from shared.store.opening import open_store
from shared.store.s3_client import list_objects
from support.arrivals import Exposure, Ingest
from support.ceph_server import Ceph

pytestmark = pytest.mark.xdist_group("ceph")


@pytest.fixture
def bucket(ceph: Ceph) -> str:
    return ceph.new_bucket()


@pytest.fixture
def settings(ceph: Ceph, bucket: str, tmp_path: Path) -> StageSettings:
    return StageSettings(
        store=f"s3://{bucket}/products",
        scratch=tmp_path / "scratch",
        s3=S3Settings(endpoint=ceph.endpoint),
        allowed_sources=[f"s3://{bucket}/raw/"],
    )


@pytest.fixture
def bench(settings: StageSettings):
    store = open_store(settings)
    yield Ingest(store, settings)
    store.close()


def put(ceph: Ceph, bucket: str, *keys: str) -> list[dict[str, Any]]:
    return [ceph.client().put_object(Bucket=bucket, Key=key, Body=key.encode()) for key in keys]


def heard(broker: MemoryBroker) -> list[Envelope]:
    consumer = broker.consume("ingest", prefetch=5000)
    results = []
    while delivery := consumer.poll(0.01):
        results.append(parse(delivery.body))
        consumer.ack(delivery)
    return results


def test_a_prefix_is_listed_over_all_its_pages(
    ceph: Ceph, bucket: str, settings: StageSettings, monkeypatch
) -> None:
    # Given five objects of which two fill a page, a folder's place, and a neighbour
    keys = [f"raw/{name}" for name in ("a b+c.fits", "a.fits", "later/b.fits", "later/c.fits", "z.fits")]
    put(ceph, bucket, *keys, "raw/later/", "raw-old/x.fits")
    real, pages = s3_fetch.make_client, []

    def small_pages(access: Any) -> Any:
        client = real(access)

        def smaller(params: dict[str, Any], **_: Any) -> None:
            params["MaxKeys"] = 2
            pages.append(dict(params))

        client.meta.events.register("provide-client-params.s3.ListObjectVersions", smaller)
        return client

    monkeypatch.setattr(s3_fetch, "make_client", small_pages)
    # When
    result = list(list_objects(settings.s3, bucket, "raw/"))
    # Then
    assert [each.key for each in result] == sorted(keys)
    assert [entry.size for entry in result] == [len(key) for key in sorted(keys)]
    assert {one.version for one in result} == {None}
    assert len(pages) >= 3
    assert [one.key for one in list_objects(settings.s3, bucket, "raw/", "raw/later/b.fits")] == [
        "raw/later/c.fits",
        "raw/z.fits",
    ]


def test_of_a_versioned_object_the_newest_is_listed_and_a_deleted_one_is_not(
    ceph: Ceph, bucket: str, settings: StageSettings
) -> None:
    client = ceph.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    put(ceph, bucket, "raw/a.fits", "raw/gone.fits")
    [newest] = put(ceph, bucket, "raw/a.fits")
    client.delete_object(Bucket=bucket, Key="raw/gone.fits")
    [result] = list_objects(settings.s3, bucket, "raw/")
    assert (result.key, result.version) == ("raw/a.fits", newest["VersionId"])
    assert f'"{result.etag}"' == newest["ETag"]


def test_a_bucket_whose_versions_may_not_be_listed_is_listed_without(
    ceph: Ceph, bucket: str, settings: StageSettings
) -> None:
    # Given a public bucket, of which a stranger may list the objects but not the versions
    put(ceph, bucket, "raw/a.fits", "raw/b.fits")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": "*",
                "Action": "s3:ListBucket",
                "Resource": f"arn:aws:s3:::{bucket}",
            }
        ],
    }
    ceph.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    stranger = SourceS3Settings(endpoint=ceph.endpoint, anonymous=True, attempts=1)
    with pytest.raises(ClientError):
        s3_fetch.make_client(stranger).list_object_versions(Bucket=bucket)
    assert [each.key for each in list_objects(stranger, bucket, "raw/")] == ["raw/a.fits", "raw/b.fits"]
    assert [entry.key for entry in list_objects(stranger, bucket, "raw/", "raw/a.fits")] == ["raw/b.fits"]


def test_a_prefix_is_announced_as_the_buckets_own_events_would_and_goes_on_after_a_stop(
    ceph: Ceph, bucket: str, settings: StageSettings, bench: Ingest
) -> None:
    # Given 30 exposures in a bucket, of which one was ingested
    keys = [f"raw/e{n:02d}_uncal.fits" for n in range(30)]
    put(ceph, bucket, *keys, "raw/e00_rate.fits", "raw-old/e99_uncal.fits")
    bench.ramp(Exposure("e07"))
    # When a backfill is stopped under way and begun again
    broker = MemoryBroker()
    source = open_source(f"s3://{bucket}/raw/", None, None, settings)
    saying = backfill(source, bench.store, broker, settings, Pace())
    for _ in range(17):
        next(saying)
    saying.close()
    for _ in backfill(source, bench.store, broker, settings, Pace()):
        pass
    # Then every other one was announced once
    messages = heard(broker)
    assert [m.content.uri for m in messages] == [
        f"s3://{bucket}/{key}" for key in keys if key != "raw/e07_uncal.fits"
    ]
    assert {m.content.size for m in messages} == {len(keys[0])}
    # Under the id of the bucket's own event, so that the two are one
    etag = ceph.client().head_object(Bucket=bucket, Key=keys[3])["ETag"].strip('"')
    record = {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": keys[3], "size": 1, "eTag": etag}},
    }
    [event] = announcements(json.dumps({"Records": [record]}).encode(), "*")
    assert messages[3].id == event.id
    assert messages[3].content.exposure_id == event.content.exposure_id


def test_status_and_reconcile_read_a_bucket(bench: Ingest) -> None:
    # Given a set in a bucket of which no reference was made
    bench.arrive(Exposure("a", count=2))
    [ready] = bench.arrive(Exposure("b"))
    bench.build(ready, "set-noise")
    for name in "ab":
        bench.noise(Exposure(name))
        bench.redate(bench.ramp(Exposure(name)).path, 700)
    # Then both say so
    result = ask_status(lambda: [], lambda: open_store(bench.settings), bench.settings)
    [the_set] = result.store.configurations[0].sets
    assert (the_set.set_id, the_set.complete, the_set.reference) == (ready.set_id, True, None)
    [gap] = gaps(read_stored(bench.store), bench.settings, 600, result.time)
    assert gap.missing == f"dark reference of set {ready.set_id}"
    assert bench.answer(gap.message) == [ready]


def test_the_command_says_in_one_line_that_a_bucket_or_its_server_is_not_there(
    ceph: Ceph, bucket: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("DARKS_STORE", "s3://no-such-bucket-here")
    monkeypatch.setenv("DARKS_S3_ENDPOINT", ceph.endpoint)
    monkeypatch.setenv("DARKS_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("DARKS_BROKER_URL", "amqp://127.0.0.1:1/darks")
    for endpoint, words in ((ceph.endpoint, "no such bucket"), ("http://127.0.0.1:1", "did not answer")):
        monkeypatch.setenv("DARKS_S3_ENDPOINT", endpoint)
        result = CliRunner().invoke(app, ["status", "--json"])
        assert result.exit_code == 3, result.output
        document = json.loads(result.stdout)
        assert words in document["store_problem"]
        assert document["broker_problem"]
