"""The services over a real RabbitMQ and a real bucket, each with its own user and no right too many."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from nircam_darks.operations.candidates import peek
from nircam_darks.simulation.simulate import environment
from shared.broker.rabbitmq import RabbitBroker
from shared.contracts.messages import Envelope
from shared.contracts.routing import BINDINGS
from shared.store.manifest import MANIFEST
from support.deployed_services import Deployment, Service, deployed
from support.least_rights import BrokerUsers, StoreUsers

pytestmark = pytest.mark.xdist_group("ceph")

ROLES = ("ingest", "darkref", "noise", "operator", "sweep", "trigger", "reader")


class Users:
    """The users of one deployment, at its broker and in its bucket."""

    def __init__(self, broker: BrokerUsers, store: StoreUsers) -> None:
        self.broker, self.store = broker, store

    def variables(self, at_broker: str, at_store: str) -> dict[str, str]:
        """The environment of a program that is one user at the broker and one at the store."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("DARKS_")},
            "DARKS_STORE": f"s3://{self.store.bucket}/products",
            "DARKS_S3_ENDPOINT": self.store.ceph.endpoint,
            "DARKS_ALLOWED_SOURCES": json.dumps([f"s3://{self.store.bucket}/raw/"]),
            **self.broker.variables(at_broker),
            **self.store.variables(at_store),
        }

    def command(
        self, *words: str, at_broker: str = "operator", at_store: str = "operator"
    ) -> subprocess.CompletedProcess[str]:
        """Run `nircam-darks` as these users."""
        return subprocess.run(
            [Path(sys.executable).with_name("nircam-darks"), *words],
            env=self.variables(at_broker, at_store),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def candidates(campaign):
    """One short-wave set, and one of four long-wave exposures."""
    short = [path for path in campaign.files if "nrcb1" in path.name]
    long = [path for path in campaign.files if "nrcalong" in path.name]
    return [peek(path) for path in (*short, *long[:4])]


@pytest.fixture(scope="module")
def here(rabbit_node, ceph, candidates, campaign, tmp_path_factory) -> Iterator[tuple[Deployment, Users]]:
    folder = tmp_path_factory.mktemp("least")
    passwords = tmp_path_factory.mktemp("passwords")
    with (
        deployed(rabbit_node, ceph, candidates, campaign.crds_path, folder, names=()) as deployment,
        pytest.MonkeyPatch.context() as patch,
    ):
        bucket = deployment.announcements[0].content.uri.split("/")[2]
        broker = BrokerUsers(rabbit_node, deployment.broker.settings.vhost, passwords)
        store = StoreUsers(ceph, bucket, ROLES)
        users = Users(broker, store)
        try:
            broker.make()
            store.make()
            # What services put is theirs, even to the bucket's owner: this process reads as others do.
            for variable, value in store.variables("reader").items():
                patch.setenv(variable, value)
            # boto3's session, which all clients of a process share, remembers those of earlier tests.
            patch.setattr(boto3, "DEFAULT_SESSION", None)
            for name in BINDINGS:
                settings = {
                    **users.variables(name, name),
                    **environment(campaign.crds_path),
                    "NUMBA_NUM_THREADS": "1",
                    "DARKS_HTTP_HOST": "127.0.0.1",
                    "DARKS_HTTP_PORT": "0",
                    "DARKS_VERIFY": "true",
                }
                deployment.services.append(Service(name, folder / name, settings))
            yield deployment, users
        finally:
            for service in deployment.services:
                service.kill()
            store.remove()
            broker.remove()


def test_each_service_does_its_whole_work_with_its_own_rights(here: tuple[Deployment, Users]) -> None:
    # Given services that each have a user of their own, at the broker and in the bucket
    deployment, users = here
    for service in deployment.services:
        service.start()
    # When the archive's user announces exposures, one of them no FITS file
    content = deployment.announcements[0].content
    users.store.ceph.client().put_object(Bucket=users.store.bucket, Key="raw/odd.fits", Body=b"no FITS")
    odd = content.model_copy(
        update={"uri": f"s3://{users.store.bucket}/raw/odd.fits", "exposure_id": "odd", "size": None}
    )
    with contextlib.closing(RabbitBroker(users.broker.settings("trigger"))) as trigger:
        for announcement in deployment.announcements:
            trigger.publish(announcement)
        trigger.publish(Envelope.of(odd, identity=odd.uri))
    deployment.wait_until_all_is_done()
    # Then every product is there and nothing was given up
    assert deployment.dead_letters() == []
    assert deployment.wanted.items() <= deployment.committed().items()
    assert deployment.committed()["rejection"] == 1
    # And an operator sees it all
    status = users.command("status", "--json")
    assert status.returncode == 0, status.stderr
    deployment.stop()


def test_only_the_sweeper_removes_what_killed_attempts_left(here: tuple[Deployment, Users]) -> None:
    # Given a store with products, in which a killed attempt left half of one
    deployment, users = here
    left = f"noise/x/y/{'0' * 32}/12345678/x.json"
    users.store.client("noise").put_object(Bucket=users.store.bucket, Key=f"products/{left}", Body=b"half")
    before = {key for key in deployment.store.list("") if key.endswith(f"/{MANIFEST}")}
    assert before
    # When an operator sweeps who is none at the store
    refused = users.command("reconcile", "--sweep", "--json")
    # Then the store refuses that, and says so
    assert refused.returncode != 0
    assert "access is denied" in refused.stderr
    assert left in deployment.store.list("noise/x/")
    # But one with the sweeper's credentials may
    swept = users.command("reconcile", "--sweep", "--json", at_store="sweep")
    assert swept.returncode == 0, swept.stderr
    assert json.loads(swept.stdout.splitlines()[-1])["summary"]["swept"] == 1
    assert left not in deployment.store.list("noise/x/")
    assert before == {key for key in deployment.store.list("") if key.endswith(f"/{MANIFEST}")}


@pytest.mark.parametrize(
    ("at_broker", "at_store", "code", "said"),
    [("noise", "darkref", 3, "refuses"), ("darkref", "reader", 4, "access is denied")],
)
def test_a_service_with_another_ones_rights_does_not_start(
    here: tuple[Deployment, Users],
    campaign,
    tmp_path: Path,
    at_broker: str,
    at_store: str,
    code: int,
    said: str,
) -> None:
    # Given darkref with a user of another service, or one that may only read
    _, users = here
    settings = {
        **users.variables(at_broker, at_store),
        **environment(campaign.crds_path),
        "DARKS_HTTP_HOST": "127.0.0.1",
        "DARKS_HTTP_PORT": "0",
    }
    darkref = Service("darkref", tmp_path / "darkref", settings)
    darkref.start()
    # Then it ends with the code that says who refused, and the log says what
    try:
        deadline = time.monotonic() + 60
        while darkref.exit_code is None and time.monotonic() < deadline:
            time.sleep(0.5)
        assert darkref.exit_code == code, darkref.tail()
        assert said in darkref.log.read_text()
    finally:
        darkref.kill()
