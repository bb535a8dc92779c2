"""What the tests of the metrics share: messages, a worker's events, and what a scrape gives."""

from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from shared.contracts.messages import Envelope, parse
from shared.runtime.events import WorkerEvent
from shared.runtime.handler import Outgoing
from shared.runtime.metrics import Metrics
from support.paths import GOLDEN


def golden(name: str, **changes: Any) -> Envelope:
    message = parse((GOLDEN / f"{name}-1.2.json").read_bytes())
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
