"""What Prometheus sees of a service, fed by what its worker tells; the names are in `shared.metric_names`."""

import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib import metadata

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from shared.detectors import Expected, detectors
from shared.errors import NoSpaceLeft, PublishFailed, StoreUnavailable
from shared.health import Watched
from shared.messages import Envelope, ExposureIngested, ExposureRejected, NoiseMeasured, ReferenceBuilt
from shared.metric_names import DIRECTIONS, METRICS, OUTCOMES, VERIFICATIONS
from shared.topology import SENDS
from shared.worker_events import WorkerEvent

#: Half the width of the band that is expected, in its sigmas: that of the products' verdicts.
BAND_SIGMAS = 2.0
_STORE_ERRORS = {StoreUnavailable.__name__, NoSpaceLeft.__name__}
#: Waits on purpose, in a queue of its own, until its configuration has settled.
_WAITS_ON_PURPOSE = "set.check"
# A verdict is written for people; it says so of every figure that is out of its band.
_OFF = re.compile(r"sigma (?:above|below) expected")

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
        self._simulated = simulated
        self._clock = clock
        self._lock = threading.Lock()
        self._busy: set[int] = set()
        self._waiting: set[str] = set()
        self._shown: dict[tuple[str, ...], datetime] = {}
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for one in METRICS:
            if one.kind == "counter":
                self._counters[one.name] = Counter(one.name, one.says, one.labels, registry=self.registry)
            elif one.kind == "gauge":
                self._gauges[one.name] = Gauge(one.name, one.says, one.labels, registry=self.registry)
            else:
                self._histograms[one.name] = Histogram(
                    one.name, one.says, one.labels, buckets=one.buckets, registry=self.registry
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
        for schema in SENDS.get(self._service, ()):
            self._count("darks_messages_published_total", 0, schema)
        for histogram in self._histograms.values():
            histogram.labels(self._service)
        self._gauges["darks_jobs_in_progress"].labels(self._service).set(0)
        self._gauges["darks_build_info"].labels(
            self._service, _version("nircam-darks"), _version("jwst")
        ).set(1)
        if self._service == "darkref":
            for verification in VERIFICATIONS:
                self._count("darks_references_built_total", 0, verification)
        self._show_bands()

    def _show_bands(self) -> None:
        bands: dict[str, Callable[[str], Expected]] = {}
        if self._service == "darkref":
            bands["darks_expected_dark_current_electrons_per_kilosecond"] = lambda name: (
                detectors()[name].expected.dark_current_nrc09
            )
        elif self._service == "noise":
            bands["darks_expected_effective_noise_electrons"] = lambda name: (
                detectors()[name].expected.effective_noise
            )
            bands["darks_expected_cds_noise_electrons"] = lambda name: detectors()[name].expected.cds_noise
        for metric, expected_of in bands.items():
            for name in detectors():
                expected = expected_of(name)
                half = BAND_SIGMAS * expected.sigma
                self._gauges[metric].labels(name, "low").set(expected.value - half)
                self._gauges[metric].labels(name, "high").set(expected.value + half)

    def watch(self, worker: Watched, store_problem: Callable[[], str | None]) -> None:
        """Show at each scrape how the worker and its store are doing, as `shared.health.Health` sees them."""
        shown = {
            "darks_last_tick_timestamp_seconds": lambda: (
                self._clock() - (time.monotonic() - worker.last_tick)
            ),
            "darks_consumer_attached": lambda: float(worker.attached),
            "darks_store_available": lambda: float(store_problem() is None),
        }
        for name, ask in shown.items():
            self._gauges[name].labels(self._service).set_function(ask)

    def waiting(self) -> list[str]:
        """Return the configurations of which this process saw an exposure arrive that may still wait."""
        with self._lock:
            return sorted(self._waiting)

    def set_waiting(
        self,
        configuration: str,
        integrations: int,
        oldest: datetime | None = None,
        newest: datetime | None = None,
    ) -> None:
        """Show how much of a configuration waits; one of which nothing does is let go.

        Parameters
        ----------
        configuration : str
        integrations : int
        oldest, newest : datetime, optional
            When the first and the last exposure that waits was ingested.
        """
        self._gauges["darks_set_waiting_integrations"].labels(configuration).set(integrations)
        for end, when in (("oldest", oldest), ("newest", newest)):
            gauge = self._gauges[f"darks_set_{end}_timestamp_seconds"]
            if when is not None:
                gauge.labels(configuration).set(when.timestamp())
            else:
                gauge.remove_by_labels({"configuration": configuration})
        with self._lock:
            (self._waiting.add if integrations else self._waiting.discard)(configuration)

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
        if event.envelope is not None and event.envelope.schema_name != _WAITS_ON_PURPOSE:
            made = event.envelope.time.timestamp()
            # Another machine's clock may be ahead.
            age = max(0.0, self._clock() - made)
            self._histograms["darks_message_waiting_seconds"].labels(self._service).observe(age)
            self._gauges["darks_last_message_sent_timestamp_seconds"].labels(self._service).set(made)
        with self._lock:
            # Each worker tells in a thread of its own, and works on one message at a time.
            self._busy.add(threading.get_ident())
            self._gauges["darks_jobs_in_progress"].labels(self._service).set(len(self._busy))

    def _end(self, event: WorkerEvent) -> None:
        if threading.get_ident() not in self._busy:
            # Never came to a job: unreadable, delivered too often, or of a foreign form.
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
        said, of = message.content, cause.content if cause is not None else None
        if isinstance(said, ExposureIngested):
            with self._lock:
                self._waiting.add(said.configuration)
        if isinstance(said, ReferenceBuilt):
            verification = {True: "accepted", False: "rejected", None: "unverified"}[said.accepted]
            self._count("darks_references_built_total", 1, verification)
        if not isinstance(said, ReferenceBuilt | NoiseMeasured) or of is None:
            return
        if of.simulated and not self._simulated:
            return
        place = (of.key.detector, of.key.subarray)
        if isinstance(said, ReferenceBuilt):
            current = {
                "darks_dark_current_electrons_per_kilosecond": said.dark_current_e_per_ks,
                "darks_dark_current_error_electrons_per_kilosecond": said.dark_current_error_e_per_ks,
            }
            self._measured(message, place, "dark_current", current, said.verdict)
            return
        if said.set_id is not None:
            noise = {
                "darks_effective_noise_electrons": said.headline.get("spatial_effective_noise_e"),
                "darks_cds_noise_electrons": said.headline.get("cds_noise_e"),
            }
            self._measured(message, place, "noise", noise, said.verdict)
        percent = said.headline.get("jump_pixel_percent")
        if percent is not None:
            self._measured(message, place, "jumps", {"darks_jump_pixel_fraction": percent / 100})

    def _measured(
        self,
        message: Envelope,
        place: tuple[str, str],
        figure: str,
        values: Mapping[str, float | None],
        verdict: str | None = None,
    ) -> None:
        """Show what a message says of one figure, unless something newer is shown already."""
        if self._shown.get((*place, figure), message.time) > message.time:
            # Delivered again: its product was made before the one that is shown.
            return
        self._shown[*place, figure] = message.time
        for name, value in values.items():
            # What was not measured now is not known: the value before it would be taken for this one's.
            self._gauges[name].labels(*place).set(math.nan if value is None else value)
        self._gauges["darks_measured_timestamp_seconds"].labels(*place, figure).set(message.time.timestamp())
        if verdict is not None:
            off = _OFF.search(verdict) is not None
            self._gauges["darks_out_of_expected_band"].labels(*place, figure).set(off)

    def _count(self, name: str, amount: float = 1, *labels: str) -> None:
        self._counters[name].labels(self._service, *labels).inc(amount)


def _outcome(event: WorkerEvent) -> str:
    rejected = any(isinstance(one.message.content, ExposureRejected) for one in event.outgoing)
    return "rejected" if rejected and event.kind == "finished" else event.kind


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        # An image that has no use for it.
        return ""
