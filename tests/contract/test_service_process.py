"""A whole service over a broker: what it consumes, says, counts, and how it ends."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.broker.memory import MemoryBroker
from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.topology import apply
from shared.contracts.messages import Envelope, ExposureAnnounced, parse
from shared.errors import StoreUnavailable
from shared.runtime.metric_names import METRICS
from shared.runtime.service import ExitCode, serve
from shared.settings.service import ServiceSettings
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from support.handlers import HANDLERS, announcement, attempts, computations, released
from support.paths import NOTIFICATIONS
from support.rabbitmq_node import RabbitNode
from support.service_process import LONG, TESTED, AsProcess, Scrape, get, until


class InThread:
    """`serve` with a broker of the test's choice and the small handler of the tests."""

    def __init__(self, broker: Any, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.port = 0
        self.stop = threading.Event()
        self.settings = ServiceSettings(http_host="127.0.0.1", http_port=0, retry_delays=[0.02], **settings)
        self.stage = StageSettings(store=folder / "store")
        self.thread = threading.Thread(target=self._serve, args=(broker,))

    def _serve(self, broker: Any) -> None:
        def listening(port: int) -> None:
            self.port = port

        serve("ingest", HANDLERS["ingest"], self.settings, self.stage, broker, self.stop, listening)

    @contextmanager
    def running(self) -> Iterator[None]:
        self.thread.start()
        try:
            until(lambda: self.port)
            yield
        finally:
            self.stop.set()
            self.thread.join(LONG)
            assert not self.thread.is_alive()

    @property
    def scrape(self) -> Scrape:
        return Scrape(self.port)


def drained(broker: Any, queue: str) -> list[Envelope]:
    consumer = broker.consume(queue)
    results = []
    while (delivery := consumer.poll(0.5)) is not None:
        results.append(parse(delivery.body))
        consumer.ack(delivery)
    consumer.close()
    return results


def test_a_service_at_work_is_counted_alive_and_ready(under_test: Any, tmp_path: Path) -> None:
    service = InThread(under_test.broker, tmp_path)
    under_test.broker.publish(announcement("e", "wait"))
    with service.running():
        # Given a service in the middle of a job
        until(lambda: service.scrape("darks_jobs_in_progress") == 1)
        # Then it is alive and ready all the same
        assert get(service.port, "/live")[0] == 200
        assert get(service.port, "/ready")[0] == 200
        released(tmp_path, "e").touch()
        # And once it is done, so it is counted
        until(lambda: service.scrape("darks_messages_processed_total", outcome="finished") == 1)
        scrape = service.scrape
        assert scrape("darks_jobs_in_progress") == 0
        assert scrape("darks_messages_received_total") == 1
        assert scrape("darks_redeliveries_total") == 0
        assert scrape("darks_job_duration_seconds_count") == 1
        assert scrape("darks_store_bytes_total", direction="written") > len("e")
    [message] = drained(under_test.broker, "noise")
    assert message.content.member.exposure_id == "e"


def test_retries_and_dead_letters_are_counted(under_test: Any, tmp_path: Path) -> None:
    service = InThread(under_test.broker, tmp_path)
    under_test.broker.publish(announcement("e", "transient-until=3"))
    under_test.send_raw("exposure.announced", b"not JSON")
    with service.running():
        until(lambda: service.scrape("darks_messages_processed_total", outcome="finished") == 1)
        scrape = service.scrape
        assert scrape("darks_messages_processed_total", outcome="retried") == 2
        assert scrape("darks_messages_processed_total", outcome="dead-lettered") == 1
        assert scrape("darks_redeliveries_total") == 2
        assert scrape("darks_messages_received_total") == 4


def test_an_s3_notification_is_read_as_announcements(under_test: Any, tmp_path: Path) -> None:
    # Given a bucket's notification on the queue, twice, and one of nothing that concerns us
    service = InThread(under_test.broker, tmp_path, announce_pattern="*_uncal.fits")
    minio = (NOTIFICATIONS / "minio.json").read_bytes()
    test_event = (NOTIFICATIONS / "aws-test-event.json").read_bytes()
    hostile = minio.replace(b'"key": "1062', b'"key": "..')
    for body in (minio, test_event, minio, hostile):
        under_test.send_raw("exposure.announced", body)
    with service.running():
        # When the service has read them
        until(lambda: service.scrape("darks_messages_processed_total", outcome="finished") == 5)
        dead = service.scrape("darks_messages_processed_total", outcome="dead-lettered")
    # Then the exposure was announced and worked on, its effect there once, and the hostile one refused
    assert dead == 1
    [(body, reason)] = under_test.dead_letters("ingest")
    assert body == hostile
    assert "is not a key" in reason
    exposure = "jw01062001001_02101_00001_nrcalong"
    assert attempts(tmp_path, exposure) == 2
    assert computations(tmp_path, exposure) == 1
    assert len({message.id for message in drained(under_test.broker, "noise")}) == 1


def test_announcements_that_cannot_be_published_keep_their_notification(tmp_path: Path) -> None:
    broker = MemoryBroker()
    broker.publish_body("exposure.announced", (NOTIFICATIONS / "ceph.json").read_bytes())
    broker.faults.lose_publishes = 2
    service = InThread(broker, tmp_path)
    with service.running():
        until(lambda: service.scrape("darks_messages_processed_total", outcome="finished") == 2)
        assert service.scrape("darks_publish_failures_total") == 2
    assert len(drained(broker, "noise")) == 1


def test_while_the_store_is_away_the_service_waits_alive_and_not_ready(
    under_test: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = threading.Event()
    away.set()
    get_object = LocalStore.get

    def get_or_not(self: LocalStore, key: str) -> bytes:
        if away.is_set():
            raise StoreUnavailable("the store does not answer")
        return get_object(self, key)

    # Given a store that does not answer this process when the service starts
    monkeypatch.setattr(LocalStore, "get", get_or_not)
    monkeypatch.setattr("shared.runtime.service._ASK_AGAIN", 0.05)
    under_test.broker.publish(announcement("e"))
    service = InThread(under_test.broker, tmp_path)
    with service.running():
        _, body = until(lambda: (r := get(service.port, "/ready"))[0] == 503 and r)
        assert set(json.loads(body)["problems"]) >= {"no consumer is attached to the queue"}
        assert get(service.port, "/live")[0] == 200
        assert service.scrape("darks_messages_received_total") == 0
        # When it comes back, Then the work is done
        away.clear()
        until(lambda: service.scrape("darks_messages_processed_total", outcome="finished") == 1)


def test_what_a_job_says_goes_to_standard_error_with_the_ids_of_its_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broker = MemoryBroker()
    message = announcement("e", "noise")
    broker.publish(message)
    service = InThread(broker, tmp_path)
    with service.running():
        until(lambda: service.scrape("darks_messages_processed_total", outcome="finished") == 1)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "job_pid" in line]
    assert [line["event"] for line in lines] == ["printed by the handler", "logged by stpipe"]
    for line in lines:
        assert line["message_id"] == str(message.id)
        assert line["correlation_id"] == str(message.correlation_id)
        assert line["service"] == "ingest"


@pytest.fixture
def broker(rabbit_node: RabbitNode) -> Iterator[RabbitBroker]:
    with rabbit_node.new_vhost() as vhost:
        settings = rabbit_node.settings(vhost)
        apply(settings)
        broker = RabbitBroker(settings)
        yield broker
        broker.close()


@pytest.mark.xdist_group("rabbitmq")
def test_ingest_over_rabbitmq_rejects_logs_counts_and_stops(broker: RabbitBroker, tmp_path: Path) -> None:
    # Given the real service, and an announcement of a file that is not there
    content = ExposureAnnounced(exposure_id="jw1_nrca1", uri=str(tmp_path / "absent_uncal.fits"))
    message = Envelope.of(content, identity="e")
    broker.publish(message)
    service = AsProcess(broker, tmp_path, "-m", "services.ingest")
    with service.ended():
        [finished] = until(lambda: service.said("finished"))
        # Then it was rejected, and everything that was fixed is there to be scraped
        until(lambda: Scrape(service.port)("darks_messages_processed_total", outcome="rejected") == 1)
        scrape = Scrape(service.port)
        assert {m.name.removesuffix("_total") for m in METRICS} <= scrape.families.keys()
        assert get(service.port, "/live")[0] == 200
        assert get(service.port, "/ready")[0] == 200
        assert service.stop() == ExitCode.STOPPED
    # And the log names the message, and nobody's password
    assert finished["published"] == ["exposure.rejected"]
    assert finished["message_id"] == str(message.id)
    assert finished["correlation_id"] == str(message.correlation_id)
    assert finished["schema"] == "exposure.announced"
    assert service.lines[-1] == {**service.lines[-1], "event": "stopped", "exit_code": 0}
    assert "guest:guest" not in service.log.read_text() + service.errors.read_text()
    assert drained(broker, "ingest") == []


@pytest.mark.xdist_group("rabbitmq")
def test_told_to_stop_a_service_finishes_its_job(broker: RabbitBroker, tmp_path: Path) -> None:
    for name in ("at hand", "next"):
        broker.publish(announcement(name, "sleep=1.5"))
    service = AsProcess(broker, tmp_path, *TESTED)
    with service.ended():
        until(lambda: attempts(tmp_path, "at hand") == 1)
        assert service.stop() == ExitCode.STOPPED
    assert [m.content.member.exposure_id for m in drained(broker, "noise")] == ["at hand"]
    assert [m.content.exposure_id for m in drained(broker, "ingest")] == ["next"]


@pytest.mark.xdist_group("rabbitmq")
def test_past_its_grace_a_service_puts_its_job_back(broker: RabbitBroker, tmp_path: Path) -> None:
    broker.publish(announcement("e", "sleep=600"))
    service = AsProcess(broker, tmp_path, *TESTED, DARKS_GRACE_SECONDS="0.5")
    with service.ended():
        until(lambda: attempts(tmp_path, "e") == 1)
        assert service.stop() == ExitCode.STOPPED
    [line] = service.said("the worker is stopping")
    assert line["outcome"] == "requeued"
    consumer = broker.consume("ingest")
    back = until(lambda: consumer.poll(0.5))
    assert back.delivery_count == 0
    consumer.close()


@pytest.mark.xdist_group("rabbitmq")
def test_a_broker_that_refuses_ends_the_service(rabbit_node: RabbitNode, tmp_path: Path) -> None:
    with rabbit_node.new_vhost() as vhost:
        # Given a virtual host in which no topology was applied
        broker = RabbitBroker(rabbit_node.settings(vhost))
        service = AsProcess(broker, tmp_path, *TESTED)
        with service.ended():
            assert service.process.wait(LONG) == ExitCode.BROKER
        broker.close()
    last = service.lines[-1]
    assert last["exit_code"] == ExitCode.BROKER
    assert "nircam-darks topology apply" in last["event"]


@pytest.mark.xdist_group("rabbitmq")
def test_ingest_does_not_start_where_no_source_is_allowed(broker: RabbitBroker, tmp_path: Path) -> None:
    service = AsProcess(broker, tmp_path, "-m", "services.ingest", DARKS_ALLOWED_SOURCES="[]")
    with service.ended():
        assert service.process.wait(LONG) == ExitCode.CONFIGURATION
    assert "DARKS_ALLOWED_SOURCES is empty" in service.errors.read_text()
