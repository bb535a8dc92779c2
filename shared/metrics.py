"""What Prometheus sees of a service, fed by what its worker tells.

The names are fixed (docs/services.md). No label holds the id of an exposure, a set or a message: there
would be a new series for each.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from shared.errors import PublishFailed
from shared.messages import Envelope, ExposureIngested, ExposureRejected, NoiseMeasured, ReferenceBuilt
from shared.worker_events import WorkerEvent

#: How the work on a message may end. ``rejected``: done, and it came to an `exposure.rejected`.
OUTCOMES = ("finished", "rejected", "retried", "dead-lettered", "put-back", "paused")
DIRECTIONS = ("read", "written")
#: Seconds, from 1 s to 1 h.
BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 2700, 3600)

_no_creation_times: Callable[[], None] = disable_created_metrics


@dataclass(frozen=True)
class Described:
    """A metric: its name, kind and labels, and what it says."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    says: str


METRICS = (
    Described("darks_messages_received_total", "counter", ("service",), "Deliveries taken from the queue"),
    Described(
        "darks_messages_processed_total",
        "counter",
        ("service", "outcome"),
        f"Deliveries by how they ended: {', '.join(OUTCOMES)}",
    ),
    Described(
        "darks_job_duration_seconds", "histogram", ("service",), "How long jobs ran, however they ended"
    ),
    Described("darks_jobs_in_progress", "gauge", ("service",), "Jobs at work"),
    Described(
        "darks_redeliveries_total", "counter", ("service",), "Deliveries of a message that came before"
    ),
    Described(
        "darks_publish_failures_total", "counter", ("service",), "Times that a follow-up was not confirmed"
    ),
    Described(
        "darks_store_bytes_total",
        "counter",
        ("service", "direction"),
        "Bytes that jobs read from the store, and that they have written to it",
    ),
    Described(
        "darks_set_waiting_integrations",
        "gauge",
        ("configuration",),
        "Calibrated integrations that are in no dark reference as yet (from ingest)",
    ),
    Described(
        "darks_dark_current_electrons_per_kilosecond",
        "gauge",
        ("detector", "subarray"),
        "Dark current of the newest dark reference (from darkref)",
    ),
    Described(
        "darks_effective_noise_electrons",
        "gauge",
        ("detector", "subarray"),
        "Spatial effective noise of the newest set at all groups (from noise)",
    ),
    Described(
        "darks_jump_pixel_fraction",
        "gauge",
        ("detector", "subarray"),
        "Part of the pixels with a jump in the newest exposure or set (from noise)",
    ),
)


class Metrics:
    """The metrics of one service.

    Parameters
    ----------
    service : str
    simulated : bool
        Whether figures of simulated exposures are shown; otherwise only measured ones are.
    """

    def __init__(self, service: str, simulated: bool = False) -> None:
        # The creation time of each would double the number of series.
        _no_creation_times()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._service = service
        self._simulated = simulated
        self._lock = threading.Lock()
        self._busy: set[int] = set()
        self._waiting: set[str] = set()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        for one in METRICS:
            if one.kind == "counter":
                self._counters[one.name] = Counter(one.name, one.says, one.labels, registry=self.registry)
            elif one.kind == "gauge":
                self._gauges[one.name] = Gauge(one.name, one.says, one.labels, registry=self.registry)
            else:
                self._duration = Histogram(
                    one.name, one.says, one.labels, buckets=BUCKETS, registry=self.registry
                )
        self._show_from_the_start()

    def _show_from_the_start(self) -> None:
        # A series that is there before its first event shows that event as an increase.
        for one in METRICS:
            if one.labels == ("service",) and one.kind == "counter":
                self._count(one.name, 0)
        for outcome in OUTCOMES:
            self._count("darks_messages_processed_total", 0, outcome)
        for direction in DIRECTIONS:
            self._count("darks_store_bytes_total", 0, direction)
        self._duration.labels(self._service)
        self._gauges["darks_jobs_in_progress"].labels(self._service).set(0)

    def waiting(self) -> list[str]:
        """Return the configurations of which this process saw an exposure arrive that may still wait."""
        with self._lock:
            return sorted(self._waiting)

    def set_waiting(self, configuration: str, integrations: int) -> None:
        """Show how many integrations of a configuration wait; one of which none does is let go."""
        self._gauges["darks_set_waiting_integrations"].labels(configuration).set(integrations)
        if integrations == 0:
            with self._lock:
                self._waiting.discard(configuration)

    def observe(self, event: WorkerEvent) -> None:
        """Count what a worker did; an observer of `shared.worker.Worker`."""
        if event.kind == "received":
            self._begin(event)
        elif event.kind != "progress":
            self._end(event)

    def _begin(self, event: WorkerEvent) -> None:
        self._count("darks_messages_received_total")
        if event.redelivered:
            self._count("darks_redeliveries_total")
        with self._lock:
            # Each worker tells in a thread of its own, and works on one message at a time.
            self._busy.add(threading.get_ident())
            self._gauges["darks_jobs_in_progress"].labels(self._service).set(len(self._busy))

    def _end(self, event: WorkerEvent) -> None:
        if threading.get_ident() not in self._busy:
            # Never came to a job: unreadable, delivered too often, or of a foreign form.
            self._begin(event)
        elif event.kind != "paused":  # its seconds are those of the pause
            self._duration.labels(self._service).observe(event.seconds)
        with self._lock:
            self._busy.discard(threading.get_ident())
            self._gauges["darks_jobs_in_progress"].labels(self._service).set(len(self._busy))
        self._count("darks_messages_processed_total", 1, _outcome(event))
        if event.error == PublishFailed.__name__:
            self._count("darks_publish_failures_total")
        self._count("darks_store_bytes_total", event.traffic.read, "read")
        self._count("darks_store_bytes_total", event.traffic.written, "written")
        for outgoing in event.outgoing:
            self._show(outgoing.message, event.envelope)

    def _show(self, message: Envelope, cause: Envelope | None) -> None:
        """Show the figures that a message carries."""
        said, of = message.content, cause.content if cause is not None else None
        if isinstance(said, ExposureIngested):
            with self._lock:
                self._waiting.add(said.configuration)
        if not isinstance(said, ReferenceBuilt | NoiseMeasured) or of is None:
            return
        if of.simulated and not self._simulated:
            return
        if isinstance(said, ReferenceBuilt):
            figures: dict[str, float | None] = {
                "darks_dark_current_electrons_per_kilosecond": said.dark_current_e_per_ks
            }
        else:
            percent = said.headline.get("jump_pixel_percent")
            figures = {
                "darks_effective_noise_electrons": said.headline.get("spatial_effective_noise_e"),
                "darks_jump_pixel_fraction": None if percent is None else percent / 100,
            }
        for name, figure in figures.items():
            if figure is not None:
                self._gauges[name].labels(of.key.detector, of.key.subarray).set(figure)

    def _count(self, name: str, amount: float = 1, *labels: str) -> None:
        self._counters[name].labels(self._service, *labels).inc(amount)


def metrics_table() -> str:
    """Return the table of docs/services.md: every metric, its labels and what it says, as Markdown."""
    rows = ["| metric | labels | says |", "|---|---|---|"]
    rows += [f"| `{one.name}` | {', '.join(one.labels)} | {one.says} |" for one in METRICS]
    return "\n".join(rows)


def _outcome(event: WorkerEvent) -> str:
    rejected = any(isinstance(one.message.content, ExposureRejected) for one in event.outgoing)
    return "rejected" if rejected and event.kind == "finished" else event.kind
