"""Alive, ready, and what is served over HTTP."""

import contextlib
import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.errors import EnvironmentFault, StoreUnavailable
from shared.runtime.health import MOST_CONNECTIONS, Health, HealthServer
from shared.runtime.metrics import Metrics
from shared.runtime.store_monitor import StoreMonitor
from shared.store.base import Store
from shared.store.local import LocalStore


@dataclass
class FakeWorker:
    last_tick: float
    attached: bool = True


class Bench:
    def __init__(self) -> None:
        self.worker = FakeWorker(time.monotonic())
        self.store_problem: str | None = None
        health = Health(self.worker, lambda: self.store_problem, live_seconds=60.0)
        self.server = HealthServer("127.0.0.1", 0, health, Metrics("ingest").registry)

    def get(self, path: str, method: str = "GET", accept: str = "*/*") -> tuple[int, bytes, str]:
        address = f"http://127.0.0.1:{self.server.port}{path}"
        request = urllib.request.Request(address, method=method, headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read(), answer.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers["Content-Type"]

    def problems(self, path: str) -> tuple[int, list[str]]:
        status, body, _ = self.get(path)
        document = json.loads(body)
        assert document["ok"] == (status == 200)
        return status, document["problems"]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    with bench.server:
        yield bench


def test_a_service_at_work_is_alive_and_ready(bench: Bench) -> None:
    assert bench.problems("/live") == (200, [])
    assert bench.problems("/ready?verbose=1") == (200, [])


def test_one_whose_loop_stands_still_is_neither(bench: Bench) -> None:
    bench.worker.last_tick -= 61
    status, [problem] = bench.problems("/live")
    assert (status, problem) == (503, "the I/O loop has not ticked for 61 s; 60 s are allowed")
    assert bench.problems("/ready")[0] == 503


def test_without_a_consumer_it_is_alive_but_not_ready(bench: Bench) -> None:
    bench.worker.attached = False
    assert bench.problems("/live") == (200, [])
    assert bench.problems("/ready") == (503, ["no consumer is attached to the queue"])


def test_without_its_store_it_is_alive_but_not_ready(bench: Bench) -> None:
    bench.store_problem = "s3://darks does not answer"
    assert bench.problems("/live") == (200, [])
    assert bench.problems("/ready") == (503, ["s3://darks does not answer"])


def test_metrics_are_served_in_the_form_that_is_asked_for(bench: Bench) -> None:
    status, body, kind = bench.get("/metrics")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    assert b'darks_jobs_in_progress{service="ingest"} 0.0' in body
    _, body, kind = bench.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_anything_else_is_not_found_and_head_has_no_body(bench: Bench) -> None:
    assert bench.get("/")[0] == 404
    assert bench.get("/../etc/passwd")[0] == 404
    status, body, _ = bench.get("/live", method="HEAD")
    assert (status, body) == (200, b"")


def test_many_may_ask_at_once_and_one_who_says_nothing_holds_up_nobody(bench: Bench) -> None:
    with socket.create_connection(("127.0.0.1", bench.server.port)):
        results: list[int] = []
        threads = [
            threading.Thread(target=lambda: results.append(bench.get("/metrics")[0])) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert results == [200] * 8


def test_connections_and_their_time_are_bounded_and_rude_ends_are_quiet(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shared.runtime.health.REQUEST_SECONDS", 1.5)
    address = ("127.0.0.1", bench.server.port)
    before = threading.active_count()
    # Given clients without end, each of whom sends a letter now and then
    slow = []
    for _ in range(4 * MOST_CONNECTIONS):
        client = socket.create_connection(address)
        client.sendall(b"G")
        slow.append(client)
    time.sleep(0.3)
    # Then threads are bounded: one a connection, and its clock
    assert threading.active_count() <= before + 2 * MOST_CONNECTIONS
    # And once their time is over, an honest request is served, though they go on
    deadline = time.monotonic() + 10
    while True:
        for client in slow:
            with contextlib.suppress(OSError):
                client.sendall(b"E")
        try:
            assert bench.problems("/live") == (200, [])
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    for client in slow:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    time.sleep(0.2)
    assert capfd.readouterr().err == ""


def test_a_port_that_is_taken_is_named(bench: Bench) -> None:
    health = Health(bench.worker, lambda: None, 60.0)
    with pytest.raises(EnvironmentFault) as caught:
        HealthServer("127.0.0.1", bench.server.port, health, Metrics("ingest").registry)
    assert caught.value.where == f"127.0.0.1:{bench.server.port}"
    assert caught.value.setting == "DARKS_HTTP_PORT"
    assert "\n" not in str(caught.value)


class Moody(LocalStore):
    """A store that does as it is told."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.mood: Callable[[], None] = lambda: None

    def get(self, key: str) -> bytes:
        self.mood()
        return super().get(key)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_watch_says_when_the_store_is_away_and_when_it_is_back(tmp_path: Path) -> None:
    def away() -> None:
        raise StoreUnavailable("the store\ndoes not answer")

    def strange() -> None:
        raise RuntimeError("a bug")

    store = Moody(tmp_path)
    watch = StoreMonitor(store, every=0.01)
    assert watch.problem == "the store has not been checked yet"
    with watch:
        until(lambda: watch.problem is None)
        store.mood = away
        until(lambda: watch.problem == "the store does not answer")
        store.mood = strange
        until(lambda: "see the log" in str(watch.problem))
        store.mood = lambda: None
        until(lambda: watch.problem is None)


def test_a_store_that_hangs_is_noticed_by_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        go_on.wait(60)

    store = Moody(tmp_path)
    with StoreMonitor(store, every=0.01) as watch:
        until(lambda: watch.problem is None)
        store.mood = hang
        assert hanging.wait(20)
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 100)
        assert "has not answered for 100 s" in str(watch.problem)
        monkeypatch.undo()
        go_on.set()


def test_a_chore_is_done_while_the_store_answers_and_its_failure_is_not_the_store_s(tmp_path: Path) -> None:
    calls: list[Store] = []

    def chore(store: Store) -> None:
        calls.append(store)
        raise ValueError("a manifest that cannot be read")

    store = Moody(tmp_path)
    with StoreMonitor(store, every=0.01, chore=chore, chore_every=0.02) as watch:
        until(lambda: len(calls) >= 3)
        assert watch.problem is None
    assert calls[0] is store


def test_a_chore_that_takes_long_does_not_keep_the_store_from_being_asked(tmp_path: Path) -> None:
    # Given a survey that does not end
    asked, go_on = [], threading.Event()
    store = Moody(tmp_path)
    store.mood = lambda: asked.append(1)
    watch = StoreMonitor(store, every=0.01, chore=lambda _: go_on.wait(60), chore_every=0.02)
    with watch:
        until(lambda: any(thread.name == "store-chore" for thread in threading.enumerate()))
        # Then the store is asked all the same
        before = len(asked)
        until(lambda: len(asked) > before + 3)
        assert watch.problem is None
        go_on.set()
