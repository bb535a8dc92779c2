"""The services as containers, as `support.deployed_services` has them as processes."""

import contextlib
import itertools
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from nircam_darks.simulation.simulate import environment
from support.ceph_server import Ceph
from support.deployed_services import Deployment, Service
from support.docker_engine import CLIENT, CONFINED, Engine
from support.rabbitmq_node import free_port

_numbers = itertools.count()


class Container(Service):
    """One service in a container that may do nothing but its work, started again and again."""

    def __init__(
        self, engine: Engine, image: str, name: str, folder: Path, settings: Mapping[str, str], *options: str
    ) -> None:
        super().__init__(name, folder, dict(settings))
        self.port = free_port()
        self._engine, self._image, self._options = engine, image, options
        self.container = ""

    def start(self) -> None:
        self.container = f"{self.label}-{next(_numbers)}"
        settings = {**self.environment, "DARKS_HTTP_HOST": "127.0.0.1", "DARKS_HTTP_PORT": str(self.port)}
        # What is inside is nowhere outside.
        del settings["DARKS_SCRATCH"]
        variables = [word for name, value in settings.items() for word in ("--env", f"{name}={value}")]
        command = [CLIENT, "run", "--rm", "--name", self.container, "--health-interval", "1s"]
        with self.log.open("ab") as out, self.errors.open("ab") as errors:
            self._begun = out.tell()
            self._process = subprocess.Popen(
                [*command, *CONFINED, *self._options, *variables, self._image],
                env=self._engine.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )

    def kill(self) -> None:
        """End it by `docker kill`."""
        if self._process is not None:
            deadline = time.monotonic() + 60
            while self._process.poll() is None:
                # One that was started a moment ago may not be there yet.
                self._engine.ask("kill", self.container)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.5 if time.monotonic() < deadline else 0)
                    break
                assert time.monotonic() < deadline, f"{self.container} does not end"
            self._process = None

    def stop(self) -> int:
        """End it by `docker stop`: the image's stop signal. Return its exit code."""
        self._engine.docker("stop", "--time", "60", self.container)
        code = self._process.wait(60)
        self._process = None
        return code

    def inside(self, *command: str) -> str:
        """Run a command in the running container."""
        return self._engine.docker("exec", self.container, *command)

    def inspect(self, template: str) -> str:
        return self._engine.docker("inspect", "--format", template, self.container)

    def get(self, path: str) -> tuple[int, str]:
        """Ask its HTTP side; 0 where nobody listens as yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""


def in_containers(
    engine: Engine,
    images: Mapping[str, str],
    here: Deployment,
    ceph: Ceph,
    crds_path: Path,
    folder: Path,
    *options: str,
    **more: str,
) -> list[Container]:
    """Return a container of each service, not yet started, over the queues and the bucket of a deployment."""
    bucket = here.announcements[0].content.uri.split("/")[2]
    settings = {
        **environment(Path("/crds")),
        "AWS_ACCESS_KEY_ID": os.environ["AWS_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": os.environ["AWS_SECRET_ACCESS_KEY"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "NUMBA_NUM_THREADS": "1",
        "DARKS_BROKER_URL": here.broker.settings.url.get_secret_value(),
        "DARKS_STORE": f"s3://{bucket}/products",
        "DARKS_S3_ENDPOINT": ceph.endpoint,
        "DARKS_ALLOWED_SOURCES": json.dumps([f"s3://{bucket}/raw/"]),
        "DARKS_SIMULATED_METRICS": "true",
        **more,
    }
    cache = ("--volume", f"{crds_path}:/crds:ro")
    return [
        Container(
            engine, images[name], name, folder / name, settings, *options, *(cache if name != "noise" else ())
        )
        for name in ("ingest", "darkref", "noise")
    ]
