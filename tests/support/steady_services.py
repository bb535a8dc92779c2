"""Services with the small handlers of the tests, as processes, under a steady flow of messages."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.broker.rabbitmq import BrokerSettings, RabbitBroker
from shared.contracts.messages import Envelope
from shared.errors import PublishFailed
from shared.runtime.handler import Outgoing, StageContext
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.handlers import KEY, announcement, computations
from support.paths import TESTS

#: Seconds that anything may take to come about.
WAIT = 120.0
INGEST, NOISE = "support.handlers:handle", "support.steady_services:hear"


def until(condition: Callable[[], Any], what: str, within: float = WAIT) -> Any:
    deadline = time.monotonic() + within
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {within:.0f} s for {what}"
        time.sleep(0.05)
    return result


def hear(message: Envelope, context: StageContext) -> list[Outgoing]:
    """Note the id of a message about an exposure (a handler of noise)."""
    heard = context.settings.store.parent / f"{message.content.member.exposure_id}.heard"
    with heard.open("a") as file:
        file.write(f"{message.id}\n")
    return []


class Service:
    """One service as an ops engineer starts it, again and again; its log goes on in one file."""

    def __init__(
        self, service: str, handler: str, broker: BrokerSettings, folder: Path, name: str = "", **more: str
    ) -> None:
        self.service = service
        self.log = folder / f"{name or service}.log"
        self._errors = folder / f"{name or service}.errors"
        self._handler = handler
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DARKS_")},
            "PYTHONPATH": str(TESTS),
            "DARKS_BROKER_URL": broker.url.get_secret_value(),
            "DARKS_BROKER_NODES": json.dumps(broker.nodes),
            "DARKS_BROKER_HEARTBEAT": str(broker.heartbeat),
            "DARKS_STORE": str(folder / "store"),
            "DARKS_HTTP_HOST": "127.0.0.1",
            "DARKS_HTTP_PORT": "0",
            "DARKS_ALLOWED_SOURCES": json.dumps([folder.as_uri()]),
            **more,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = 0

    def start(self) -> None:
        """Start it; return when it says that it is ready."""
        program = "from shared.runtime.service import main; raise SystemExit(main({!r}, {!r}))"
        with self.log.open("ab") as out, self._errors.open("ab") as errors:
            self._begun = out.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-c", program.format(self.service, self._handler)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )
        until(self._is_ready, f"{self.service}: {self._errors}")

    def stop(self) -> int:
        """End it as an operator would; return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(WAIT)

    def kill(self) -> None:
        """End it whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def lines(self, since: int = 0) -> list[dict[str, Any]]:
        """Return its log; a line that is not whole yet is left out."""
        *whole, _ = self.log.read_bytes()[since:].split(b"\n")
        return [json.loads(line) for line in whole]

    def said(self, words: str) -> list[dict[str, Any]]:
        """Return the lines whose event begins so."""
        return [line for line in self.lines() if line["event"].startswith(words)]

    def outcomes(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line.get("outcome") == kind]

    def require_at_work(self) -> None:
        """Require that the process that was started last runs and says that it is alive and ready."""
        assert self._answers("/live")
        assert self._answers("/ready")

    def _is_ready(self) -> bool:
        return self._answers("/ready")

    def _answers(self, path: str) -> bool:
        assert self._process.poll() is None, f"{self.service} ended: {self._errors.read_text()[-2000:]}"
        ports = [
            line["port"] for line in self.lines(self._begun) if line["event"].startswith("serving /live")
        ]
        if not ports:
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}{path}", timeout=10):
                return True
        except urllib.error.HTTPError:
            return False


class Flow:
    """A trigger that announces one exposure after the other, and publishes again what was not confirmed."""

    def __init__(self, broker: RabbitBroker, interval: float, does: str = "work") -> None:
        self.announced: list[str] = []
        self.failures = 0
        #: Longest time in s that a publish took.
        self.slowest = 0.0
        self._broker, self._interval, self._does = broker, interval, does
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Flow":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            name = f"e{len(self.announced):04}"
            started = time.monotonic()
            try:
                self._broker.publish(announcement(name, self._does))
            except PublishFailed:
                self.failures += 1
                continue
            self.slowest = max(self.slowest, time.monotonic() - started)
            self.announced.append(name)


class Effect:
    """What the services left in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def heard(self) -> set[str]:
        """The exposures of which noise heard."""
        return {path.stem for path in self._folder.glob("*.heard")}

    def said_differently(self) -> list[str]:
        """The exposures of which noise heard under more than one id: there should be none."""
        heard = {path.stem: set(path.read_text().split()) for path in self._folder.glob("*.heard")}
        return sorted(name for name, ids in heard.items() if len(ids) != 1)

    def products(self) -> list[str]:
        """The exposure of each product."""
        manifests = find_all(LocalStore(self._folder / "store"), f"ingest/{KEY.slug}/")
        return sorted(manifest.results["exposure_id"] for manifest in manifests)

    def computed_again(self, names: list[str]) -> list[str]:
        return [name for name in names if computations(self._folder, name) != 1]
