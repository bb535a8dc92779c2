"""What a message costs with ever more exposures of one configuration: `scale.py [--exposures 2000]`.

A simulated campaign: fake ramps of ten exposures a set, all of one configuration, through a real broker, a
real store and a worker in a process of its own, whose job does all that ingest does except to calibrate.
Before each stretch the store is filled up to a number of exposures. Prints JSON lines, and draws the cost
against the number with `--plot`.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from scale_handler import RECORD, Campaign, fill, plan_of

from shared.broker.base import Broker
from shared.broker.memory import MemoryBroker
from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.topology import apply
from shared.contracts.messages import Envelope, ExposureAnnounced
from shared.runtime.events import WorkerEvent
from shared.runtime.jobs import JobProcesses
from shared.runtime.worker import Worker
from shared.settings.stage import S3Settings, StageSettings
from shared.store.base import Store
from shared.store.opening import open_store
from support.ceph_server import ACCESS, SECRET, Ceph
from support.rabbitmq_node import RabbitNode

#: Exposures in the store before each stretch, as far as `--exposures` goes.
STEPS = (0, 300, 1000, 3000, 10_000, 30_000, 100_000)


@contextmanager
def settings_of(kind: str, folder: Path) -> Iterator[StageSettings]:
    """Give the settings of a store: in a folder, or in a bucket of a gateway that is started for it."""
    more: dict[str, Any] = {"epoch_gap_days": 0.5, "settle_seconds": 3600.0}
    if kind == "folder":
        (folder / "store").mkdir()
        yield StageSettings(store=folder / "store", **more)
        return
    (folder / "ceph").mkdir()
    ceph = Ceph(folder / "ceph")
    os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
    try:
        ceph.start()
        bucket = f"s3://{ceph.new_bucket()}"
        yield StageSettings(
            store=bucket, s3=S3Settings(endpoint=ceph.endpoint), scratch=folder / "scratch", **more
        )
    finally:
        ceph.stop()


@contextmanager
def broker_of(kind: str, folder: Path) -> Iterator[Broker]:
    """Give a broker: one in this process, or RabbitMQ, which is started for it."""
    if kind == "memory":
        yield MemoryBroker()
        return
    node = RabbitNode(folder / "node")
    try:
        node.start()
        with node.new_vhost() as vhost:
            apply(node.settings(vhost))
            with closing(RabbitBroker(node.settings(vhost))) as broker:
                yield broker
    finally:
        node.stop()


def filled(store: Store, settings: StageSettings, campaign: Campaign, up_to: int) -> None:
    """Bring the store to a number of exposures."""
    plan_of(settings)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: fill(store, settings, number), range(campaign.exposures, up_to)))
    campaign.exposures = max(campaign.exposures, up_to)


def stretch(
    campaign: Campaign, count: int, broker: Broker, settings: StageSettings, record: Path
) -> dict[str, Any]:
    """Send the exposures of some sets through one worker; return what a message cost."""
    stop = threading.Event()
    record.unlink(missing_ok=True)
    before, numbers = campaign.exposures, range(campaign.exposures, campaign.exposures + count)
    for number in numbers:
        name = f"jw{number:08d}"
        content = ExposureAnnounced(exposure_id=name, uri="s3://fake/ramp", expected_exposures=10)
        broker.publish(Envelope.of(content, identity=content.exposure_id))
    times: list[float] = []

    def observe(event: WorkerEvent) -> None:
        if event.kind == "finished":
            times.append(time.perf_counter())
            if len(times) == count:
                stop.set()

    with JobProcesses(1, {"ingest": "scale_handler:handle"}, settings) as jobs:
        Worker("ingest", broker, jobs, observe).run(stop)
    campaign.exposures += count
    jobs_done = [json.loads(line) for line in record.read_text().splitlines()]
    return {
        "exposures": before,
        "messages_per_second": (count - 1) / (times[-1] - times[0]),
        "requests_median": statistics.median(each["requests"] for each in jobs_done),
        "requests_most": max(each["requests"] for each in jobs_done),
        "sets_seconds_median": statistics.median(each["seconds"] for each in jobs_done),
        "memory_mib": max(each["memory"] for each in jobs_done) / 1024**2,
        "sets": sum(each["sets"] for each in jobs_done),
    }


def plot(points: list[dict[str, Any]], path: Path) -> None:
    """Draw requests and seconds of a message against the number of exposures."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharex=True, layout="constrained")
    x = [max(1, point["exposures"]) for point in points]
    axes[0].semilogx(x, [point["requests_median"] for point in points], "o-", label="median")
    axes[0].semilogx(x, [point["requests_most"] for point in points], "^:", label="most")
    axes[0].set_ylabel("requests a message")
    axes[0].set_ylim(bottom=0)
    axes[0].legend()
    axes[1].loglog(x, [point["sets_seconds_median"] for point in points], "o-")
    axes[1].set_ylabel("seconds a message, sets and index")
    for axis in axes:
        axis.set_xlabel("exposures of the configuration")
        axis.grid(which="major", alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, and draw."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--exposures", type=int, default=2000, help="fill the store up to this number")
    options.add_argument("--messages", type=int, default=100, help="messages at each number, in tens")
    options.add_argument("--store", choices=["folder", "bucket"], default="folder")
    options.add_argument("--broker", choices=["rabbitmq", "memory"], default="rabbitmq")
    options.add_argument("--plot", type=Path)
    given = options.parse_args()
    points = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-scale-")))
        settings = stack.enter_context(settings_of(given.store, folder))
        broker = stack.enter_context(broker_of(given.broker, folder))
        record, campaign = folder / "record.jsonl", Campaign()
        stack.enter_context(recording_to(record))
        store = open_store(settings)
        stack.callback(store.close)
        for step in [step for step in STEPS if step < given.exposures] + [given.exposures]:
            filled(store, settings, campaign, step)
            points.append(stretch(campaign, given.messages, broker, settings, record))
            print(json.dumps(points[-1]), flush=True)
    if given.plot:
        plot(points, given.plot)


@contextmanager
def recording_to(record: Path) -> Iterator[None]:
    """Tell the job's process where to write what it took."""
    os.environ[RECORD] = str(record)
    yield
    del os.environ[RECORD]


if __name__ == "__main__":
    main()
