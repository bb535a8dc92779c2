"""The rows of the dashboard Processing about failures, workers and cost."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from panels import BAD, GOOD, INGESTED, SERVICE, Query, stat, states, timeseries
from tables import Column, table

#: The limits at which the alerts of deploy/prometheus/rules/alerts.yml fire.
FAILURE_RATIO = 0.1
STANDSTILL_SECONDS = 120


def failures(board: Dashboard) -> None:
    """Add the row of failures and retries."""
    board.with_row(Row("Retries and failures"))
    panels = (
        timeseries(
            "Fraction of failed attempts",
            "Attempts that ended in a retry or a dead letter, as a fraction of all during the previous half "
            "hour. Above 10 % DarksFailureRatio fires. Nothing is drawn while nothing is attempted.",
            Query(f"darks:failed_attempts:ratio30m{{{SERVICE}}}", "{{service}}"),
            unit="percentunit",
            steps=((None, "transparent"), (FAILURE_RATIO, BAD)),
        ),
        timeseries(
            "How attempts end",
            "finished: done. rejected: done, the exposure was refused with a reason. retried: tried again "
            "later. dead-lettered: given up. requeued: returned to the queue by a worker that shuts down. "
            "paused: the store does not answer.",
            Query(
                f"sum by (outcome) (60 * darks:messages_processed:rate5m{{{SERVICE}}})",
                "{{outcome}}",
            ),
            unit="suffix:/min",
            stacked=True,
        ),
        timeseries(
            "Retries",
            "Attempts to be repeated, per hour, and deliveries of messages delivered before (a worker or its "
            "connection was lost).",
            Query(
                "sum by (service) "
                f'(increase(darks_messages_processed_total{{{SERVICE},outcome="retried"}}[1h]))',
                "{{service}}, retried",
            ),
            Query(
                f"sum by (service) (increase(darks_redeliveries_total{{{SERVICE}}}[1h]))",
                "{{service}}, delivered again",
            ),
        ),
        timeseries(
            "Failures of the broker and the store",
            "Per quarter of an hour: publishes that RabbitMQ did not confirm, and jobs that failed because "
            "the store did not answer or was full. Nothing is lost; all of them are repeated.",
            Query(
                f"sum by (service) (increase(darks_publish_failures_total{{{SERVICE}}}[15m]))",
                "{{service}}, not confirmed",
            ),
            Query(
                f"sum by (service) (increase(darks_store_errors_total{{{SERVICE}}}[15m]))",
                "{{service}}, store",
            ),
        ),
    )
    for panel in panels:
        board.with_panel(panel.span(12))


def workers(board: Dashboard) -> None:
    """Add the row of the processes."""
    board.with_row(Row("Workers"))
    panels = (
        timeseries(
            "Workers",
            "Processes that answer Prometheus.",
            Query(f"darks:workers{{{SERVICE}}}", "{{service}}"),
        ),
        timeseries(
            "Busy workers",
            "Fraction of the workers that have a job. At 100 % with messages waiting, more workers would "
            "help.",
            Query(
                f"sum by (service) (darks_jobs_in_progress{{{SERVICE}}}) / (darks:workers > 0)", "{{service}}"
            ),
            unit="percentunit",
        ),
        timeseries(
            "Time since the last tick of the I/O loop",
            "Seconds since each process last attended to RabbitMQ; a long job does not delay this. After two "
            "minutes DarksWorkerQuiet fires.",
            Query(
                f"time() - darks_last_tick_timestamp_seconds{{{SERVICE}}}",
                "{{service}} at {{instance}}",
            ),
            unit="s",
            steps=((None, "transparent"), (STANDSTILL_SECONDS, BAD)),
        ),
        states(
            "Ready for work",
            "Whether each process is attached to RabbitMQ and gets answers from its store, as /ready "
            "sees it.",
            Query(
                f"darks_consumer_attached{{{SERVICE}}} * darks_store_available{{{SERVICE}}}",
                "{{service}} at {{instance}}",
            ),
            names=((1, "ready", GOOD), (0, "not ready", BAD)),
            width=12,
        ),
        table(
            "Versions",
            "Which versions are running, and in how many processes; a service has two lines during a "
            "rollout.",
            {"service": "service", "version": "nircam-darks", "jwst": "jwst"},
            Column(f"count by (service, version, jwst) (darks_build_info{{{SERVICE}}})", "processes"),
            width=12,
        ),
    )
    for panel in panels:
        board.with_panel(panel)


def cost(board: Dashboard) -> None:
    """Add the row of what an exposure costs."""
    board.with_row(Row("Cost of an exposure"))
    panels = (
        timeseries(
            "Worker seconds for each exposure",
            "Seconds that workers of each service were busy during the previous day, per exposure "
            "ingested on "
            "it. A worker runs one job at a time, so this is machine time to pay for.",
            Query(f"darks:job_seconds_per_exposure:1d{{{SERVICE}}}", "{{service}}"),
            unit="s",
            stacked=True,
        ),
        timeseries(
            "Bytes moved for each exposure",
            "What the selected services read from and wrote to the store during the previous day, "
            "per exposure "
            "ingested on it.",
            Query(
                f"sum by (direction) (increase(darks_store_bytes_total{{{SERVICE}}}[1d])) "
                f"/ on () group_left () (sum(increase({INGESTED}[1d])) > 0)",
                "{{direction}}",
            ),
            unit="bytes",
            stacked=True,
        ),
        stat(
            "Price of an exposure",
            "Worker hours of the selected services per exposure, times the price at the top of the "
            "page and in "
            "its currency. Idle workers, storage and traffic are not included.",
            Query(f"sum(darks:job_seconds_per_exposure:1d{{{SERVICE}}}) / 3600 * $price", "price"),
            width=8,
            decimals=4,
        ).height(8),
    )
    for panel in panels:
        board.with_panel(panel)
