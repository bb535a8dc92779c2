"""The commands of operators against a real broker: what waits there, and who may sweep."""

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nircam_darks.cli.main import app
from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.topology import apply
from shared.settings.broker import BrokerSettings
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from support.arrivals import Exposure, Ingest
from support.rabbitmq_node import RabbitNode

pytestmark = pytest.mark.xdist_group("rabbitmq")


@pytest.fixture
def broker(rabbit_node: RabbitNode, tmp_path: Path, monkeypatch) -> Iterator[RabbitBroker]:
    """A broker with our queues; it and a store in a folder are named in the environment."""
    (tmp_path / "store").mkdir()
    with rabbit_node.new_vhost() as vhost:
        settings: BrokerSettings = rabbit_node.settings(vhost)
        apply(settings)
        monkeypatch.setenv("DARKS_BROKER_URL", settings.url.get_secret_value())
        if settings.management_url is not None:
            monkeypatch.setenv("DARKS_BROKER_MANAGEMENT_URL", settings.management_url.get_secret_value())
        monkeypatch.setenv("DARKS_STORE", str(tmp_path / "store"))
        monkeypatch.setenv("DARKS_ALLOWED_SOURCES", json.dumps([tmp_path.as_uri()]))
        with contextlib.closing(RabbitBroker(settings)) as broker:
            yield broker


def command(*words: str, code: int = 0) -> list[dict]:
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def waiting(name: str) -> tuple[int, int]:
    document = json.loads(CliRunner().invoke(app, ["status", "--json"]).stdout)
    assert document["broker_problem"] is None
    [queue] = [queue for queue in document["queues"] if queue["name"] == name]
    return queue["ready"], queue["consumers"]


def test_a_backfill_waits_while_ingest_has_enough_to_do(broker: RabbitBroker, tmp_path: Path) -> None:
    # Given twelve exposures, and nobody who takes them
    for n in range(12):
        path = tmp_path / "inbox" / f"e{n:02d}_uncal.fits"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    output: list[list[dict]] = []
    thread = threading.Thread(
        target=lambda: output.append(command("backfill", str(tmp_path / "inbox"), "--max-ready", "5"))
    )
    # When they are announced, with five waiting at most
    thread.start()
    thread.join(3.0)
    # Then it waits with five, and goes on once they are taken
    assert thread.is_alive()
    assert waiting("ingest") == (5, 0)
    with contextlib.closing(broker.consume("ingest", prefetch=100)) as consumer:
        taken = 0
        while taken < 12:
            delivery = consumer.poll(30.0)
            assert delivery is not None
            consumer.ack(delivery)
            taken += 1
    thread.join(30.0)
    assert output[0][-1] == {"summary": {"announced": 12, "passed": 0}}


def test_what_is_missing_reaches_its_queue_and_nothing_is_swept_under_a_consumer(
    broker: RabbitBroker, tmp_path: Path
) -> None:
    # Given a ramp without its noise, and what a killed attempt left
    store = LocalStore(tmp_path / "store")
    bench = Ingest(store, StageSettings(store=tmp_path / "store"))
    bench.redate(bench.ramp(Exposure("a")).path, 700)
    left = f"noise/x/y/{'0' * 32}/12345678/x.json"
    store.put(left, b"half")
    # When a worker is attached
    with contextlib.closing(broker.consume("noise")) as consumer:
        result = CliRunner().invoke(app, ["reconcile", "--sweep"])
        # Then nothing is swept, and nothing said
        assert result.exception.where == "noise: 1"
        assert left in set(store.list("noise/"))
        assert consumer.poll(0.2) is None
    # When none is
    gap, last = command("reconcile", "--sweep")
    # Then it is, and the noise is asked for
    assert (gap["kind"], last["summary"]["announced"], last["summary"]["swept"]) == ("noise", 1, 1)
    assert left not in set(store.list("noise/"))
    assert waiting("noise") == (1, 0)
