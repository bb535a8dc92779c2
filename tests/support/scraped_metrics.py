"""What the tests of the metrics share: messages, a worker's events, and what a scrape gives."""

from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from shared.messages import Envelope, parse
from shared.metrics import Metrics
from shared.stage import Outgoing
from shared.worker_events import WorkerEvent

ROOT = Path(__file__).parents[2]


def golden(name: str, **changes: Any) -> Envelope:
    message = parse((ROOT / "tests" / "contract" / "golden" / f"{name}-1.0.json").read_bytes())
    return message.model_copy(update={"data": {**message.data, **changes}})


def shown(metrics: Metrics) -> dict[tuple[str, frozenset[str]], float]:
    """Every sample of ours, as a scrape gives it."""
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
        for sample in family.samples
        if sample.name.startswith("darks_")
    }


def value(metrics: Metrics, name: str, *labels: str) -> float | None:
    return shown(metrics).get((name, frozenset(labels)))


def work(
    metrics: Metrics, cause: Envelope | None, *published: Envelope, kind: str = "finished", **event: Any
) -> None:
    if cause is not None:
        metrics.observe(WorkerEvent("ingest", "received", cause))
    outgoing = [Outgoing(message) for message in published]
    metrics.observe(WorkerEvent("ingest", kind, cause, outgoing, **event))
