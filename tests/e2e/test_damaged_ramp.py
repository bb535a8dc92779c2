"""A ramp that was damaged in the store, met by darkref and noise as they run: told, and built once mended."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from nircam_darks.operations.dead_letters import replay
from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.topology import apply
from shared.contracts.messages import Envelope
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.configurations import configuration
from support.flipping_store import byte_of_pixel
from support.noise_sets import put_ramp, set_ready, white_ramps
from support.rabbitmq_node import RabbitNode
from support.steady_services import Service, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("rabbitmq")]

MADE = {"darkref": "reference", "noise": "set-noise"}


class Bench:
    """darkref and noise on one broker and one store, with a set of three exposures that waits for both."""

    def __init__(self, node: RabbitNode, vhost: str, folder: Path) -> None:
        self.settings = node.settings(vhost)
        apply(self.settings)
        self.broker = RabbitBroker(self.settings)
        self.store = LocalStore(folder / "store")
        key = configuration(64, 64, 5)
        ramps = [white_ramps(key, 2, seed=number) for number in range(3)]
        self.ready: Envelope = set_ready(
            key, [put_ramp(self.store, folder, key, sci, number=n) for n, sci in enumerate(ramps, 1)]
        )
        self.services = {
            name: Service(
                name, f"services.{name}.handler:handle", self.settings, folder, DARKS_VERIFY="false"
            )
            for name in MADE
        }

    def products(self, service: str) -> list[str]:
        """The products that a service makes of a whole set."""
        return [each.path for each in find_all(self.store, f"{service}/") if each.product == MADE[service]]


@pytest.fixture
def bench(rabbit_node: RabbitNode, tmp_path: Path) -> Iterator[Bench]:
    with rabbit_node.new_vhost() as vhost:
        bench = Bench(rabbit_node, vhost, tmp_path)
        with contextlib.closing(bench.broker):
            try:
                for service in bench.services.values():
                    service.start()
                yield bench
            finally:
                for service in bench.services.values():
                    service.kill()


def test_a_damaged_ramp_is_a_dead_letter_and_the_set_is_built_once_it_is_mended(bench: Bench) -> None:
    # Given a set, and a bit of a ramp's pixels that was changed in the store
    entry = bench.ready.content.members[1].ramp
    file = bench.store.root / entry.key
    whole = file.read_bytes()
    place = byte_of_pixel(file, "SCI", 1, 2, 20, 20)
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    # When the services get the set
    bench.broker.publish(bench.ready)
    until(lambda: all(service.outcomes("dead-lettered") for service in bench.services.values()), "letters")
    # Then each gives it up at once, with a reason that names the object, the HDU, rows, group, integration
    for name in MADE:
        [letter] = bench.broker.dead_letters(name)
        assert letter.attempts == 1
        for words in (entry.key, "HDU SCI, rows 1 to 64 of group 3 of integration 2"):
            assert words in letter.reason
        assert bench.services[name].outcomes("retried") == []
        [line] = bench.services[name].outcomes("dead-lettered")
        assert line["error"] == "DamagedObject"
        # And nothing is built of the set
        assert bench.products(name) == []
    # When the ramp is put back as it was, and the dead letters are replayed
    file.write_bytes(whole)
    replayed = list(replay(bench.settings, list(MADE), None))
    assert len(replayed) == len(MADE)
    # Then the products are made
    until(lambda: all(bench.products(name) for name in MADE), "the products of the set")
    until(lambda: all(service.outcomes("finished") for service in bench.services.values()), "both acks")
    assert [len(bench.products(name)) for name in MADE] == [1, 1]
    assert [bench.broker.dead_letters(name) for name in MADE] == [[], []]
