"""The rows of the dashboard Processing about failures, workers and cost."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from panels import BAD, GOOD, INGESTED, SERVICE, Query, stat, states, timeseries
from tables import Column, table

#: The limits at which deploy/prometheus/rules/alerts.yml tells somebody.
FAILURE_RATIO = 0.1
STANDSTILL_SECONDS = 120


def failures(board: Dashboard) -> None:
    """Add the row of what fails and is tried again."""
    board.with_row(Row("Retries and failures"))
    panels = (
        timeseries(
            "Part of the attempts that fail",
            "Attempts that ended in a retry or a dead letter, of all over the half hour before. Above a "
            "tenth, DarksFailureRatio is told. Nothing is drawn while nothing was attempted.",
            Query(f"darks:failed_attempts:ratio30m{{{SERVICE}}}", "{{service}}"),
            unit="percentunit",
            steps=((None, "transparent"), (FAILURE_RATIO, BAD)),
        ),
        timeseries(
            "How attempts end",
            "finished: done. rejected: done, the exposure was refused with a reason. retried: tried again "
            "later. dead-lettered: given up. put-back: handed on while shutting down. paused: the store is "
            "away.",
            Query(
                f"sum by (outcome) (60 * darks:messages_processed:rate5m{{{SERVICE}}})",
                "{{outcome}}",
            ),
            unit="suffix:/min",
            stacked=True,
        ),
        timeseries(
            "Retries",
            "Attempts to be repeated, over an hour, and deliveries of a message that had been delivered "
            "before (a worker was lost, or its connection).",
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
            "Trouble with the broker and the store",
            "In a quarter of an hour: follow-ups that RabbitMQ did not confirm, and jobs that failed "
            "because the store did not answer or had no room. Nothing is lost, each is repeated.",
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
            "Part of the workers with a job in hand. At 100 % with messages waiting, more workers would "
            "help.",
            Query(
                f"sum by (service) (darks_jobs_in_progress{{{SERVICE}}}) / (darks:workers > 0)", "{{service}}"
            ),
            unit="percentunit",
        ),
        timeseries(
            "Since the I/O loop last turned",
            "Seconds since each process last turned to RabbitMQ; a job of an hour does not hold this up. Two "
            "minutes are a standstill (DarksWorkerQuiet).",
            Query(
                f"time() - darks_last_tick_timestamp_seconds{{{SERVICE}}}",
                "{{service}} at {{instance}}",
            ),
            unit="s",
            steps=((None, "transparent"), (STANDSTILL_SECONDS, BAD)),
        ),
        states(
            "Ready for work",
            "Whether each process has a consumer at RabbitMQ and an answer from its store, as /ready says.",
            Query(
                f"darks_consumer_attached{{{SERVICE}}} * darks_store_available{{{SERVICE}}}",
                "{{service}} at {{instance}}",
            ),
            names=((1, "ready", GOOD), (0, "not ready", BAD)),
            width=12,
        ),
        table(
            "Versions",
            "Which versions run, and in how many processes: two lines of a service while a rollout is under "
            "way.",
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
            "Seconds that workers of each service were busy in the day before, for each exposure ingested "
            "in it. A worker holds one job at a time, so these are a machine's to pay for.",
            Query(f"darks:job_seconds_per_exposure:1d{{{SERVICE}}}", "{{service}}"),
            unit="s",
            stacked=True,
        ),
        timeseries(
            "Bytes moved for each exposure",
            "What the chosen services read from the store and wrote to it in the day before, for each "
            "exposure ingested in it.",
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
            "Worker hours of the chosen services for each exposure, times the price at the top of the page "
            "and in its currency. Without workers that wait for work, storage and traffic.",
            Query(f"sum(darks:job_seconds_per_exposure:1d{{{SERVICE}}}) / 3600 * $price", "price"),
            width=8,
            decimals=4,
        ).height(8),
    )
    for panel in panels:
        board.with_panel(panel)
