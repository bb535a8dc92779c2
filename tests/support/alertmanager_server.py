"""An Alertmanager of the tests' own, on the loopback only, with the project's routes, and those it tells."""

import contextlib
import json
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.ceph_server import _die_with_parent
from support.prometheus_server import DEPLOY, START_SECONDS, program
from support.rabbitmq_node import free_port

CONFIGURATION = DEPLOY / "alertmanager" / "alertmanager.yml"
PAGE_KEY = "the-key-of-the-one-who-is-woken"
#: Seconds within which an alert is told here, where Alertmanager waits one for others of its group.
TOLD_SECONDS = 20.0
#: Those that PagerDuty knows.
_SEVERITIES = {"critical", "error", "warning", "info"}


@dataclass
class Receivers:
    """PagerDuty and the channel of tickets, as far as Alertmanager sees them, and something to be watched.

    Attributes
    ----------
    pages, tickets : list of dict
        What was taken, in the order in which it came.
    refused : list of dict
        Pages that PagerDuty would not have taken.
    watched_answers : bool
        Whether `address` serves metrics (none) to a Prometheus, or says that it cannot.
    """

    address: str
    pages: list[dict[str, Any]] = field(default_factory=list)
    tickets: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    watched_answers: bool = True

    def take(self, path: str, said: dict[str, Any]) -> int:
        """Take what was posted; return the status with which that is answered."""
        if path == "/ticket":
            self.tickets.append(said)
            return 200
        if path != "/page":
            return 404
        report = said["payload"]
        # The Events API wants these of what is triggered, and refuses for good where one is empty.
        whole = report["summary"] and report["source"] and report["severity"] in _SEVERITIES
        if said["event_action"] == "trigger" and not whole:
            self.refused.append(said)
            return 400
        self.pages.append(said)
        return 202

    def events(self, action: str) -> list[dict[str, Any]]:
        """Return the pages of one ``event_action``: trigger or resolve."""
        return [page for page in self.pages if page["event_action"] == action]

    def attachments(self) -> list[dict[str, Any]]:
        """Return the attachments of every ticket, in Slack's form."""
        return [attachment for said in self.tickets for attachment in said["attachments"]]


@contextlib.contextmanager
def receiving() -> Iterator[Receivers]:
    """Give the receivers, listening."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(here.take(self.path, json.loads(body)))

        def do_GET(self) -> None:
            self._answer(200 if here.watched_answers else 503)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_said: object) -> None:
            """Say nothing: what came is in the lists."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        here = Receivers(f"127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield here
        finally:
            server.shutdown()
            thread.join()


class Alertmanager:
    """The server; `url` is its address, ``told`` those whom it tells.

    Its configuration is that of deploy/alertmanager: routes, inhibitions and texts are the project's. Only a
    test has its own secrets and PagerDuty's address, and waits a second where the project waits for others of
    a group.
    """

    def __init__(self, folder: Path, told: Receivers) -> None:
        self._program = program("prometheus-alertmanager")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.told = told
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"
        self._configure()

    def start(self) -> None:
        """Start it; return when it answers."""
        words = [
            self._program,
            f"--config.file={self._folder / 'alertmanager.yml'}",
            f"--storage.path={self._folder / 'data'}",
            f"--web.listen-address={self.address}",
            # One alone: it would listen for others beyond the loopback.
            "--cluster.listen-address=",
            "--log.level=warn",
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent
            )
        self.until(self._ready, "Alertmanager to be ready", START_SECONDS)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
            self._process = None

    def tell(self, *alerts: Mapping[str, Any], over: bool = False) -> None:
        """Post alerts as Prometheus does: that they fire for the next hour, or that they are over."""
        now = datetime.now(UTC)
        ends = now if over else now + timedelta(hours=1)
        # What began before the time that a group is waited for is told at once, ahead of what inhibits it.
        times = {"startsAt": now.isoformat(), "endsAt": ends.isoformat()}
        body = json.dumps([{**alert, **times} for alert in alerts]).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api/v2/alerts", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200

    def suppressed(self) -> set[tuple[str, str]]:
        """Return the alerts of which nobody is told, by name and service, of all that were posted."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=30) as answer:
            alerts = json.load(answer)
        return {
            (alert["labels"]["alertname"], alert["labels"].get("service", ""))
            for alert in alerts
            if alert["status"]["state"] == "suppressed"
        }

    def until(self, there: Callable[[], Any], what: str, within: float = TOLD_SECONDS) -> Any:
        """Return what `there` returns once that is anything."""
        deadline = time.monotonic() + within
        while not (result := there()):
            if time.monotonic() > deadline:
                pytest.fail(f"waited {within:.0f} s for {what}; {self.told}; Alertmanager: {self._log()}")
            time.sleep(0.1)
        return result

    def _log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-2000:]

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
            return True
        return False

    def _configure(self) -> None:
        settings = yaml.safe_load(CONFIGURATION.read_text())
        settings["global"] = {"pagerduty_url": f"http://{self.told.address}/page"}
        settings["route"] |= {"group_wait": "1s", "group_interval": "1s"}
        secrets = {
            "routing_key_file": PAGE_KEY,
            "api_url_file": f"http://{self.told.address}/ticket",
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        for receiver in settings["receivers"]:
            for each in (*receiver.get("pagerduty_configs", ()), *receiver.get("slack_configs", ())):
                for key in secrets.keys() & each.keys():
                    each[key] = str(self._folder / key)
                    (self._folder / key).write_text(secrets[key])
        (self._folder / "alertmanager.yml").write_text(yaml.safe_dump(settings))


@contextlib.contextmanager
def running_alertmanager(folder: Path) -> Iterator[Alertmanager]:
    """Give a server and whom it tells; where it is not installed skip, in CI fail."""
    with receiving() as told:
        server = Alertmanager(folder, told)
        try:
            server.start()
            yield server
        finally:
            server.stop()
