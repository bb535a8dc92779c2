"""What Prometheus sees: the fixed names, counted from what a worker tells."""

import json
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from shared.catalog.waiting import Waiting
from shared.runtime.events import WorkerEvent
from shared.runtime.metric_names import BUCKETS, METRICS, OUTCOMES, metrics_table
from shared.runtime.metrics import Metrics
from shared.store.counting import StoreTraffic
from support.paths import DOCS, GOLDEN
from support.scraped_metrics import golden, shown, value, work

DESIGN = {
    "darks_messages_received_total": {"service"},
    "darks_messages_processed_total": {"service", "outcome"},
    "darks_job_duration_seconds": {"service"},
    "darks_jobs_in_progress": {"service"},
    "darks_redeliveries_total": {"service"},
    "darks_publish_failures_total": {"service"},
    "darks_store_bytes_total": {"service", "direction"},
    "darks_set_waiting_integrations": {"configuration"},
    "darks_dark_current_electrons_per_kilosecond": {"detector", "subarray"},
    "darks_dark_current_error_electrons_per_kilosecond": {"detector", "subarray"},
    "darks_effective_noise_electrons": {"detector", "subarray"},
    "darks_jump_pixel_fraction": {"detector", "subarray"},
    "darks_figure": {"detector", "subarray", "figure"},
    # Of the deployment: what the alerts stand on
    "darks_messages_published_total": {"service", "schema"},
    "darks_message_waiting_seconds": {"service"},
    "darks_store_errors_total": {"service"},
    "darks_store_available": {"service"},
    "darks_broker_takes_messages": {"service"},
    "darks_consumer_attached": {"service"},
    "darks_last_tick_timestamp_seconds": {"service"},
    "darks_last_message_timestamp_seconds": {"service"},
    "darks_last_message_sent_timestamp_seconds": {"service"},
    "darks_build_info": {"service", "version", "jwst"},
    "darks_set_oldest_timestamp_seconds": {"configuration"},
    "darks_set_newest_timestamp_seconds": {"configuration"},
    "darks_set_outdated_exposures": {"configuration"},
    "darks_set_outdated_timestamp_seconds": {"configuration"},
    "darks_references_built_total": {"service", "verification"},
    "darks_cds_noise_electrons": {"detector", "subarray"},
    "darks_measured_timestamp_seconds": {"detector", "subarray", "figure"},
    "darks_out_of_expected_band": {"detector", "subarray", "figure"},
    "darks_expected_dark_current_electrons_per_kilosecond": {"detector", "edge"},
    "darks_expected_effective_noise_electrons": {"detector", "edge"},
    "darks_expected_cds_noise_electrons": {"detector", "edge"},
}


def test_the_names_are_those_that_were_fixed() -> None:
    assert {metric.name: set(metric.labels) for metric in METRICS} == DESIGN
    assert BUCKETS[0] == 1
    assert BUCKETS[-1] == 3600


def test_every_metric_is_documented() -> None:
    assert metrics_table() in (DOCS / "services.md").read_text()


def test_before_anything_happens_every_counter_is_there_at_zero() -> None:
    metrics = Metrics("noise")
    for outcome in OUTCOMES:
        assert value(metrics, "darks_messages_processed_total", "noise", outcome) == 0
    for direction in ("read", "written"):
        assert value(metrics, "darks_store_bytes_total", "noise", direction) == 0
    for name, labels in DESIGN.items():
        if labels == {"service"} and name.endswith("_total"):
            assert value(metrics, name, "noise") == 0
    assert value(metrics, "darks_jobs_in_progress", "noise") == 0
    assert value(metrics, "darks_job_duration_seconds_count", "noise") == 0
    assert not any(name.endswith("_created") for name, _ in shown(metrics))


def test_a_job_is_in_progress_until_it_ends() -> None:
    metrics, message = Metrics("ingest"), golden("exposure.announced")
    metrics.observe(WorkerEvent("ingest", "received", message))
    metrics.observe(WorkerEvent("ingest", "progress", message, done=1, total=2, what="groups", seconds=9.0))
    assert value(metrics, "darks_jobs_in_progress", "ingest") == 1
    traffic = StoreTraffic(read=700, written=30)
    metrics.observe(WorkerEvent("ingest", "finished", message, seconds=42.0, traffic=traffic))
    assert value(metrics, "darks_jobs_in_progress", "ingest") == 0
    assert value(metrics, "darks_job_duration_seconds_sum", "ingest") == 42.0
    assert value(metrics, "darks_job_duration_seconds_bucket", "ingest", "30.0") == 0
    assert value(metrics, "darks_job_duration_seconds_bucket", "ingest", "60.0") == 1
    assert value(metrics, "darks_store_bytes_total", "ingest", "read") == 700
    assert value(metrics, "darks_store_bytes_total", "ingest", "written") == 30


def test_a_rejected_exposure_is_an_outcome_of_its_own() -> None:
    metrics = Metrics("ingest")
    work(metrics, golden("exposure.announced"), golden("exposure.rejected"), seconds=1.0)
    assert value(metrics, "darks_messages_processed_total", "ingest", "rejected") == 1
    assert value(metrics, "darks_messages_processed_total", "ingest", "finished") == 0


def test_a_body_that_never_came_to_a_job_is_received_and_has_no_duration() -> None:
    metrics = Metrics("ingest")
    work(metrics, None, kind="dead-lettered", reason="not JSON", redelivered=True)
    assert value(metrics, "darks_messages_received_total", "ingest") == 1
    assert value(metrics, "darks_redeliveries_total", "ingest") == 1
    assert value(metrics, "darks_messages_processed_total", "ingest", "dead-lettered") == 1
    assert value(metrics, "darks_job_duration_seconds_count", "ingest") == 0
    assert value(metrics, "darks_jobs_in_progress", "ingest") == 0


def test_an_unconfirmed_follow_up_is_a_publish_failure_whatever_became_of_the_message() -> None:
    metrics, message = Metrics("ingest"), golden("exposure.announced")
    for kind in ("retried", "dead-lettered"):
        work(metrics, message, kind=kind, error="PublishFailed", seconds=1.0)
    work(metrics, message, kind="retried", error="JobCrashed", seconds=1.0)
    assert value(metrics, "darks_publish_failures_total", "ingest") == 2


def test_a_pause_for_the_store_is_no_job_s_duration() -> None:
    metrics = Metrics("ingest")
    work(metrics, golden("exposure.announced"), kind="paused", seconds=60.0)
    assert value(metrics, "darks_job_duration_seconds_count", "ingest") == 0
    assert value(metrics, "darks_jobs_in_progress", "ingest") == 0


def test_what_waits_is_shown_by_configuration_until_nothing_does() -> None:
    metrics, ingested = Metrics("ingest"), golden("exposure.ingested")
    work(metrics, golden("exposure.announced"), ingested)
    configuration = ingested.content.configuration
    assert metrics.waiting() == [configuration]
    first, last = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    metrics.set_waiting(configuration, Waiting(5, first, last, 3, first))
    assert value(metrics, "darks_set_waiting_integrations", configuration) == 5
    assert value(metrics, "darks_set_oldest_timestamp_seconds", configuration) == first.timestamp()
    assert value(metrics, "darks_set_newest_timestamp_seconds", configuration) == last.timestamp()
    assert value(metrics, "darks_set_outdated_exposures", configuration) == 3
    assert value(metrics, "darks_set_outdated_timestamp_seconds", configuration) == first.timestamp()
    metrics.set_waiting(configuration, Waiting(0))
    assert value(metrics, "darks_set_outdated_exposures", configuration) == 0
    assert value(metrics, "darks_set_outdated_timestamp_seconds", configuration) is None
    assert metrics.waiting() == []
    assert value(metrics, "darks_set_oldest_timestamp_seconds", configuration) is None
    assert value(metrics, "darks_set_newest_timestamp_seconds", configuration) is None
    assert value(metrics, "darks_set_waiting_integrations", configuration) == 0


@dataclass
class FakeWorker:
    last_tick: float
    attached: bool = True


def test_how_the_worker_and_its_store_do_is_asked_at_each_scrape() -> None:
    # Given a worker that ticked 30 s ago, and a store that answers
    metrics, worker, problem = Metrics("noise", clock=lambda: 1000.0), FakeWorker(time.monotonic() - 30), []
    blocked: list[str] = []
    metrics.watch(worker, lambda: problem[0] if problem else None, lambda: blocked[0] if blocked else None)
    assert value(metrics, "darks_broker_takes_messages", "noise") == 1
    assert value(metrics, "darks_last_tick_timestamp_seconds", "noise") == pytest.approx(970, abs=5)
    assert value(metrics, "darks_consumer_attached", "noise") == 1
    assert value(metrics, "darks_store_available", "noise") == 1
    # When the consumer and the store go, Then the next scrape says so
    worker.attached = False
    problem.append("s3://darks does not answer")
    assert value(metrics, "darks_consumer_attached", "noise") == 0
    assert value(metrics, "darks_store_available", "noise") == 0
    # And when the broker blocks publishers, too
    blocked.append("low on memory")
    assert value(metrics, "darks_broker_takes_messages", "noise") == 0


def test_how_long_a_message_waited_is_counted_when_it_is_taken() -> None:
    # Given a message made 20 s ago, one from a clock that is ahead, and a check that waited on purpose
    message = golden("exposure.announced")
    sent = message.time.timestamp()
    metrics = Metrics("ingest", clock=lambda: sent + 20)
    assert value(metrics, "darks_last_message_timestamp_seconds", "ingest") is None
    work(metrics, message)
    assert value(metrics, "darks_message_waiting_seconds_sum", "ingest") == 20
    assert value(metrics, "darks_last_message_sent_timestamp_seconds", "ingest") == sent
    assert value(metrics, "darks_last_message_timestamp_seconds", "ingest") == sent + 20
    work(metrics, message.model_copy(update={"time": message.time + timedelta(hours=1)}))
    work(metrics, golden("set.check"))
    # Then the first alone had an age
    assert value(metrics, "darks_message_waiting_seconds_sum", "ingest") == 20
    assert value(metrics, "darks_message_waiting_seconds_count", "ingest") == 2


@pytest.mark.parametrize(
    ("kind", "error", "counted"),
    [
        ("retried", "StoreUnavailable", 1),
        ("dead-lettered", "NoSpaceLeft", 1),
        ("paused", "", 1),
        ("retried", "JobCrashed", 0),
        ("requeued", "", 0),
    ],
)
def test_a_job_that_the_store_failed_is_a_store_error(kind: str, error: str, counted: int) -> None:
    metrics = Metrics("ingest")
    work(metrics, golden("exposure.announced"), kind=kind, error=error)
    assert value(metrics, "darks_store_errors_total", "ingest") == counted


def test_every_follow_up_is_counted_under_its_routing_key() -> None:
    metrics = Metrics("ingest")
    work(metrics, golden("exposure.announced"), golden("exposure.ingested"), golden("set.ready"))
    assert value(metrics, "darks_messages_published_total", "ingest", "exposure.ingested") == 1
    assert value(metrics, "darks_messages_published_total", "ingest", "set.ready") == 1


def test_no_exposure_set_or_message_is_a_label() -> None:
    # Given one of every message that is published, each the outcome of one that leads to it
    metrics = Metrics("ingest", simulated=True)
    ready = golden("set.ready")
    for name in ("exposure.ingested", "exposure.rejected", "set.check", "set.ready"):
        work(metrics, golden("exposure.announced"), golden(name))
    for name in ("reference.built", "noise.measured"):
        work(metrics, ready, golden(name))
    # Then no id of theirs is anywhere in what is scraped
    text = generate_latest(metrics.registry).decode()
    ids = {"jw01062001001_02101_00001_nrcalong", "jw01019001001_gs-acq1_2022117003102", "0123456789abcdef"}
    for path in GOLDEN.glob("*.json"):
        message = json.loads(path.read_text())
        ids |= {message["id"], message["correlation_id"]}
    assert [each for each in ids if each in text] == []


KINDS = ("finished", "retried", "dead-lettered", "requeued", "paused")


@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from(KINDS), st.integers(0, 10_000)), max_size=20
    )
)
def test_every_delivery_is_received_once_and_ends_once(told: list[tuple[bool, bool, str, int]]) -> None:
    metrics, message = Metrics("ingest"), golden("exposure.announced")
    for readable, redelivered, kind, size in told:
        event = WorkerEvent(
            "ingest", kind, message, redelivered=redelivered, traffic=StoreTraffic(size, size + 1)
        )
        if readable:
            metrics.observe(replace(event, kind="received", traffic=StoreTraffic()))
        metrics.observe(event)
    # Parsed once: it is the slow part
    now = shown(metrics)

    def count(name: str, *labels: str) -> float:
        return now[name, frozenset(("ingest", *labels))]

    assert count("darks_messages_received_total") == len(told)
    assert sum(count("darks_messages_processed_total", outcome) for outcome in OUTCOMES) == len(told)
    assert count("darks_redeliveries_total") == sum(again for _, again, _, _ in told)
    assert count("darks_store_bytes_total", "read") == sum(size for *_, size in told)
    assert count("darks_jobs_in_progress") == 0


def test_workers_in_several_threads_are_counted_together() -> None:
    metrics, message = Metrics("ingest"), golden("exposure.announced")
    both, done = threading.Barrier(3), threading.Barrier(3)

    def one() -> None:
        metrics.observe(WorkerEvent("ingest", "received", message))
        both.wait()
        done.wait()
        metrics.observe(WorkerEvent("ingest", "finished", message, seconds=1.0))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    both.wait()
    assert value(metrics, "darks_jobs_in_progress", "ingest") == 2
    done.wait()
    for thread in threads:
        thread.join()
    assert value(metrics, "darks_jobs_in_progress", "ingest") == 0
    assert value(metrics, "darks_job_duration_seconds_count", "ingest") == 2
