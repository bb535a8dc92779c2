"""The users of a deployment with exactly the rights that deploy/rabbitmq and deploy/s3 give them."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from shared.broker.rabbitmq import BrokerSettings, topology
from shared.broker.rabbitmq.management import Management
from support.ceph_server import Ceph
from support.paths import ROOT
from support.rabbitmq_node import RabbitNode

USERS = ROOT / "deploy" / "rabbitmq" / "users.py"
BUCKETS = ROOT / "deploy" / "s3" / "buckets.py"
BROKER_USERS = ("ingest", "darkref", "noise", "trigger", "topology", "operator", "monitor")


def script(path: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one of deploy's scripts as compose does, with these settings and no others of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DARKS_")}
    return subprocess.run(
        [sys.executable, path, *words],
        env={**kept, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass(frozen=True)
class BrokerUsers:
    """Users of a node, in one virtual host; `folder` has a file with the password of each."""

    node: RabbitNode
    vhost: str
    folder: Path

    def apply(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run users.py as the node's administrator."""
        admin = self.node.settings(self.vhost)
        return script(
            USERS,
            *(str(self.folder), *words),
            DARKS_BROKER_URL=admin.url.get_secret_value(),
            DARKS_BROKER_MANAGEMENT_URL=admin.management_url.get_secret_value(),
        )

    def make(self) -> None:
        """Make all of them, each with a password of its own."""
        for user in BROKER_USERS:
            (self.folder / f"broker-{user}").write_text(f"{secrets.token_hex(16)}\n")
        self._require(self.apply("--user", "topology"))
        topology.apply(self.settings("topology"))
        self._require(self.apply())

    def _require(self, done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, done.stderr

    def variables(self, user: str) -> dict[str, str]:
        """What a program of this user has in its environment."""
        return {
            "DARKS_BROKER_URL": f"amqp://{self.node.host}:{self.node.port}/{self.vhost}",
            "DARKS_BROKER_MANAGEMENT_URL": f"http://{self.node.host}:{self.node.management_port}",
            "DARKS_BROKER_USER": user,
            "DARKS_BROKER_PASSWORD_FILE": str(self.folder / f"broker-{user}"),
        }

    def settings(self, user: str) -> BrokerSettings:
        named = {
            name.removeprefix("DARKS_BROKER_").lower(): value for name, value in self.variables(user).items()
        }
        return BrokerSettings(**named)

    def remove(self) -> None:
        """Remove the users, and the virtual host with all that is in it."""
        api = Management(self.node.settings())
        for user in BROKER_USERS:
            api.delete("users", user)
        api.delete("vhosts", self.vhost)


@dataclass(frozen=True)
class StoreUsers:
    """Users of a Ceph, named as the policies that say what they may do in one bucket."""

    ceph: Ceph
    bucket: str
    roles: tuple[str, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        return "--raw", f"{self.bucket}/raw", "--products", f"{self.bucket}/products"

    def make(self) -> None:
        for role in self.roles:
            self._admin("user", "create", f"--uid={role}", f"--display-name={role}", *self._keys(role))
        done = script(BUCKETS, "apply", *self.addresses, DARKS_S3_ENDPOINT=self.ceph.endpoint)
        assert done.returncode == 0, done.stderr

    def variables(self, role: str) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": f"{role}-access", "AWS_SECRET_ACCESS_KEY": f"{role}-secret"}

    def client(self, role: str) -> Any:
        named = {name.lower(): value for name, value in self.variables(role).items()}
        return boto3.client(
            "s3",
            endpoint_url=self.ceph.endpoint,
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                request_checksum_calculation="when_required",
            ),
            **named,
        )

    def remove(self) -> None:
        for role in self.roles:
            self._admin("user", "rm", f"--uid={role}")

    def _keys(self, role: str) -> Iterable[str]:
        output = self.variables(role)
        return (f"--access-key={output['AWS_ACCESS_KEY_ID']}", f"--secret={output['AWS_SECRET_ACCESS_KEY']}")

    def _admin(self, *words: str) -> None:
        command = ("radosgw-admin", "-c", str(self.ceph.folder / "ceph.conf"), "-n", "client.rgw.a", *words)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
