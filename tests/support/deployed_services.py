"""The three services as processes of their own, with their queues and their bucket, for a test."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika
import pytest

from nircam_darks.operations.candidates import Candidate
from nircam_darks.simulation.simulate import environment
from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.connection import parameters
from shared.broker.rabbitmq.topology import apply, queues
from shared.contracts.messages import Envelope, ExposureAnnounced
from shared.contracts.routing import BINDINGS, dead_letter_queue
from shared.store.manifest import Manifest, find_all
from shared.store.s3 import S3Store
from support.ceph_server import Ceph
from support.rabbitmq_node import RabbitNode

#: Seconds that anything may take to come about.
WAIT = 150.0


class Service:
    """One service as an ops engineer starts it, again and again; its logs go on in one file.

    Attributes
    ----------
    environment : dict of str to str
        Of the process that is started next.
    """

    def __init__(self, name: str, folder: Path, settings: dict[str, str]) -> None:
        folder.mkdir()
        self.name, self.label = name, folder.name
        self.log, self.errors = folder / "log", folder / "errors"
        own = {"DARKS_SCRATCH": str(folder / "scratch"), "DARKS_TEST_SERVICE": self.label}
        self.environment = {**settings, **own}
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = 0

    def start(self) -> None:
        with self.log.open("ab") as out, self.errors.open("ab") as errors:
            self._begun = out.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"services.{self.name}"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )

    @property
    def at_work(self) -> bool:
        """Whether the process has a message in hand, by what it logged since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._begun)
            *whole, _ = log.read().split(b"\n")
        output = [outcome for line in whole if (outcome := json.loads(line).get("outcome"))]
        return bool(output) and output[-1] in ("received", "progress")

    def outcomes(self) -> Counter[str]:
        """How often it logged what; a line may have been cut off by a kill."""
        kinds = ("received", "finished", "retried", "dead-lettered", "requeued", "paused")
        log = self.log.read_text()
        return Counter({kind: log.count(f'"outcome": "{kind}"') for kind in kinds})

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def require_alive(self) -> None:
        code = self.exit_code
        assert code is None, f"{self.name} ended by itself with {code}\n{self.tail()}"

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> int:
        """End it as an operator would; return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(60)
        self._process = None
        return code

    def tail(self) -> str:
        """The end of its log and of its jobs'."""
        ends = (path.read_text(errors="replace").splitlines()[-15:] for path in (self.log, self.errors))
        return "\n".join([f"--- {self.name}", *(line[:400] for end in ends for line in end)])


@dataclass
class Deployment:
    """The services, their broker and their bucket, with some exposures that lie in it.

    Attributes
    ----------
    announcements : list of Envelope
        One an exposure, not yet published.
    wanted : dict of str to int
        How many products of each kind there will be.
    """

    node: RabbitNode
    broker: RabbitBroker
    store: S3Store
    announcements: list[Envelope]
    wanted: dict[str, int]
    services: list[Service] = field(default_factory=list)

    def wait_until_all_is_done(self) -> None:
        """Wait for every product, and then until no message is anywhere."""
        self._until(lambda: self.wanted.items() <= self.committed().items(), "products", self.committed)
        self._until(self.idle, "queues", self.ready)

    def committed(self) -> Counter[str]:
        """Products in the store, by kind."""
        return Counter(manifest.product for manifest in self.manifests())

    def manifests(self) -> list[Manifest]:
        return [
            manifest
            for stage in ("ingest/", "darkref/", "noise/")
            for manifest in find_all(self.store, stage)
        ]

    def ready(self) -> dict[str, int]:
        """Messages of each queue that no consumer holds, as the queue itself counts them; no dead letters."""
        with contextlib.closing(pika.BlockingConnection(parameters(self.broker.settings, "count"))) as asked:
            channel = asked.channel()
            names = [name for name in queues() if name not in map(dead_letter_queue, BINDINGS)]
            return {name: channel.queue_declare(name, passive=True).method.message_count for name in names}

    def idle(self) -> bool:
        """Whether nothing waits and nobody works, now and a moment later."""
        for _ in range(2):
            if any(self.ready().values()) or any(service.at_work for service in self.services):
                return False
            time.sleep(1.0)
        return True

    def dead_letters(self) -> list[str]:
        return [
            f"{queue}: {letter.reason}" for queue in BINDINGS for letter in self.broker.dead_letters(queue)
        ]

    def stop(self) -> None:
        """Stop every service; what one still held would be in its queue again."""
        assert {service.label: service.stop() for service in self.services} == {
            service.label: 0 for service in self.services
        }
        assert not any(self.ready().values()), self.ready()

    def outcomes(self) -> Counter[str]:
        return sum((service.outcomes() for service in self.services), Counter())

    def _until(self, there: Callable[[], bool], what: str, now: Callable[[], Any]) -> None:
        deadline = time.monotonic() + WAIT
        while not there():
            for service in self.services:
                service.require_alive()
            if time.monotonic() > deadline:
                logs = "\n".join(service.tail() for service in self.services)
                pytest.fail(f"{what} after {WAIT:.0f} s: {now()}; dead: {self.dead_letters()}\n{logs}")
            time.sleep(0.3)


@contextlib.contextmanager
def deployed(
    node: RabbitNode,
    ceph: Ceph,
    candidates: list[Candidate],
    crds_path: Path,
    folder: Path,
    names: Sequence[str] = tuple(BINDINGS),
    **more: str,
) -> Iterator[Deployment]:
    """Put exposures into a bucket and give the services, not yet started, that `names` asks for.

    `more` is added to their environment.
    """
    bucket, client = ceph.new_bucket(), ceph.client()
    expected = Counter(candidate.configuration for candidate in candidates)
    announcements = []
    for candidate in candidates:
        client.put_object(Bucket=bucket, Key=f"raw/{candidate.path.name}", Body=candidate.path.read_bytes())
        content = ExposureAnnounced(
            exposure_id=candidate.exposure_id,
            uri=f"s3://{bucket}/raw/{candidate.path.name}",
            size=candidate.path.stat().st_size,
            sha256=hashlib.sha256(candidate.path.read_bytes()).hexdigest(),
            expected_exposures=expected[candidate.configuration],
        )
        announcements.append(Envelope.of(content, identity=content.uri))
    with contextlib.ExitStack() as stack:
        broker_settings = node.settings(stack.enter_context(node.new_vhost()))
        apply(broker_settings)
        broker = stack.enter_context(contextlib.closing(RabbitBroker(broker_settings)))
        store = stack.enter_context(
            contextlib.closing(ceph.store(f"{bucket}/products", folder / "scratch of the test"))
        )
        settings = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DARKS_")},
            **environment(crds_path),
            "NUMBA_NUM_THREADS": "1",
            "DARKS_BROKER_URL": broker_settings.url.get_secret_value(),
            "DARKS_STORE": f"s3://{bucket}/products",
            "DARKS_S3_ENDPOINT": ceph.endpoint,
            "DARKS_ALLOWED_SOURCES": json.dumps([f"s3://{bucket}/raw/"]),
            "DARKS_HTTP_HOST": "127.0.0.1",
            "DARKS_HTTP_PORT": "0",
            # 5 s of processor a dark: as in this process, only where it is asked for.
            "DARKS_VERIFY": os.environ["DARKS_VERIFY"],
            **more,
        }
        per_exposure, per_set = len(candidates), len(expected)
        wanted = {
            "ramp": per_exposure,
            "exposure-noise": per_exposure,
            "reference": per_set,
            "set-noise": per_set,
        }
        here = Deployment(node, broker, store, announcements, wanted)
        for number, name in enumerate(names):
            label = name if names.count(name) == 1 else f"{name}-{number}"
            service = Service(name, folder / label, settings)
            stack.callback(service.kill)
            here.services.append(service)
        yield here
