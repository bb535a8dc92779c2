"""What compose starts beside containers' own: its S3 server, its users, its demo; here as processes."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from nircam_darks.simulation.simulate import environment
from shared.broker.rabbitmq.management import Management
from shared.contracts.routing import BINDINGS
from support.ceph_server import PROGRAMS
from support.deployed_services import Service
from support.doing_without import do_without
from support.paths import ROOT
from support.rabbitmq_node import free_port

DEPLOY = ROOT / "deploy"

pytestmark = pytest.mark.xdist_group("ceph")


class Server:
    """deploy/s3/start.sh as compose runs it, on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.secrets = folder, folder / "secrets"
        self.endpoint = f"http://127.0.0.1:{free_port()}"
        self._monitor = f"127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the secrets that are not there, start, and return when it answers."""
        subprocess.run(["sh", DEPLOY / "compose" / "secrets.sh", self.secrets], check=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", DEPLOY / "s3" / "start.sh", self.folder / "data", self.secrets],
                env={
                    **os.environ,
                    "S3_ADDRESS": self.endpoint.removeprefix("http://"),
                    "MONITOR": self._monitor,
                    "DISK": "4G",
                    "RUN": str(self.folder / "run"),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"no S3 server:\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.5)

    def stop(self) -> int:
        """End it as `docker stop` does; return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        # Where its own children outlived it, they do not outlive this.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()

    def keys(self, user: str) -> dict[str, str]:
        lines = (self.secrets / f"s3-{user}").read_text().split()
        return dict(line.split("=", 1) for line in lines)

    def client(self, user: str) -> Any:
        named = {name.lower(): value for name, value in self.keys(user).items()}
        config = Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
        )
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", config=config, **named)

    def _answers(self) -> bool:
        with contextlib.suppress(BotoCoreError, ClientError, OSError):
            self.client("owner").list_buckets()
            return True
        return False


def _end_with_parent() -> None:
    # Where the tests themselves are killed nobody is left to stop it; the script then stops its servers.
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def script(path: str, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one of deploy's scripts as a container of compose does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DARKS_", "AWS_"))}
    return subprocess.run(
        [sys.executable, DEPLOY / path, *words],
        env={**kept, "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def make_buckets(server: Server) -> None:
    addresses = ("--raw", "darks/raw", "--products", "darks/products")
    named = {"DARKS_S3_ENDPOINT": server.endpoint, "DARKS_SETTINGS_FILE": str(server.secrets / "s3-owner")}
    done = script("s3/buckets.py", "apply", *addresses, **named)
    assert (done.returncode, done.stdout.endswith(": darks\n")) == (0, True), done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        do_without(f"no {', '.join(missing)}: sh deploy/install-servers.sh ceph")
    # The names of Unix sockets lie under it, and may not be long.
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    here = Server(folder)
    try:
        here.start()
        make_buckets(here)
        yield here
    finally:
        here.stop()
        shutil.rmtree(folder, ignore_errors=True)


def refused(act: Any, **named: Any) -> str:
    """The code with which the store refuses."""
    with pytest.raises(ClientError) as error:
        act(**named)
    return str(error.value.response["Error"]["Code"])


def test_the_server_keeps_what_it_has_and_takes_new_keys(server: Server) -> None:
    # Given a manifest that ingest put
    at = {"Bucket": "darks", "Key": "products/ingest/c/e/k/manifest.json"}
    server.client("ingest").put_object(**at, Body=b"first", IfNoneMatch="*")
    # Then none can be put in its place where there is one
    assert refused(server.client("ingest").put_object, **at, Body=b"second", IfNoneMatch="*") in (
        "PreconditionFailed",
        "412",
    )
    # When it is stopped, one user's keys are made anew, and it is started again
    old = server.client("ingest")
    assert server.stop() == 0
    (server.secrets / "s3-ingest").unlink()
    server.start()
    # Then what was there is there, for the new keys and not for the old ones
    assert server.client("ingest").get_object(**at)["Body"].read() == b"first"
    assert refused(old.get_object, **at) == "InvalidAccessKeyId"
    # And everybody else goes on as before
    assert server.client("darkref").get_object(**at)["Body"].read() == b"first"
    assert refused(server.client("noise").delete_object, **at) == "AccessDenied"
    # And making the buckets once more changes nothing
    make_buckets(server)


@pytest.mark.slow
def test_the_demo_ends_with_references_in_the_bucket(server: Server, rabbit_node, tmp_path) -> None:
    # Given a broker with compose's users, made in compose's order
    vhost, secrets = f"demo-{uuid.uuid4().hex[:8]}", server.secrets
    admin = rabbit_node.settings(vhost)
    at_broker = {
        "DARKS_BROKER_URL": f"amqp://{rabbit_node.host}:{rabbit_node.port}/{vhost}",
        "DARKS_BROKER_MANAGEMENT_URL": admin.management_url.get_secret_value(),
    }
    as_admin = {**at_broker, "DARKS_BROKER_URL": admin.url.get_secret_value()}

    def user(name: str) -> dict[str, str]:
        return {
            **at_broker,
            "DARKS_BROKER_USER": name,
            "DARKS_BROKER_PASSWORD_FILE": str(secrets / f"broker-{name}"),
            "DARKS_SETTINGS_FILE": str(secrets / f"s3-{name}"),
            "DARKS_STORE": "s3://darks/products",
            "DARKS_S3_ENDPOINT": server.endpoint,
            "DARKS_ALLOWED_SOURCES": '["s3://darks/raw/"]',
        }

    with contextlib.ExitStack() as stack:
        api = Management(rabbit_node.settings())
        stack.callback(api.delete, "vhosts", vhost)
        for words in (("--user", "topology"), ()):
            done = script("rabbitmq/users.py", secrets, *words, **as_admin)
            assert done.returncode == 0, done.stderr
            if words:
                apply = [Path(sys.executable).with_name("nircam-darks"), "topology", "apply"]
                topology = {**user("topology")}
                topology.pop("DARKS_SETTINGS_FILE")
                subprocess.run(apply, env={**os.environ, **topology}, check=True, capture_output=True)
        # And the services, with the references that the demo will simulate
        crds = tmp_path / "crds"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DARKS_", "AWS_"))}
        for name in BINDINGS:
            settings = {
                **kept,
                **user(name),
                **environment(crds / "crds_cache"),
                "AWS_EC2_METADATA_DISABLED": "true",
                "NUMBA_NUM_THREADS": "1",
                "DARKS_HTTP_HOST": "127.0.0.1",
                "DARKS_HTTP_PORT": "0",
            }
            service = Service(name, tmp_path / name, settings)
            stack.callback(service.kill)
            service.start()
        # When the demo is run
        done = script("compose/demo.py", crds, **user("operator"))
        # Then it ends with a reference of each configuration, and says where it is
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("reference of ") == 2
        assert "s3://darks/products/darkref/" in done.stdout
    for name in BINDINGS:
        api.delete("users", name)
