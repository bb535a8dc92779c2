"""Messages through one of our workers with an empty job: `messages_ours.py AMQP_URL COUNT FOLDER`.

With everything on that a service has: quorum queues, manual acks, confirms of the follow-ups, the job in a
process of its own, logs and metrics.
"""

import json
import sys
import threading
import time
from pathlib import Path

from shared.broker.rabbitmq import RabbitBroker
from shared.contracts.messages import Envelope, ExposureAnnounced
from shared.runtime.events import WorkerEvent
from shared.runtime.jobs import JobProcesses
from shared.runtime.logs import EventLog, configure
from shared.runtime.metrics import Metrics
from shared.runtime.worker import Worker
from shared.settings.broker import BrokerSettings
from shared.settings.logs import LogSettings
from shared.settings.stage import StageSettings


def main() -> None:
    """Publish all, then time the worker from its first message to its last."""
    url, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    logs = LogSettings("info", "json")
    configure(logs, {"service": "ingest"})
    broker = RabbitBroker(BrokerSettings(url=url))
    for number in range(count):
        content = ExposureAnnounced(
            exposure_id=f"jw{number:06d}", uri=f"s3://bucket/darks/jw{number:06d}.fits"
        )
        broker.publish(Envelope.of(content, identity=content.exposure_id))
    stop = threading.Event()
    log, metrics = EventLog(), Metrics("ingest", False)
    times: list[float] = []

    def observe(event: WorkerEvent) -> None:
        log(event)
        metrics.observe(event)
        if event.kind == "finished":
            times.append(time.perf_counter())
            if len(times) == count:
                stop.set()

    settings = StageSettings(store=folder)
    with JobProcesses(1, {"ingest": "bench_handlers:empty"}, settings, log=logs) as jobs:
        Worker("ingest", broker, jobs, observe).run(stop)
    broker.close()
    print(json.dumps({"message": (times[-1] - times[0]) / (count - 1)}))


if __name__ == "__main__":
    main()
