"""A service of ours as a process: started as an ops engineer starts it, its log and metrics read."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from shared.broker.rabbitmq import RabbitBroker
from support.paths import TESTS

LONG = 60.0


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + LONG
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return result


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Scrape:
    """What `/metrics` said."""

    def __init__(self, port: int) -> None:
        self.families = {each.name: each for each in text_string_to_metric_families(get(port, "/metrics")[1])}

    def __call__(self, name: str, **labels: str) -> float:
        family = self.families[name.removesuffix("_total").removesuffix("_count")]
        wanted = {"service": "ingest", **labels}
        return next(s.value for s in family.samples if s.name == name and s.labels == wanted)


class AsProcess:
    """A service as an ops engineer starts it."""

    def __init__(self, broker: RabbitBroker, folder: Path, *program: str, **environment: str) -> None:
        self.log = folder / "log"
        self.errors = folder / "errors"
        url = broker.settings.url.get_secret_value()
        with self.log.open("wb") as out, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *program],
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("DARKS_")},
                    "PYTHONPATH": str(TESTS),
                    "DARKS_BROKER_URL": url,
                    "DARKS_STORE": str(folder / "store"),
                    "DARKS_HTTP_PORT": "0",
                    "DARKS_HTTP_HOST": "127.0.0.1",
                    "DARKS_ALLOWED_SOURCES": json.dumps([folder.as_uri()]),
                    **environment,
                },
                stdout=out,
                stderr=errors,
            )

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log; a line that is not whole yet is left out."""
        *whole, _ = self.log.read_text().split("\n")
        return [json.loads(line) for line in whole]

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    @property
    def port(self) -> int:
        return int(until(lambda: self.said("serving /live, /ready and /metrics"))[0]["port"])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LONG)

    @contextmanager
    def ended(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.process.kill()
            self.process.wait()


TESTED = (
    "-c",
    "from shared.runtime.service import main; raise SystemExit(main('ingest', 'support.handlers:handle'))",
)
