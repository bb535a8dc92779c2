"""The store in a bucket while the server, the line or another writer misbehaves."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError, ResponseStreamingError
from botocore.response import StreamingBody
from pydantic import BaseModel

from shared.errors import StoreUnavailable
from shared.store.manifest import MANIFEST, Draft, find
from shared.store.s3 import S3Store
from support.ceph_server import Ceph

pytestmark = pytest.mark.xdist_group("ceph")

MIB = 1 << 20

RACER = """
import sys
from pathlib import Path
from shared.settings.stage import S3Settings
from shared.store.s3 import S3Store
store = S3Store(sys.argv[1], S3Settings(endpoint=sys.argv[2]), Path(sys.argv[3]))
store.client
print("ready", flush=True)
sys.stdin.readline()
won = [n for n in range(25) if store.put_if_absent(f"race/{n}", sys.argv[4].encode())]
print(" ".join(map(str, won)), flush=True)
"""


@pytest.fixture
def bucket(ceph: Ceph) -> str:
    return ceph.new_bucket()


@pytest.fixture
def store(ceph: Ceph, bucket: str, tmp_path: Path) -> Iterator[S3Store]:
    store = ceph.store(bucket, tmp_path / "scratch", part_size=5 * MIB, attempts=2)
    yield store
    store.close()


def on(store: S3Store, event: str, hook: Callable[..., Any]) -> None:
    store.client.meta.events.register(event, hook)


def ignore_the_condition(store: S3Store) -> None:
    """Make the server one that does not know If-None-Match."""

    def forget(params: dict[str, Any], **_: Any) -> None:
        params["headers"].pop("If-None-Match", None)

    on(store, "before-call.s3.PutObject", forget)


def lose_the_first_answer(store: S3Store, operation: str) -> list[str]:
    """Let the server do what it is asked, but cut the line before its answer; return what was sent."""
    sent: list[str] = []

    def send(request: Any, **_: Any) -> None:
        sent.append(request.method)
        if len(sent) == 1:
            store.client._endpoint.http_session.send(request)
            raise ConnectionClosedError(endpoint_url=request.url)

    on(store, f"before-send.s3.{operation}", send)
    return sent


def damage(store: S3Store, operation: str, times: int) -> list[str]:
    """Change a byte of the first bodies on their way; return what was sent."""
    sent: list[str] = []

    def send(request: Any, **_: Any) -> None:
        sent.append(request.method)
        if len(sent) <= times:
            request.body = b"?" + request.body.read()[1:]

    on(store, f"before-send.s3.{operation}", send)
    return sent


def test_of_many_processes_one_wins_each_key(ceph: Ceph, bucket: str, tmp_path: Path) -> None:
    # Given processes that all put the same keys
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, f"s3://{bucket}", ceph.endpoint, str(tmp_path), f"racer {n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    # When they start together
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    claims = {f"racer {n}": racer.communicate(timeout=120)[0].split() for n, racer in enumerate(racers)}
    # Then each key has one winner, whose bytes stand
    assert sorted((key for keys in claims.values() for key in keys), key=int) == [str(n) for n in range(25)]
    store = ceph.store(bucket, tmp_path)
    for name, keys in claims.items():
        for key in keys:
            assert store.get(f"race/{key}") == name.encode()


class Results(BaseModel):
    writer: int


def test_where_the_condition_is_ignored_one_valid_manifest_still_stands(store: S3Store) -> None:
    ignore_the_condition(store)
    path = "darkref/c/s/" + "0" * 32

    def make(writer: int) -> None:
        draft = Draft(store, "reference", path, [], {}, {})
        draft.add("dark.fits", f"made by {writer}".encode() * 1000)
        draft.commit(Results(writer=writer))

    # Given a server that knows no If-None-Match, When many commit the same product at once
    with ThreadPoolExecutor(6) as writers:
        list(writers.map(make, range(6)))
    # Then one manifest stands, and names what its own writer wrote
    standing = find(store, path)
    assert standing is not None
    body = store.get(standing.object("dark.fits").key)
    assert hashlib.sha256(body).hexdigest() == standing.object("dark.fits").sha256
    assert body.startswith(f"made by {standing.results['writer']}m".encode())
    # And who comes later does not replace it
    make(99)
    assert find(store, path) == standing
    assert store.put_if_absent(f"{path}/{MANIFEST}", b"{}") is False


class _NotImplemented:
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield b"<Error><Code>NotImplemented</Code><Message>A header</Message></Error>"


def test_where_the_condition_is_not_implemented_it_is_left_out(store: S3Store) -> None:
    # Given a server that refuses the header, as some do
    def refuse(request: Any, **_: Any) -> Any:
        if "If-None-Match" not in request.headers:
            return None
        return AWSResponse(request.url, 501, {}, _NotImplemented())

    on(store, "before-send.s3.PutObject", refuse)
    assert store.put_if_absent("m", b"first") is True
    assert store.put_if_absent("m", b"second") is False
    assert store.get("m") == b"first"


def test_a_put_whose_answer_was_lost_is_known_as_ours(store: S3Store) -> None:
    sent = lose_the_first_answer(store, "PutObject")
    assert store.put_if_absent("m", b"ours") is True
    assert len(sent) == 2
    assert store.put_if_absent("m", b"another's") is False


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_a_large_file_is_whole_also_where_an_answer_was_lost(store: S3Store, operation: str) -> None:
    data = os.urandom(6 * MIB)
    file = store.scratch() / "f"
    file.write_bytes(data)
    sent = lose_the_first_answer(store, operation)
    store.put_file("a", file)
    assert len(sent) >= 2
    assert store.get("a") == data


def test_a_body_damaged_on_its_way_is_sent_again(store: S3Store, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(os.urandom(6 * MIB))
    parts, puts = damage(store, "UploadPart", 1), damage(store, "PutObject", 1)
    store.put("small", b"whole")
    store.put_file("large", file)
    assert (len(puts), len(parts)) == (2, 3)
    assert store.get("small") == b"whole"
    assert store.get("large") == file.read_bytes()


def test_a_line_that_damages_everything_leaves_nothing_behind(
    ceph: Ceph, bucket: str, store: S3Store, tmp_path: Path
) -> None:
    file = tmp_path / "f"
    file.write_bytes(os.urandom(6 * MIB))
    damage(store, "UploadPart", 99)
    damage(store, "PutObject", 99)
    for put in (
        lambda: store.put("a", b"whole"),
        lambda: store.put_file("a", file),
        lambda: store.put_if_absent("a", b"whole"),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            put()
        assert caught.value.where.startswith(f"s3://{bucket}/a on ")
        assert caught.value.__cause__.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert "\n" not in str(caught.value)
    assert list(store.list("")) == []
    assert "Uploads" not in ceph.client().list_multipart_uploads(Bucket=bucket)


def test_an_answer_that_breaks_off_is_read_again(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given answers the first of which break off
    data = os.urandom(MIB)
    store.put("a", data)
    whole = StreamingBody.read
    breaks = 0

    def read(self: StreamingBody, amt: int | None = None) -> bytes:
        nonlocal breaks
        breaks -= 1
        if breaks >= 0:
            raise ResponseStreamingError(error="connection broken")
        return whole(self, amt)

    monkeypatch.setattr(StreamingBody, "read", read)
    # When one does, Then it is asked for again
    breaks = 1
    assert store.get("a") == data
    with store.open("a") as reader:
        breaks = 1
        assert reader.read(100_000, 500_000) == data[100_000:600_000]
        # And where all do, that is told
        breaks = 99
        with pytest.raises(StoreUnavailable):
            reader.read(100_000, 500_000)


def test_a_server_that_does_not_answer_is_a_matter_of_time(ceph: Ceph, tmp_path: Path) -> None:
    store = ceph.store("any", tmp_path, attempts=2)
    store.settings.endpoint = "http://127.0.0.1:9"
    for call in (
        lambda: store.put("a", b"x"),
        lambda: store.get("a"),
        lambda: store.open("a"),
        lambda: list(store.list("")),
        lambda: store.put_if_absent("a", b"x"),
        lambda: store.delete("a"),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            call()
        assert caught.value.where.startswith("s3://any/")
        assert caught.value.where.endswith(" on http://127.0.0.1:9")
        assert "\n" not in str(caught.value)


def test_a_killed_server_loses_nothing_it_acknowledged(ceph: Ceph, store: S3Store, tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}
    refused: list[str] = []
    stop = threading.Event()

    def write(writer: int) -> None:
        n = 0
        while not stop.is_set():
            key, body = f"w{writer}/{n}", os.urandom(7 * MIB if writer == 0 else 200_000)
            file = store.scratch() / f"{writer}-{n}"
            file.write_bytes(body)
            n += 1
            try:
                digest = (store.put_file(key, file) if n % 2 else store.put(key, body)).sha256
            except StoreUnavailable as error:
                refused.append(str(error))
                continue
            acknowledged[key] = digest

    # Given writers at work, When the server is killed in their midst and comes back
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(write, n) for n in range(3)]
        try:
            for _ in range(2):
                before = len(acknowledged)
                while len(acknowledged) < before + 6:
                    time.sleep(0.02)
                failures = len(refused)
                ceph.kill_gateway()
                while len(refused) == failures:
                    time.sleep(0.02)
                ceph.start_gateway()
            before = len(acknowledged)
            while len(acknowledged) < before + 6:
                time.sleep(0.02)
        finally:
            stop.set()
        for each in running:
            each.result()
    # Then what was acknowledged is whole, and so is what is visible
    listed = set(store.list(""))
    assert set(acknowledged) <= listed
    for key in listed:
        body = store.get(key)
        assert hashlib.sha256(body).hexdigest() == acknowledged.get(key, hashlib.sha256(body).hexdigest())
        assert len(body) in {200_000, 7 * MIB}
    assert all("did not answer" in said or "S3 answered 5" in said for said in refused)
