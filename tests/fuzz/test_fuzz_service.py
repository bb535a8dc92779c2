"""Mutated messages and mutated exposures through ingest as it runs: its process, its jobs, RabbitMQ."""

import contextlib
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pika
import pytest

from shared import errors
from shared.broker.rabbitmq import BrokerSettings, RabbitBroker
from shared.broker.rabbitmq.topology import apply
from shared.contracts.routing import EXCHANGE
from shared.ramps.ramp import Ramp
from shared.store.local import LocalStore
from shared.store.manifest import Manifest, find_all
from support.fuzz_files import BaseFile, InMemory, base_files, mutated_files, stored_pixels
from support.fuzz_limits import SEED, inputs
from support.fuzz_messages import announcement_of, golden_messages, mutated_headers, mutated_messages
from support.ingest_exposures import (
    crds_environment,
    write_exposure,
    write_references,
    write_server_config,
)
from support.rabbitmq_node import RabbitNode
from support.steady_services import Service, until

INGEST = "services.ingest.handler:handle"
#: Seconds that a job may take; an input takes a second, on a machine that is busy ten.
JOB_SECONDS = 60
#: Inputs of each kind that wait in the queue at once.
BATCH = 100
#: Messages that ingest sends to itself: the records of an S3 event, and what it asks for again.
_TO_ITSELF = {"exposure.announced", "set.check"}
_OUR_ERRORS = {name for name in vars(errors) if isinstance(vars(errors)[name], type)}


class Bench:
    """Ingest with an inbox, and a stranger's channel to its exchange."""

    def __init__(self, settings: BrokerSettings, folder: Path, references: dict[str, Path]) -> None:
        self.settings, self.folder = settings, folder
        self.broker = RabbitBroker(settings)
        self.store = LocalStore(folder / "store")
        self.inbox = folder / "in"
        self.inbox.mkdir()
        write_server_config(folder / "crds")
        self.service = Service(
            "ingest",
            INGEST,
            settings,
            folder,
            **crds_environment(folder / "crds"),
            DARKS_ALLOWED_SOURCES=json.dumps([self.inbox.as_uri()]),
            DARKS_OVERRIDES=json.dumps({name: str(path) for name, path in references.items()}),
            DARKS_JOB_SECONDS=str(JOB_SECONDS),
            DARKS_JOB_MEMORY=str(2 << 30),
            DARKS_RETRY_DELAYS="[0.05]",
        )
        self.sent = 0
        self.ends: list[dict[str, Any]] = []
        self._read = 0

    def send(self, *bodies: bytes, random: Random | None = None) -> None:
        """Publish bodies as announcements, with a stranger's headers if they are to be random."""
        url = pika.URLParameters(self.settings.url.get_secret_value())
        with contextlib.closing(pika.BlockingConnection(url)) as connection:
            channel = connection.channel()
            # Without confirms, what the broker has not yet handed to a quorum queue is lost with the channel.
            channel.confirm_delivery()
            for body in bodies:
                properties = mutated_headers(random) if random is not None else {}
                channel.basic_publish(
                    EXCHANGE, "exposure.announced", body, pika.BasicProperties(**properties)
                )
        self.sent += len(bodies)

    def wait(self) -> None:
        """Wait until every delivery, also those that ingest sent to itself, has come to an end."""
        until(self._is_done, "the ends of all", within=120 + 20 * BATCH)

    def _is_done(self) -> bool:
        # Its log is long.
        with self.service.log.open("rb") as log:
            log.seek(self._read)
            whole, end, _ = log.read().rpartition(b"\n")
        self._read += len(whole) + len(end)
        lines = [json.loads(line) for line in whole.splitlines()]
        self.ends += [line for line in lines if line.get("outcome") not in (None, "received", "progress")]
        to_itself = sum(name in _TO_ITSELF for line in self.ends for name in line.get("published", ()))
        settled = self.counted("finished") + self.counted("dead-lettered")
        assert settled <= self.sent + to_itself
        return settled == self.sent + to_itself

    def counted(self, outcome: str) -> int:
        return sum(line["outcome"] == outcome for line in self.ends)

    def products(self) -> dict[str, list[Manifest]]:
        """The ramps and rejections by the address of the file that they are of."""
        products: dict[str, list[Manifest]] = {}
        for manifest in find_all(self.store, "ingest/"):
            products.setdefault(str(manifest.results["uri"]), []).append(manifest)
        return products

    def claimed(self) -> set[str]:
        return {json.loads(self.store.get(key))["uri"] for key in self.store.list("exposures/")}


@pytest.fixture
def bench(rabbit_node: RabbitNode, tmp_path: Path) -> Iterator[Bench]:
    with rabbit_node.new_vhost() as vhost:
        settings = rabbit_node.settings(vhost)
        apply(settings)
        bench = Bench(settings, tmp_path, write_references(tmp_path / "references"))
        with contextlib.closing(bench.broker):
            bench.service.start()
            try:
                yield bench
            finally:
                bench.service.kill()


def require_its_pixels(bench: Bench, ramp: Manifest, base: BaseFile, content: bytes) -> None:
    """Require that a ramp holds the pixels of its file, and these are those that the sums were made of."""
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    pixels = stored_pixels(content)
    assert {name: pixels.get(name) for name in base.pixels()} == base.pixels()
    with (
        Ramp(bench.store.open(ramp.object("ramp.fits").key), "ramp") as made,
        Ramp(InMemory(content), "file") as announced,
    ):
        np.testing.assert_array_equal(made.read_whole("SCI"), announced.read_whole("SCI"))


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.xdist_group("rabbitmq")
def test_every_input_ends_once_and_the_service_serves_on(bench: Bench) -> None:
    # Given a running ingest, a good exposure, mutated messages, some of which announce it, and mutated files
    count, random = inputs(30, in_ci=1000), Random(SEED)
    bases = base_files(bench.folder / "bases")
    good = bench.inbox / "good_uncal.fits"
    good.write_bytes(bases[1].content)
    honest = announcement_of(good, "good")
    messages = mutated_messages(SEED, count, [*golden_messages(), *[honest] * 10])
    files = mutated_files(SEED, count, bases)
    sent: Counter[bytes] = Counter()
    announced: dict[str, tuple[bytes, BaseFile, bytes]] = {}
    # When all of them are sent, some at a time
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        bodies = [next(messages) for _ in numbers]
        bench.send(*bodies, random=random)
        for number in numbers:
            base, content = next(files)
            path = bench.inbox / f"fuzz{number:05}_uncal.fits"
            path.write_bytes(content)
            body = announcement_of(path, f"fuzz{number:05}")
            announced[path.as_uri()] = (body, base, content)
            bodies.append(body)
        bench.send(*bodies[len(numbers) :])
        sent.update(bodies)
        bench.wait()
    # Then the process that was started still serves honest work
    last = write_exposure(bench.inbox / "last_uncal.fits", seed=SEED, ngroups=3, finished=True)
    bench.send(announcement_of(last, "last"))
    bench.wait()
    bench.service.require_at_work()
    products = bench.products()
    assert [manifest.product for manifest in products[last.as_uri()]] == ["ramp"]
    # And no job died, ran too long or raised an error of others
    assert {line.get("error", "") for line in bench.ends} - {"JobCrashed"} <= {"", *_OUR_ERRORS}
    assert [line for line in bench.ends if line.get("error") == "JobCrashed" or "exception" in line] == []
    assert bench.counted("requeued") == bench.counted("paused") == 0
    # And what became a dead letter did so once
    letters = bench.broker.dead_letters("ingest")
    assert len(letters) == bench.counted("dead-lettered")
    dead = Counter(letter.body for letter in letters)
    assert all(dead[body] <= number for body, number in sent.items())
    # And every file has one product or one dead letter, or waits for the rest of its segments
    claimed, ends = bench.claimed(), Counter(line["outcome"] for line in bench.ends)
    for uri, (body, base, content) in announced.items():
        made = products.get(uri, [])
        assert len(made) + dead[body] == 1 or (not made and not dead[body] and uri in claimed), uri
        ends.update(f"file: {name}" for name in [each.product for each in made] or ["dead letter or waits"])
        # And a file that states sums is only accepted with the pixels that they were made of
        if base.sums and made and made[0].product == "ramp":
            require_its_pixels(bench, made[0], base, content)
    assert ends["file: ramp"] > 0
    assert ends["file: rejection"] > 0
    slowest = max(line["seconds"] for line in bench.ends)
    print(f"{count} messages, {count} files: {dict(ends)}, {len(letters)} dead letters, slowest {slowest} s")
