"""deploy/compose.yaml as it is run: by up.sh, from a copy of what somebody would have cloned."""

import contextlib
import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from support.compose_program import plugin
from support.docker_engine import CLIENT, Engine
from support.paths import ROOT

#: There is no Grafana to be had where no image can be pulled: nothing is made of its name.
WITHOUT = ("--scale", "grafana=0")
PROMETHEUS, ALERTMANAGER = "http://127.0.0.1:9090", "http://127.0.0.1:9093"
FILES = (
    "Dockerfile",
    ".dockerignore",
    "LICENSE",
    "Makefile",
    "README.md",
    "pyproject.toml",
    "requirements.lock",
)


class Stack:
    """Everything that compose starts, on an engine in a network of its own.

    Parameters
    ----------
    engine : Engine
        Started apart.
    folder : Path
        For the copy.
    images : dict
        Variables of compose.yaml that name images, and what they are here.
    """

    def __init__(self, engine: Engine, folder: Path, images: dict[str, str]) -> None:
        self._engine = engine
        self.checkout = folder / "checkout"
        self.checkout.mkdir()
        for name in FILES:
            shutil.copy2(ROOT / name, self.checkout)
        for name in ("deploy", "nircam_darks", "services", "shared"):
            leave = shutil.ignore_patterns("__pycache__", "secrets")
            shutil.copytree(ROOT / name, self.checkout / name, ignore=leave)
        plugins = Path(engine.environment["DOCKER_CONFIG"]) / "cli-plugins"
        programs = folder / "bin"
        for place in (plugins, programs):
            place.mkdir(parents=True, exist_ok=True)
        for name in ("compose", "buildx"):
            (plugins / f"docker-{name}").unlink(missing_ok=True)
            (plugins / f"docker-{name}").symlink_to(plugin(name))
        (programs / "docker").symlink_to(CLIENT)
        self.environment = {
            **{name: value for name, value in engine.environment.items() if not name.startswith("DARKS_")},
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "BUILD_NETWORK": "host",
            "REVISION": "test",
            "S3_DISK": "4G",
            **images,
        }

    def run(self, *command: str | Path, within: float = 120, expect: int = 0) -> str:
        """Run a command in the copy; return all that it said."""
        done = subprocess.run(
            command,
            cwd=self.checkout,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=within,
            check=False,
        )
        assert done.returncode == expect, (
            f"{command}: {done.returncode}\n{done.stdout[-5000:]}\n{self.tail()}"
        )
        return done.stdout

    def up(self, *options: str, within: float = 300) -> str:
        return self.run("sh", "deploy/compose/up.sh", *options, *WITHOUT, within=within)

    def compose(self, *words: str, within: float = 120) -> str:
        return self.run("docker", "compose", "--file", "deploy/compose.yaml", *words, within=within)

    def cli(self, *words: str, options: tuple[str, ...] = (), expect: int = 0) -> str:
        """What `docker compose run --rm cli` says, as the runbook has it."""
        run = ("docker", "compose", "--file", "deploy/compose.yaml", "run", "--rm", *options, "cli", *words)
        return self.run(*run, expect=expect)

    def containers(self, service: str) -> list[str]:
        """Names of the containers of a service that run."""
        return self.compose("ps", "--format", "{{.Name}}", service).split()

    def inspect(self, container: str) -> dict[str, Any]:
        [document] = json.loads(self.run("docker", "inspect", container))
        return document

    def said(self, container: str) -> list[dict[str, Any]]:
        """A service's log; a line may have been cut off by a kill."""
        lines = []
        for line in self.run("docker", "logs", container).splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers now."""
        asked = urllib.parse.urlencode({"query": expression})
        return self.get(f"{PROMETHEUS}/api/v1/query?{asked}")["data"]["result"]

    def value(self, expression: str) -> float:
        """The one value of an expression, 0 where there is none."""
        result = self.query(expression)
        return float(result[0]["value"][1]) if result else 0.0

    def alerts(self, name: str) -> set[str]:
        """The services for which an alert is pending or firing."""
        return {sample["metric"]["service"] for sample in self.query(f'ALERTS{{alertname="{name}"}}')}

    def get(self, address: str) -> Any:
        with self._engine.network(), urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)

    def until(self, condition: Callable[[], Any], what: str, within: float = 90) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, f"waited {within:.0f} s for {what}\n{self.tail()}"
            time.sleep(1)

    def tail(self) -> str:
        """The end of every log, for whoever reads why a test failed."""
        done = subprocess.run(
            ["docker", "compose", "--file", "deploy/compose.yaml", "logs", "--tail", "8"],
            cwd=self.checkout,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return "\n".join(line[:600] for line in done.stdout.splitlines())


@contextlib.contextmanager
def started_apart(engine: Engine) -> Iterator[None]:
    """Have the engine in a network of its own meanwhile."""
    engine.stop()
    try:
        engine.start(apart=True)
        yield
    finally:
        # What is left would be made again, on this machine's own network.
        for words in (("container", "prune", "--force"), ("network", "prune", "--force")):
            engine.ask(*words)
        engine.stop()
        engine.start()
