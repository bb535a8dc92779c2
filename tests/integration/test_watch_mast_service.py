"""`nircam-darks watch-mast` as a process of its own: killed, stopped, run as a service."""

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections import Counter

import pytest

from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.topology import apply
from shared.contracts.messages import parse
from support.mast_watching import WATCH, exposure
from support.running import command

pytestmark = pytest.mark.usefixtures("mast_environment")


@contextlib.contextmanager
def watching(*arguments, **environment):
    """Start the command as a service is started; give its process."""
    process = subprocess.Popen(
        command(*WATCH, *arguments),
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.xdist_group("rabbitmq")
def test_a_service_goes_on_after_a_kill_waits_for_the_archive_and_stops_when_asked(
    archive, rabbit_node, tmp_path
):
    archive.exposures = [exposure(1, day=2), exposure(2, day=3)]
    reached = threading.Event()
    held = threading.Event()

    def hold() -> None:
        reached.set()
        held.wait(60)

    # Given a home of its own, for what astroquery may write
    home = tmp_path / "home"
    home.mkdir()
    with rabbit_node.new_vhost() as vhost:
        apply(rabbit_node.settings(vhost))
        url = rabbit_node.settings(vhost).url.get_secret_value()
        environment = {"DARKS_BROKER_URL": url, "HOME": str(home)}
        # And a watch that is killed while it downloads the last of four files
        last = "jw01062001001_02101_00002_nrcblong_uncal.fits"
        archive.downloads[last] = hold
        with watching(**environment) as process:
            assert reached.wait(60)
            process.kill()
            process.wait()
        held.set()
        archive.downloads.clear()
        # When it is started as a service, at an archive that fails at first
        archive.faults = [503] * 4
        with watching("--every", "1", "--json", **environment) as process:
            lines = (json.loads(line) for line in process.stdout)
            events = []
            while sum(event["event"] == "round" for event in events) < 2:
                events.append(next(lines))
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        broker = RabbitBroker(rabbit_node.settings(vhost))
        consumer = broker.consume("ingest", prefetch=100)
        report = []
        while delivery := consumer.poll(0.5):
            report.append(parse(delivery.body))
            consumer.ack(delivery)
        broker.close()
    # Then it waited, announced what was open, and found nothing new in the next round
    assert [event["event"] for event in events] == ["away", "announced", "announced", "round", "round"]
    assert events[-1]["announced"] == 0
    # And only what was said and not yet noted was said again, under the same id
    counted = Counter(message.content.exposure_id for message in report)
    assert counted == {
        "jw01062001001_02101_00001_nrca1": 1,
        "jw01062001001_02101_00001_nrcblong": 1,
        "jw01062001001_02101_00002_nrca1": 2,
        "jw01062001001_02101_00002_nrcblong": 1,
    }
    assert len({message.id for message in report}) == 4
    assert list(home.iterdir()) == []


def test_stopped_while_it_waits_it_ends_at_once(archive, monkeypatch, tmp_path):
    reached, held = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        held.wait(60)

    archive.faults = [hold]
    with watching("--dry-run") as process:
        assert reached.wait(60)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert "run the same command again" in process.stderr.read()
    held.set()
