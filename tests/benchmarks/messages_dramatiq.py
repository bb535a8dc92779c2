"""The same through a dramatiq worker: its actor, and (run as a script) what publishes and waits.

`messages_dramatiq.py COUNT FOLDER`, with AMQP_URL in the environment; in an environment that has dramatiq.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

broker = RabbitmqBroker(url=os.environ["AMQP_URL"], confirm_delivery=True)
dramatiq.set_broker(broker)
_times: list[float] = []


@dramatiq.actor(queue_name="announced")
def announced(exposure_id: str, uri: str) -> None:
    """Do nothing, and say it in one message, which the broker confirms."""
    ingested.send(exposure_id, uri, "0" * 64, "a configuration", 60000.0, 60000.01)
    _times.append(time.perf_counter())
    if len(_times) == int(os.environ["COUNT"]):
        record = {"message": (_times[-1] - _times[0]) / (len(_times) - 1)}
        Path(os.environ["RESULT"]).write_text(json.dumps(record))


@dramatiq.actor(queue_name="ingested")
def ingested(*values: object) -> None:
    """Nobody consumes this here."""


def main() -> None:
    """Publish all, start one worker with one thread, wait for its result, stop it."""
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    result = folder / f"dramatiq-{os.getpid()}.json"
    for number in range(count):
        announced.send(f"jw{number:06d}", f"s3://bucket/darks/jw{number:06d}.fits")
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "dramatiq", "messages_dramatiq", "--processes", "1", "--threads", "1"),
            *("--queues", "announced", "--path", str(Path(__file__).parent)),
        ],
        env={**os.environ, "COUNT": str(count), "RESULT": str(result)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 600
        while not result.exists() or not result.read_text():
            assert worker.poll() is None, "dramatiq's worker ended early"
            assert time.monotonic() < deadline, "dramatiq's worker takes too long"
            time.sleep(0.1)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
    print(result.read_text())


if __name__ == "__main__":
    main()
