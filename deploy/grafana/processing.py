"""The dashboard of the services: throughput, latency, queues, failures, workers and cost."""

from frame import begin, labels_variable
from grafana_foundation_sdk.builders.dashboard import Dashboard, Row, TextBoxVariable
from panels import ANY_IS_BAD, BAD, INGESTED, SERVICE, Query, stat, timeseries
from upkeep import cost, failures, workers

#: The limit at which the alert of deploy/prometheus/rules/alerts.yml fires.
OLDEST_MESSAGE_SECONDS = 2 * 3600

QUEUE = 'queue=~"$service"'
PERCENTILES = (("0.5", "half of them within"), ("0.95", "95 % within"), ("0.99", "99 % within"))


def dashboard() -> Dashboard:
    """Return the builder of the dashboard."""
    board = begin(
        "Dark exposures: processing",
        "darks-processing",
        "Exposures on their way through ingest, darkref and noise: how many, how fast, what waits, what "
        "fails and what it costs. docs/runbook.md says what an alert means and what to do.",
        "Darks.*",
    )
    board.time("now-6h", "now").refresh("30s")
    board.with_variable(
        labels_variable(
            "service",
            "Service",
            "ingest calibrates exposures, darkref builds dark references, noise measures.",
            # From the queues as well, so that a service scaled to zero still shows its backlog.
            '{__name__=~"darks:service_consumers|darks:workers"}',
        )
    ).with_variable(
        TextBoxVariable("price")
        .label("Price of a worker hour")
        .description("Cost of one worker (its CPUs and memory) per hour, in your currency.")
        .default_value("0.10")
    )
    for row in (_glance, _throughput, _latency, _queues, failures, workers, cost):
        row(board)
    return board


def _glance(board: Dashboard) -> None:
    board.with_row(Row("At a glance"))
    panels = (
        stat(
            "Exposures ingested",
            "Exposures checked, calibrated and stored within the time shown. An exposure announced "
            "twice counts "
            "twice.",
            Query(f"sum(increase({INGESTED}[$__range]))", "exposures"),
            decimals=0,
            over_range=True,
        ),
        stat(
            "References built",
            "Dark references built within the time shown, whatever the result of their verification.",
            Query("sum(increase(darks_references_built_total[$__range]))", "references"),
            decimals=0,
            over_range=True,
        ),
        stat(
            "Messages waiting",
            "Messages ready in the queues of the selected services: work that no worker has taken yet.",
            Query(f"sum(darks:queue_messages_ready{{{QUEUE}}})", "messages"),
        ),
        stat(
            "Workers",
            "Processes of the selected services that answer Prometheus. None is correct if the "
            "scaler found no "
            "work.",
            Query(f"sum(darks:workers{{{SERVICE}}})", "workers"),
        ),
        stat(
            "Dead letters",
            "Messages given up, at once or after five attempts; their exposures or sets go no further until "
            "somebody acts: nircam-darks dead-letters list.",
            Query(f"sum(darks:dead_letters{{{SERVICE}}})", "dead letters"),
            steps=ANY_IS_BAD,
        ),
        stat(
            "Alerts",
            "Alerts that are firing, of all services. The red marks in the panels and Alertmanager name "
            "them.",
            Query(
                'count(ALERTS{alertname=~"Darks.*",alertstate="firing"}) or vector(0)',
                "alerts",
            ),
            steps=ANY_IS_BAD,
        ),
    )
    for panel in panels:
        board.with_panel(panel)


def _throughput(board: Dashboard) -> None:
    board.with_row(Row("Throughput"))
    panels = (
        timeseries(
            "Exposures and products per hour",
            "Output during the previous hour: exposures ingested, noise products of exposures and of sets, "
            "dark references.",
            Query(f"sum(increase({INGESTED}[1h]))", "exposures ingested"),
            Query(
                'sum(increase(darks_messages_published_total{schema="noise.measured"}[1h]))', "noise products"
            ),
            Query("sum(increase(darks_references_built_total[1h]))", "dark references"),
        ),
        timeseries(
            "Messages taken",
            "Deliveries taken from the queues, including repeated attempts.",
            Query(f"60 * darks:messages_received:rate5m{{{SERVICE}}}", "{{service}}"),
            unit="suffix:/min",
        ),
        timeseries(
            "Bytes read and written",
            "What jobs read from and wrote to the store per second, averaged over 5 minutes.",
            Query(f"darks:store_bytes:rate5m{{{SERVICE}}}", "{{service}}, {{direction}}"),
            unit="Bps",
        ),
    )
    for panel in panels:
        board.with_panel(panel)


def _latency(board: Dashboard) -> None:
    board.with_row(Row("Latency"))
    jobs = timeseries(
        "How long a job of $service takes",
        "Time from taking a message to the end of its job, during the previous hour, however the job ended. "
        "It is read from buckets (1 s to 1 h) and no finer than these.",
        *(
            Query(f'darks:job_duration_seconds:quantile1h{{{SERVICE},quantile="{number}"}}', words)
            for number, words in PERCENTILES
        ),
        unit="s",
    )
    waits = timeseries(
        "How long a message for $service waits",
        "Age of a message when it is taken: its time in the queue, and earlier attempts. During the previous "
        "hour, read from buckets (1 s to a day).",
        *(
            Query(f'darks:message_waiting_seconds:quantile1h{{{SERVICE},quantile="{number}"}}', words)
            for number, words in PERCENTILES
        ),
        unit="s",
    )
    # Repeated panels take the whole width.
    for panel in (jobs, waits):
        board.with_panel(panel.repeat("service").repeat_direction("h").max_per_row(3).span(24))


def _queues(board: Dashboard) -> None:
    board.with_row(Row("Queues"))
    panels = (
        timeseries(
            "Ready: no worker has them yet",
            "Messages in each service's queue that no worker holds. If it keeps rising, there are too few "
            "workers.",
            Query(f"darks:queue_messages_ready{{{QUEUE}}}", "{{queue}}"),
        ),
        timeseries(
            "At work: taken, not yet acknowledged",
            "Messages that workers hold: at most one per worker.",
            Query(f"darks:queue_messages_unacked{{{QUEUE}}}", "{{queue}}"),
        ),
        timeseries(
            "Oldest message: at most this old",
            "Upper limit on the age of the queue's first message; RabbitMQ does not report it exactly. At 2 "
            "hours DarksOldestMessage fires.",
            Query(f"darks:oldest_message_seconds{{{SERVICE}}}", "{{service}}"),
            unit="s",
            steps=((None, "transparent"), (OLDEST_MESSAGE_SECONDS, BAD)),
        ),
        timeseries(
            "Consumers",
            "Workers attached to each queue. If there are none while messages are ready, "
            "DarksBacklogWithoutConsumers fires.",
            Query(f"darks:queue_consumers{{{QUEUE}}}", "{{queue}}"),
        ),
        timeseries(
            "Dead letters",
            "Messages given up, by the service that gave them up.",
            Query(f"darks:dead_letters{{{SERVICE}}}", "{{service}}"),
            steps=((None, "transparent"), (1, BAD)),
        ),
        timeseries(
            "Held and delayed",
            "Held: announcements kept back by nircam-darks drain until drain --resume. Delayed: repeated "
            "attempts and checks of sets that are not due yet.",
            Query("darks:messages_held", "held"),
            Query("darks:messages_delayed", "delayed"),
        ),
    )
    for panel in panels:
        board.with_panel(panel)
