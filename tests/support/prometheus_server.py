"""A Prometheus of the tests' own, with the project's configuration and rules, on the loopback only."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.ceph_server import _die_with_parent
from support.doing_without import do_without
from support.paths import DEPLOY
from support.rabbitmq_node import free_port

CONFIGURATION = DEPLOY / "prometheus"
#: Seconds that Prometheus and Alertmanager themselves may take to start.
START_SECONDS = 30.0


def program(name: str) -> str:
    """Return the path of one of the monitoring programs; without it skip, or fail where CI=true."""
    result = shutil.which(name)
    if result is None:
        do_without(f"{name} is not installed: sh deploy/install-servers.sh monitoring")
    return result


class Prometheus:
    """The server; `url` is its address.

    Its configuration is that of deploy/prometheus with what only a test has: no DNS, since nothing beyond
    the loopback is to be asked; a second between two looks; alerts that are told after two. Targets are
    given by `watch`.

    Parameters
    ----------
    folder : Path
        Private to it.
    vhost : str
        The virtual host whose queues it looks at.
    alertmanager : str
        The address of the one that it tells of alerts; empty: none.
    """

    def __init__(self, folder: Path, vhost: str, alertmanager: str = "") -> None:
        self._program = program("prometheus")
        self._folder = folder
        self._vhost = vhost
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"
        self._configure(alertmanager)

    def start(self) -> None:
        """Start it; return when it answers."""
        words = [
            self._program,
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=warn",
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent
            )
        self.until(self._ready, "Prometheus to be ready", START_SECONDS)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
            self._process = None

    def watch(self, job: str, *targets: tuple[str, dict[str, str]]) -> None:
        """Give a job its targets, each an address with labels, in place of those it had."""
        folder = self._folder / "targets"
        groups = [{"targets": [address], "labels": labels} for address, labels in targets]
        # It looks at the file as it changes, so never at half of one.
        (folder / "new").write_text(json.dumps(groups))
        (folder / "new").rename(folder / f"{job}.yml")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query, each with ``metric`` (its labels) and ``value``."""
        return self._get("query", query=expression)["result"]

    def value(self, expression: str) -> float | None:
        """Return the one value that a query has; None if it has none."""
        result = self.query(expression)
        assert len(result) <= 1, f"{expression} has {len(result)} values"
        return float(result[0]["value"][1]) if result else None

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule as Prometheus sees it, with its ``health`` and ``lastError``."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[tuple[str, str]]:
        """Return the alerts that are told: their names, and the service of each."""
        return {
            (alert["labels"]["alertname"], alert["labels"].get("service", ""))
            for alert in self._get("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def until(self, there: Callable[[], Any], what: str, within: float = 60.0) -> Any:
        """Return what `there` returns once that is anything."""
        deadline = time.monotonic() + within
        while not (result := there()):
            if time.monotonic() > deadline:
                log = (self._folder / "log").read_text(errors="replace")[-2000:]
                pytest.fail(f"waited {within:.0f} s for {what}; Prometheus said: {log}")
            time.sleep(0.5)
        return result

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text(errors="replace")[-2000:]
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
            return True
        return False

    def _get(self, what: str, **parameters: str) -> dict[str, Any]:
        asked = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(asked, timeout=30) as answer:
            document = json.load(answer)
        assert document["status"] == "success", document
        return document["data"]

    def _configure(self, alertmanager: str) -> None:
        settings = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text())
        settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        if alertmanager:
            settings["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
        else:
            del settings["alerting"]
        for job in settings["scrape_configs"]:
            job.pop("dns_sd_configs", None)
            if job["job_name"] == "prometheus":
                job["static_configs"] = [{"targets": [f"127.0.0.1:{self._port}"]}]
            if "vhost" in job.get("params", {}):
                job["params"]["vhost"] = [self._vhost]
        (self._folder / "rules").mkdir(parents=True)
        # It notices a new file only in a folder that was there when it started.
        (self._folder / "targets").mkdir()
        for path in (CONFIGURATION / "rules").glob("*.yml"):
            text = re.sub(r"(?m)^(\s+)for: \S+$", r"\1for: 2s", path.read_text())
            text = re.sub(r"(?m)^(\s+)interval: \S+$", r"\1interval: 1s", text)
            (self._folder / "rules" / path.name).write_text(text)
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(settings))


@contextlib.contextmanager
def running_prometheus(folder: Path, vhost: str, alertmanager: str = "") -> Iterator[Prometheus]:
    """Give a server; where it is not installed skip, in CI fail."""
    server = Prometheus(folder, vhost, alertmanager)
    try:
        server.start()
        yield server
    finally:
        server.stop()
