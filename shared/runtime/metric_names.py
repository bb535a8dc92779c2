"""The name, kind, labels and meaning of every metric: one table for the code and for the docs.

The names are fixed, because dashboards and alerts use them. No label holds the id of an exposure, a set or a
message: each would make a new series.
"""

from dataclasses import dataclass
from typing import Literal

#: How the work on a message may end. ``rejected``: it was done, and published an `exposure.rejected`.
OUTCOMES = ("finished", "rejected", "retried", "dead-lettered", "requeued", "paused")
DIRECTIONS = ("read", "written")
#: Possible results of the verification of a dark reference.
VERIFICATIONS = ("accepted", "held", "rejected", "unverified")
#: The ends of a band of expected values.
EDGES = ("low", "high")
#: Seconds, from 1 s to 1 h.
BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 2700, 3600)
#: Seconds, from 1 s to a day.
WAITING_BUCKETS = (1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)


@dataclass(frozen=True)
class Described:
    """A metric: its name, kind, labels and meaning."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    says: str
    buckets: tuple[float, ...] = ()


_SERVICE = ("service",)
_PLACE = ("detector", "subarray")
_BAND = ("detector", "edge")

METRICS = (
    Described("darks_messages_received_total", "counter", _SERVICE, "Deliveries taken from the queue"),
    Described(
        "darks_messages_processed_total",
        "counter",
        ("service", "outcome"),
        f"Deliveries by how they ended: {', '.join(OUTCOMES)}",
    ),
    Described(
        "darks_job_duration_seconds",
        "histogram",
        _SERVICE,
        "How long jobs ran, however they ended",
        BUCKETS,
    ),
    Described("darks_jobs_in_progress", "gauge", _SERVICE, "Jobs at work"),
    Described("darks_redeliveries_total", "counter", _SERVICE, "Deliveries of messages delivered before"),
    Described(
        "darks_publish_failures_total", "counter", _SERVICE, "Publishes that the broker did not confirm"
    ),
    Described(
        "darks_messages_published_total",
        "counter",
        ("service", "schema"),
        "Follow-ups that the broker confirmed, by routing key; a redelivery publishes its own again",
    ),
    Described(
        "darks_message_waiting_seconds",
        "histogram",
        _SERVICE,
        "Age of a message when it is taken, earlier attempts included; not of set.check, which is to wait",
        WAITING_BUCKETS,
    ),
    Described(
        "darks_store_bytes_total",
        "counter",
        ("service", "direction"),
        "Bytes that jobs read from the store, and that they have written to it",
    ),
    Described(
        "darks_store_errors_total",
        "counter",
        _SERVICE,
        "Jobs that failed because the store did not answer or was full",
    ),
    Described(
        "darks_store_available", "gauge", _SERVICE, "1 if the store answers this process, as `/ready` sees it"
    ),
    Described(
        "darks_broker_takes_messages",
        "gauge",
        _SERVICE,
        "0 while the broker takes no messages (its memory or disk alarm), as `/ready` sees it",
    ),
    Described(
        "darks_consumer_attached", "gauge", _SERVICE, "1 if a consumer is attached, as `/ready` sees it"
    ),
    Described(
        "darks_last_tick_timestamp_seconds",
        "gauge",
        _SERVICE,
        "When the I/O loop last attended to the broker (Unix time)",
    ),
    Described(
        "darks_last_message_timestamp_seconds",
        "gauge",
        _SERVICE,
        "When the work on the last message ended (Unix time)",
    ),
    Described(
        "darks_last_message_sent_timestamp_seconds",
        "gauge",
        _SERVICE,
        "When the message that was taken last was made (Unix time); set.check excepted",
    ),
    Described(
        "darks_build_info", "gauge", ("service", "version", "jwst"), "Always 1: which versions are running"
    ),
    Described(
        "darks_set_waiting_integrations",
        "gauge",
        ("configuration",),
        "Calibrated integrations that are not in a dark reference yet (from ingest)",
    ),
    Described(
        "darks_set_oldest_timestamp_seconds",
        "gauge",
        ("configuration",),
        "When the first of these waiting exposures was ingested (Unix time; from ingest)",
    ),
    Described(
        "darks_set_newest_timestamp_seconds",
        "gauge",
        ("configuration",),
        "When the last of these waiting exposures was ingested (Unix time; from ingest)",
    ),
    Described(
        "darks_set_outdated_exposures",
        "gauge",
        ("configuration",),
        "Waiting exposures in no set, as others were made with a later CRDS context or version (from ingest)",
    ),
    Described(
        "darks_set_outdated_timestamp_seconds",
        "gauge",
        ("configuration",),
        "When the first of these outdated exposures was ingested (Unix time; from ingest)",
    ),
    Described(
        "darks_references_built_total",
        "counter",
        ("service", "verification"),
        f"Dark references by the result of their verification: {', '.join(VERIFICATIONS)} (from darkref)",
    ),
    Described(
        "darks_dark_current_electrons_per_kilosecond",
        "gauge",
        _PLACE,
        "Dark current of the newest dark reference (from darkref)",
    ),
    Described(
        "darks_dark_current_error_electrons_per_kilosecond",
        "gauge",
        _PLACE,
        "Error (1 sigma) of the dark current; NaN where the message lacks it (from darkref)",
    ),
    Described(
        "darks_effective_noise_electrons",
        "gauge",
        _PLACE,
        "Spatial effective noise of the newest set at all groups (from noise)",
    ),
    Described("darks_cds_noise_electrons", "gauge", _PLACE, "CDS noise of the newest set (from noise)"),
    Described(
        "darks_jump_pixel_fraction",
        "gauge",
        _PLACE,
        "Fraction of the pixels with a jump in the newest exposure or set (from noise)",
    ),
    Described(
        "darks_figure",
        "gauge",
        (*_PLACE, "figure"),
        "Every other figure of the newest reference or set, in the unit of its row in "
        "shared/products/figures.py; `figure`: its name there (from darkref and noise)",
    ),
    Described(
        "darks_measured_timestamp_seconds",
        "gauge",
        (*_PLACE, "figure"),
        "When what is shown was measured (Unix time); `figure`: dark_current, noise (of a set), jumps, "
        "exposure (what else is measured on one)",
    ),
    Described(
        "darks_out_of_expected_band",
        "gauge",
        (*_PLACE, "figure"),
        "1 if the newest verdict, which includes the error, is above or below the expected range; `figure`: "
        "dark_current, noise",
    ),
    Described(
        "darks_expected_dark_current_electrons_per_kilosecond",
        "gauge",
        _BAND,
        "Expected range of the dark current, `edge` low and high (from darkref)",
    ),
    Described(
        "darks_expected_effective_noise_electrons",
        "gauge",
        _BAND,
        "Expected range of the effective noise, for 1000 s of RAPID (from noise)",
    ),
    Described(
        "darks_expected_cds_noise_electrons",
        "gauge",
        _BAND,
        "Expected range of the CDS noise, for groups of one frame (from noise)",
    ),
)


def metrics_table() -> str:
    """Return the table of docs/services.md, every metric with its labels and meaning, as Markdown."""
    rows = ["| metric | labels | meaning |", "|---|---|---|"]
    rows += [f"| `{metric.name}` | {', '.join(metric.labels)} | {metric.says} |" for metric in METRICS]
    return "\n".join(rows)
