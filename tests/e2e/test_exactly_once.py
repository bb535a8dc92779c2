"""Exposures through the services while everything that can break is broken: each has its effect once.

24 exposures where nothing else is said, so that it takes some two minutes; `--exposures 200` is the full run,
whose figures are in docs/reliability.md.
"""

import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nircam_darks.operations.candidates import Candidate, peek
from nircam_darks.simulation.simulate import SimulationPlan, simulate
from shared.contracts.routing import BINDINGS
from shared.store.local import LocalStore
from shared.store.manifest import MANIFEST, find_all, sweep
from support.bad_line import KINDS, bad_line
from support.ceph_server import Ceph
from support.deployed_services import Deployment, Service, deployed
from support.paths import TESTS
from support.rabbitmq_node import RabbitNode
from support.running import Run, run_darks
from support.same_products import STAGES, essence

pytestmark = [pytest.mark.xdist_group("ceph"), pytest.mark.slow]

FAULT_POINTS = TESTS / "support" / "fault_points"
#: Two of ingest, so that two may finish the last two exposures of a set at once.
SERVICES = ("ingest", "ingest", "darkref", "noise")
POINTS = [f"{when}-{what}" for what in ("put", "commit", "publish", "ack") for when in ("before", "after")]
#: Seconds for all of it; each exposure of a larger run is granted more.
PATIENCE, PATIENCE_EACH = 360.0, 12.0
#: Sets of these, one after the other, until there are enough exposures.
MANY, FEW = 10, 6
#: A window in which no exposure reaches into the next one: announced out of order, each exposure would take
#: up the state of those that happened to come before it, as it should.
PERSISTENCE_TIME = "1"


@dataclass(frozen=True)
class Campaign:
    """Exposures in sets of six or ten, and what one undisturbed process makes of them."""

    candidates: list[Candidate]
    crds_path: Path
    undisturbed: Run


@pytest.fixture(scope="module")
def exposures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    number = request.config.getoption("--exposures")
    size = MANY if number >= 100 else FEW
    kinds = [
        (detector, ngroups)
        for ngroups in range(6, 11)
        for detector in ("NRCALONG", "NRCBLONG", "NRCB1", "NRCA3")
    ]
    plans = [
        SimulationPlan(detector, "SUB64P", ngroups=ngroups, exposures=size)
        for detector, ngroups in kinds[: max(1, number // size)]
    ]
    made = simulate(plans, tmp_path_factory.mktemp("campaign"))
    out = tmp_path_factory.mktemp("undisturbed") / "results"
    run = run_darks(
        made.files[0].parent, "--persistence-time", PERSISTENCE_TIME, out=out, within=400.0 + 5.0 * number
    )
    assert run.code == 0, run.text
    return Campaign([peek(path) for path in made.files], made.crds_path, run)


@dataclass
class Injector:
    """Kills services at planned points, and does worse when so many messages were finished.

    Attributes
    ----------
    done : Counter of str
        What was done, by kind.
    """

    here: Deployment
    folder: Path
    events: list[tuple[int, str, Callable[[], None]]]
    rng: random.Random
    kills_each: int
    done: Counter[str] = field(default_factory=Counter)
    _planned: dict[str, list[str]] = field(default_factory=dict)
    _finished: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        points = [point for _ in self.here.services for point in POINTS]
        for number, service in enumerate(self.here.services):
            # Between them they come to every point, however few there are for each.
            own = points[number * self.kills_each :][: self.kills_each]
            self._planned[service.label] = self.rng.sample(own, len(own))

    def step(self) -> None:
        """Start again what was killed, plan the next kill of those that got on since, do what is due."""
        for service in self.here.services:
            if service.exit_code is not None:
                assert service.exit_code == -signal.SIGKILL, f"it ended by itself\n{service.tail()}"
                self.done["kills"] += 1
                service.start()
            self._plan(service)
        if self.events and self.finished >= self.events[0][0]:
            _, kind, happen = self.events.pop(0)
            self.done[kind] += 1
            happen()

    @property
    def finished(self) -> int:
        return sum(service.outcomes()["finished"] for service in self.here.services)

    @property
    def through(self) -> bool:
        """Whether all that was planned has happened."""
        return not self.events and not any(self._planned.values()) and not list(self.folder.glob("*.*-*"))

    def _plan(self, service: Service) -> None:
        if not self._planned[service.label] or list(self.folder.glob(f"{service.label}.*")):
            return
        # One kill a message at most: five would make it a dead letter, as they should.
        finished = service.outcomes()["finished"]
        if finished > self._finished.get(service.label, -1):
            self._finished[service.label] = finished
            (self.folder / f"{service.label}.{self._planned[service.label].pop()}").touch()


@contextlib.contextmanager
def store_away(ceph: Ceph) -> Iterator[None]:
    ceph.kill_gateway()
    try:
        yield
    finally:
        ceph.start_gateway()


@contextlib.contextmanager
def broker_frozen(node: RabbitNode) -> Iterator[None]:
    """It accepts connections, and says nothing."""
    node.send(signal.SIGSTOP)
    try:
        yield
    finally:
        node.send(signal.SIGCONT)


def outages(
    injector: Injector, node: RabbitNode, ceph: Ceph, seconds: float
) -> list[tuple[float, str, Callable[[], None]]]:
    """What breaks besides processes: after so many finished messages an exposure, what, how."""
    vhost = injector.here.broker.settings.vhost

    def restart_broker(how: signal.Signals) -> None:
        node.stop_server(how)
        node.start()

    def hold(state: contextlib.AbstractContextManager[None]) -> None:
        with state:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                injector.step()
                time.sleep(0.2)

    return [
        (0.2, "connections cut", lambda: node.cut(vhost)),
        (0.4, "broker restarted", lambda: restart_broker(signal.SIGTERM)),
        (0.65, "store away", lambda: hold(store_away(ceph))),
        (0.9, "broker frozen", lambda: hold(broker_frozen(node))),
        (1.0, "connections cut", lambda: node.cut(vhost)),
        (1.3, "broker killed", lambda: restart_broker(signal.SIGKILL)),
        (1.6, "connections cut", lambda: node.cut(vhost)),
    ]


def test_exposures_have_their_effect_once_whatever_breaks(
    rabbit_node, ceph, exposures: Campaign, tmp_path, record_property
) -> None:
    rng = random.Random(1062)
    faults = tmp_path / "faults"
    (faults / "done").mkdir(parents=True)
    candidates = exposures.candidates
    is_full = len(candidates) >= 100
    with (
        bad_line(ceph.endpoint, every=60, burst_every=8, kinds=KINDS) as line,
        deployed(
            rabbit_node,
            ceph,
            candidates,
            exposures.crds_path,
            tmp_path,
            SERVICES,
            PYTHONPATH=str(FAULT_POINTS),
            DARKS_TEST_FAULTS=str(faults),
            DARKS_PERSISTENCE_TIME=PERSISTENCE_TIME,
            DARKS_S3_ENDPOINT=line.endpoint,
        ) as here,
    ):
        injector = Injector(here, faults, [], rng, kills_each=len(POINTS) if is_full else 2)
        injector.events = [
            (int(share * len(candidates)), kind, happen)
            for share, kind, happen in outages(injector, rabbit_node, ceph, 20.0 if is_full else 6.0)
        ]
        # Given every announcement twice, in any order, and in each queue a message that nobody can read
        for routing_key in ("exposure.announced", "set.ready"):
            here.broker.publish_body(routing_key, b"planted")
        twice = here.announcements * 2
        rng.shuffle(twice)
        for announcement in twice:
            here.broker.publish(announcement)
        started = time.monotonic()
        for service in here.services:
            service.start()
        # When services are killed at every named point, and broker, store, connections and the line break
        deadline = started + PATIENCE + PATIENCE_EACH * len(candidates)
        while not (injector.through and committed(here) >= wanted(here) and here.idle()):
            injector.step()
            assert time.monotonic() < deadline, (injector.done, list(faults.iterdir()), here.ready())
            time.sleep(0.2)
        seconds = time.monotonic() - started
        here.stop()
        result = essence(here.store)
        dead = here.dead_letters()
        outcomes = here.outcomes()
        swept = sum(sweep(here.store, stage) for stage in STAGES)
        named = {
            entry.key
            for stage in STAGES
            for manifest in find_all(here.store, stage)
            for entry in manifest.objects
        }
        left = [key for stage in STAGES for key in here.store.list(stage) if not key.endswith(f"/{MANIFEST}")]
    figures = {
        "exposures": len(candidates),
        "announcements": len(twice),
        **injector.done,
        "requests of the store": line.requests,
        "spoilt": dict(sorted(line.done.items())),
        "products": len(result),
        "objects left by killed attempts": swept,
        "received": outcomes["received"],
        "finished": outcomes["finished"],
        "seconds": round(seconds),
    }
    record_property("figures", str(figures))
    print(f"exactly once: {figures}")
    # Then nothing was lost, nothing doubled and nothing is wrong: the products are those of one undisturbed
    # process, bit for bit
    expected = essence(LocalStore(exposures.undisturbed.out))
    assert result.keys() == expected.keys()
    different = [path for path, product in result.items() if product != expected[path]]
    assert different == []
    assert len(dead) == len(BINDINGS), dead
    for queue, said in zip(sorted(BINDINGS), sorted(dead), strict=True):
        assert said.startswith(f"{queue}: the message is not JSON")
    # And what killed attempts left was told from what a manifest names, and nothing else was removed
    assert set(left) == named
    # And everything that was planned did happen
    assert injector.done["kills"] == len(SERVICES) * injector.kills_each
    assert not injector.events
    assert set(line.done) == set(KINDS)


def committed(here: Deployment) -> int:
    return sum(key.endswith(f"/{MANIFEST}") for stage in STAGES for key in here.store.list(stage))


def wanted(here: Deployment) -> int:
    # Each ramp leaves a persistence state too.
    return sum(here.wanted.values()) + here.wanted["ramp"]
