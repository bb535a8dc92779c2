"""S3 event notifications: every server's form becomes the same announcement."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.messages import Envelope, ExposureAnnounced, parse
from shared.contracts.s3_events import announcements
from shared.errors import BadMessage
from shared.nircam.exposure_id import is_fits_name
from shared.settings.stage import StageSettings
from shared.store.sources import source_of
from support.paths import NOTIFICATIONS

EXPOSURE = "jw01062001001_02101_00001_nrcalong"


def form(name: str) -> bytes:
    return (NOTIFICATIONS / f"{name}.json").read_bytes()


def changed(key: object = "a_nrca1_uncal.fits", bucket: object = "darks", **record: Any) -> bytes:
    raw = json.loads(form("minio"))
    [only] = raw["Records"]
    only["s3"]["object"]["key"] = key
    only["s3"]["bucket"]["name"] = bucket
    only.update(record)
    return json.dumps(raw).encode()


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        (
            "aws",
            f"s3://stpubdata/jwst/public/jw01062/L1b%20a%26b/{EXPOSURE}_uncal.fits"
            "?versionId=3sL4kqtJlcpXroDTDmJ%2BrmSpXd3dIbrHY",
        ),
        ("minio", f"s3://darks/1062/{EXPOSURE}_uncal.fits"),
        ("ceph", f"s3://darks/1062/a%2Bb%20100%25/{EXPOSURE}_uncal.fits"),
    ],
)
def test_each_server_s_form_is_read(name: str, uri: str) -> None:
    # Given a notification as that server sends it (AWS's also tells of a picture and a removed file)
    # When it is read
    result = announcements(form(name), "*.fits")
    # Then it announces the one exposure that is new
    assert result is not None
    [message] = result
    assert message.schema_name == "exposure.announced"
    assert message.content == ExposureAnnounced(
        exposure_id=EXPOSURE, uri=uri, size=409685760, etag=ETAGS[name]
    )
    assert message.time.replace(microsecond=0) == datetime(2022, 5, 1, 12, tzinfo=UTC)
    assert parse(message.encode()) == message


ETAGS = {
    "aws": "d41d8cd98f00b204e9800998ecf8427e-49",
    "minio": "b7ce786cd89b182bfd5ae765557bbc37",
    "ceph": "37b51d194a7513e45b56f6524f2d51f2",
}


@pytest.mark.parametrize("name", ["aws", "minio"])
def test_what_is_announced_is_an_address_that_ingest_takes(name: str, tmp_path: Path) -> None:
    allowed = ["s3://darks/1062/", "s3://stpubdata/jwst/public/"]
    settings = StageSettings(store=tmp_path, allowed_sources=allowed)
    [message] = announcements(form(name), "*.fits")
    assert source_of(message.content.uri, settings).uri == message.content.uri


def test_the_same_version_is_the_same_message_and_another_version_another() -> None:
    first, again = (announcements(form("aws"), "*.fits") for _ in range(2))
    assert first == again
    rewritten = form("aws").replace(b"3sL4kqtJ", b"other000")
    overwritten = form("minio").replace(b"b7ce786c", b"00000000")
    assert announcements(rewritten, "*.fits")[0].id != first[0].id
    assert announcements(overwritten, "*.fits")[0].id != announcements(form("minio"), "*.fits")[0].id


def test_size_0_and_a_null_etag_are_not_given() -> None:
    # Given an event that was sent before the server knew size and ETag of its object
    [message] = announcements(form("rustfs"), "*.fits")
    # Then neither is announced, so that ingest does not compare the file with them
    assert message.content == ExposureAnnounced(
        exposure_id=EXPOSURE, uri=f"s3://darks/1062/{EXPOSURE}_uncal.fits", size=None
    )


def test_without_an_etag_the_same_event_is_the_same_message_and_a_later_one_another() -> None:
    raw = json.loads(form("rustfs"))
    [record] = raw["Records"]
    ids = []
    for changes in ({}, {}, {"sequencer": "159FB6B233B08AF1"}, {"sequencer": None}):
        record["s3"]["object"] |= changes
        ids.append(announcements(json.dumps(raw).encode(), "*")[0].id)
    record["eventTime"] = "2022-05-01T12:00:09.123Z"
    ids.append(announcements(json.dumps(raw).encode(), "*")[0].id)
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


def test_an_object_told_of_twice_in_one_body_is_announced_once() -> None:
    raw = json.loads(form("minio"))
    raw["Records"] *= 3
    assert len(announcements(json.dumps(raw).encode(), "*.fits")) == 1


@pytest.mark.parametrize(
    ("body", "pattern"),
    [
        (form("aws-test-event"), "*"),
        (form("aws"), "*_nrca1_*.fits"),
        (form("minio"), "*.FITS"),
        (changed(eventName="s3:ObjectRemoved:Delete"), "*"),
        (changed(eventName="s3:ObjectAccessed:Get"), "*"),
        (changed(key="a/folder/"), "*"),
        (b'{"Records": []}', "*"),
    ],
)
def test_what_is_no_new_exposure_announces_nothing(body: bytes, pattern: str) -> None:
    assert announcements(body, pattern) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"Event": "other"}',
        # Its id is of the moment, and pytest-xdist wants the same names in every process.
        pytest.param(
            Envelope.of(ExposureAnnounced(exposure_id="e", uri="u"), "e").encode(), id="announcement"
        ),
    ],
)
def test_what_is_no_notification_is_left_to_others(body: bytes) -> None:
    assert announcements(body, "*") is None


@pytest.mark.parametrize(
    ("body", "keyword"),
    [
        (b'{"Records": "x"}', "Records"),
        (b'{"Records": [{"eventName": "ObjectCreated:Put"}]}', "Records.0.s3"),
        (changed(key=7), "key"),
        (changed(key="../../etc/passwd.fits"), "key"),
        (changed(key="a//b.fits"), "key"),
        (changed(key="%2Fetc%2Fpasswd.fits"), "key"),
        (changed(key="a%00.fits"), "key"),
        (changed(bucket="host/../x"), "key"),
        (changed(bucket="darks/other"), "bucket"),
        (changed(bucket="user@host"), "key"),
        (changed(bucket=""), "key"),
    ],
)
def test_what_only_looks_like_one_is_refused_in_one_line(body: bytes, keyword: str) -> None:
    with pytest.raises(BadMessage) as caught:
        announcements(body, "*")
    assert caught.value.keyword.endswith(keyword)
    assert "\n" not in str(caught.value)


@given(name=st.text(min_size=1).filter(lambda s: s not in {".", ".."} and not set(s) & set("/\\\0")))
def test_any_key_comes_through_encoding(name: str) -> None:
    # Given a key that AWS or MinIO encoded, whatever characters are in it
    key = f"folder/{name}"
    try:
        body = changed(key=quote_plus(key))
    except UnicodeEncodeError:  # a lone surrogate is in no key
        return
    # When it is announced
    [message] = announcements(body, "*")
    # Then its address leads to that very key, and to nothing else
    parts = urlsplit(message.content.uri)
    assert (parts.scheme, parts.netloc, unquote(parts.path)) == ("s3", "darks", f"/{key}")
    assert not parts.query
    assert not parts.fragment


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("x_uncal.fits", True),
        ("X_UNCAL.FITS", True),
        ("x_uncal.fits.gz", True),
        ("x_uncal.fits.fz", True),
        ("x.fit", True),
        ("x_uncal.jpg", False),
        ("._x_uncal.fits", False),
        ("x_uncal.fits.part", False),
    ],
)
def test_without_a_pattern_objects_are_announced_by_the_names_that_run_takes(
    name: str, taken: bool, tmp_path: Path
) -> None:
    # Given an event of a new object
    raw = json.loads(form("minio"))
    raw["Records"][0]["s3"]["object"]["key"] = f"1062/{name}"
    # When it is read with the default of the services
    announced = announcements(json.dumps(raw).encode())
    # Then it is announced if `run` would take a file of that name from a folder
    assert bool(announced) is taken
    assert is_fits_name(name) or not taken
