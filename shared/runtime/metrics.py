"""What Prometheus sees of a service, made from its worker's events; `metric_names` has the names."""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib import metadata

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from shared.catalog.waiting import Waiting
from shared.contracts.messages import (
    Envelope,
    ExposureIngested,
    ExposureRejected,
    NoiseMeasured,
    ReferenceBuilt,
)
from shared.contracts.routing import SENDS
from shared.errors import NoSpaceLeft, PublishFailed, StoreUnavailable
from shared.nircam.detectors import detectors
from shared.products.figures import (
    EXPOSURE_FIGURES,
    GENERIC_METRIC,
    REFERENCE_FIGURES,
    SET_FIGURES,
    FigureDefinition,
)
from shared.runtime.events import WorkerEvent
from shared.runtime.health import Watched
from shared.runtime.metric_names import DIRECTIONS, METRICS, OUTCOMES, VERIFICATIONS
from shared.statistics.verdicts import WITHIN

_STORE_ERRORS = {StoreUnavailable.__name__, NoSpaceLeft.__name__}
#: A message that waits on purpose, in a queue of its own, until its configuration has settled.
_WAITS_ON_PURPOSE = "set.check"
#: Value and error of a figure, as a message has them.
_Known = tuple[float | None, float | None]
_UNKNOWN: _Known = (None, None)

_no_creation_times: Callable[[], None] = disable_created_metrics


class Metrics:
    """The metrics of one service.

    Parameters
    ----------
    service : str
    simulated : bool
        Whether figures of simulated exposures are shown; otherwise only measured ones are.
    clock : callable
        Gives the Unix time.
    """

    def __init__(self, service: str, simulated: bool = False, clock: Callable[[], float] = time.time) -> None:
        # The creation time of each would double the number of series.
        _no_creation_times()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._service = service
        self._sends = SENDS.get(service, ())
        self._simulated = simulated
        self._clock = clock
        self._lock = threading.Lock()
        self._busy: set[int] = set()
        self._waiting: set[str] = set()
        self._shown: dict[tuple[str, ...], datetime] = {}
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in METRICS:
            described = (metric.name, metric.says, metric.labels)
            if metric.kind == "counter":
                self._counters[metric.name] = Counter(*described, registry=self.registry)
            elif metric.kind == "gauge":
                self._gauges[metric.name] = Gauge(*described, registry=self.registry)
            else:
                self._histograms[metric.name] = Histogram(
                    *described, buckets=metric.buckets, registry=self.registry
                )
        self._show_from_the_start()

    def _show_from_the_start(self) -> None:
        # A series that exists before its first event shows that event as an increase.
        for metric in METRICS:
            if metric.labels == ("service",) and metric.kind == "counter":
                self._count(metric.name, 0)
        for outcome in OUTCOMES:
            self._count("darks_messages_processed_total", 0, outcome)
        for direction in DIRECTIONS:
            self._count("darks_store_bytes_total", 0, direction)
        for schema in self._sends:
            self._count("darks_messages_published_total", 0, schema)
        for histogram in self._histograms.values():
            histogram.labels(self._service)
        self._gauges["darks_jobs_in_progress"].labels(self._service).set(0)
        self._gauges["darks_build_info"].labels(
            self._service, _version("nircam-darks"), _version("jwst")
        ).set(1)
        if "reference.built" in self._sends:
            for verification in VERIFICATIONS:
                self._count("darks_references_built_total", 0, verification)
        self._show_bands()

    def _show_bands(self) -> None:
        definitions: tuple[FigureDefinition, ...] = ()
        if "reference.built" in self._sends:
            definitions += REFERENCE_FIGURES
        if "noise.measured" in self._sends:
            definitions += SET_FIGURES
        for definition in definitions:
            if not definition.band_metric or definition.expected is None:
                continue
            band = self._gauges[definition.band_metric]
            for name, detector in detectors().items():
                expected = definition.expected(detector.expected)
                half = WITHIN * expected.error
                band.labels(name, "low").set(expected.value - half)
                band.labels(name, "high").set(expected.value + half)

    def watch(
        self,
        worker: Watched,
        store_problem: Callable[[], str | None],
        broker_problem: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Show at each scrape how the worker, its store and its broker do, as `health.Health` sees them."""
        shown = {
            "darks_last_tick_timestamp_seconds": lambda: (
                self._clock() - (time.monotonic() - worker.last_tick)
            ),
            "darks_consumer_attached": lambda: float(worker.attached),
            "darks_store_available": lambda: float(store_problem() is None),
            "darks_broker_takes_messages": lambda: float(broker_problem() is None),
        }
        for name, ask in shown.items():
            self._gauges[name].labels(self._service).set_function(ask)

    def waiting(self) -> list[str]:
        """Return the configurations in which this process saw exposures arrive that may still wait."""
        with self._lock:
            return sorted(self._waiting)

    def set_waiting(self, configuration: str, waiting: Waiting) -> None:
        """Show how much of a configuration waits; forget a configuration of which nothing does."""
        self._gauges["darks_set_waiting_integrations"].labels(configuration).set(waiting.integrations)
        self._gauges["darks_set_outdated_exposures"].labels(configuration).set(waiting.outdated)
        since = {"oldest": waiting.oldest, "newest": waiting.newest, "outdated": waiting.outdated_since}
        for which, when in since.items():
            gauge = self._gauges[f"darks_set_{which}_timestamp_seconds"]
            if when is not None:
                gauge.labels(configuration).set(when.timestamp())
            else:
                gauge.remove_by_labels({"configuration": configuration})
        with self._lock:
            (self._waiting.add if waiting.integrations else self._waiting.discard)(configuration)

    def observe(self, event: WorkerEvent) -> None:
        """Count what a worker did; an observer of `shared.runtime.worker.Worker`."""
        if event.kind == "received":
            self._begin(event)
        elif event.kind != "progress":
            self._end(event)

    def _begin(self, event: WorkerEvent) -> None:
        self._count("darks_messages_received_total")
        if event.redelivered:
            self._count("darks_redeliveries_total")
        if event.envelope is not None and event.envelope.schema_name != _WAITS_ON_PURPOSE:
            made = event.envelope.time.timestamp()
            # Another machine's clock may be ahead.
            age = max(0.0, self._clock() - made)
            self._histograms["darks_message_waiting_seconds"].labels(self._service).observe(age)
            self._gauges["darks_last_message_sent_timestamp_seconds"].labels(self._service).set(made)
        with self._lock:
            # Each worker reports from a thread of its own, and works on one message at a time.
            self._busy.add(threading.get_ident())
            self._gauges["darks_jobs_in_progress"].labels(self._service).set(len(self._busy))

    def _end(self, event: WorkerEvent) -> None:
        if threading.get_ident() not in self._busy:
            # It never reached a job: unreadable, delivered too often, or in a foreign form.
            self._begin(event)
        elif event.kind != "paused":  # its seconds are those of the pause
            self._histograms["darks_job_duration_seconds"].labels(self._service).observe(event.seconds)
        with self._lock:
            self._busy.discard(threading.get_ident())
            self._gauges["darks_jobs_in_progress"].labels(self._service).set(len(self._busy))
        self._gauges["darks_last_message_timestamp_seconds"].labels(self._service).set(self._clock())
        self._count("darks_messages_processed_total", 1, _outcome(event))
        if event.error == PublishFailed.__name__:
            self._count("darks_publish_failures_total")
        if event.error in _STORE_ERRORS or event.kind == "paused":
            self._count("darks_store_errors_total")
        self._count("darks_store_bytes_total", event.traffic.read, "read")
        self._count("darks_store_bytes_total", event.traffic.written, "written")
        for outgoing in event.outgoing:
            self._count("darks_messages_published_total", 1, outgoing.message.schema_name)
            self._show(outgoing.message, event.envelope)

    def _show(self, message: Envelope, cause: Envelope | None) -> None:
        """Show the figures that a message carries."""
        content = message.content
        if isinstance(content, ExposureIngested):
            with self._lock:
                self._waiting.add(content.configuration)
        if isinstance(content, ReferenceBuilt):
            verification = "unverified" if content.acceptance is None else str(content.acceptance)
            self._count("darks_references_built_total", 1, verification)
        if not isinstance(content, ReferenceBuilt | NoiseMeasured) or cause is None:
            return
        measured = cause.content
        if measured.simulated and not self._simulated:
            return
        place = (measured.key.detector, measured.key.subarray)
        groups: dict[str, list[FigureDefinition]] = defaultdict(list)
        for definition in _definitions(content):
            groups[_group(content, definition)].append(definition)
        for group, definitions in groups.items():
            self._show_group(message, content, place, group, definitions)

    def _show_group(
        self,
        message: Envelope,
        content: ReferenceBuilt | NoiseMeasured,
        place: tuple[str, str],
        group: str,
        definitions: Sequence[FigureDefinition],
    ) -> None:
        """Show the figures that are measured together, unless newer ones are shown already."""
        known = _figures(content)
        if group == "jumps" and all(known.get(each.name, _UNKNOWN)[0] is None for each in definitions):
            # Sets and exposures both count jumps; a message without a count leaves the last one as it is.
            return
        if self._shown.get((*place, group), message.time) > message.time:
            # A redelivery: its product is older than the one that is shown.
            return
        self._shown[*place, group] = message.time
        for definition in definitions:
            self._show_figure(definition, place, known)
        self._gauges["darks_measured_timestamp_seconds"].labels(*place, group).set(message.time.timestamp())
        off = _is_off(content, group)
        if off is not None:
            self._gauges["darks_out_of_expected_band"].labels(*place, group).set(off)

    def _show_figure(
        self, definition: FigureDefinition, place: tuple[str, str], known: Mapping[str, _Known]
    ) -> None:
        """Set the gauges of a figure; to NaN where it was not measured, so that no older value stays."""
        value, error = known.get(definition.name, _UNKNOWN)
        if definition.metric == GENERIC_METRIC:
            if definition.name in known:
                gauge = self._gauges[definition.metric].labels(*place, definition.name)
                gauge.set(math.nan if value is None else value)
        elif definition.metric:
            shown = math.nan if value is None else value * definition.metric_scale
            self._gauges[definition.metric].labels(*place).set(shown)
        if definition.error_metric:
            self._gauges[definition.error_metric].labels(*place).set(math.nan if error is None else error)

    def _count(self, name: str, amount: float = 1, *labels: str) -> None:
        self._counters[name].labels(self._service, *labels).inc(amount)


def _definitions(content: ReferenceBuilt | NoiseMeasured) -> tuple[FigureDefinition, ...]:
    if isinstance(content, ReferenceBuilt):
        return REFERENCE_FIGURES
    if content.set_id is not None:
        return SET_FIGURES
    return tuple(definition for definition in EXPOSURE_FIGURES if definition.metric)


def _group(content: ReferenceBuilt | NoiseMeasured, definition: FigureDefinition) -> str:
    """Return what a figure is measured with; the noise of an exposure is not that of its set."""
    if isinstance(content, NoiseMeasured) and content.set_id is None and definition.group == "noise":
        return "exposure"
    return definition.group


def _figures(content: ReferenceBuilt | NoiseMeasured) -> dict[str, _Known]:
    """Return value and error of every figure of a message; one of 1.0 holds some values only."""
    known: dict[str, _Known]
    if isinstance(content, ReferenceBuilt):
        error = content.dark_current_error_e_per_ks
        known = {"dark_current_e_per_ks": (content.dark_current_e_per_ks, error)}
    else:
        known = {name: (value, None) for name, value in content.headline.items()}
    return {name: (figure.value, figure.error) for name, figure in content.figures.items()} | known


def _is_off(content: ReferenceBuilt | NoiseMeasured, group: str) -> bool | None:
    """Say whether a reference's dark current or a set's noise, jumps included, is out of its band."""
    if isinstance(content, ReferenceBuilt):
        return content.comparison.is_off
    if group != "noise":
        return None
    compared = {definition.name for definition in SET_FIGURES if definition.verdict_name is not None}
    return any(figure.comparison.is_off for name, figure in content.figures.items() if name in compared)


def _outcome(event: WorkerEvent) -> str:
    rejected = any(isinstance(outgoing.message.content, ExposureRejected) for outgoing in event.outgoing)
    return "rejected" if rejected and event.kind == "finished" else event.kind


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        # An image without this distribution.
        return ""
