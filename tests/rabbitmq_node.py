"""A RabbitMQ of the tests' own: private name, ports, folders and cookie, on the loopback only."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shared.broker.rabbitmq import BrokerSettings
from shared.broker.rabbitmq.management import Management
from shared.errors import DarksError

START_SECONDS = 90.0
# Debian's program in sbin insists on being its own service user; the one beside it does not.
# DARKS_TEST_RABBITMQ_BIN names the folder of another version's programs.
FOLDERS = (os.environ.get("DARKS_TEST_RABBITMQ_BIN", "/usr/lib/rabbitmq/bin"), os.environ.get("PATH", ""))


def rabbitmq_program(name: str) -> str:
    """Return the path of one of RabbitMQ's programs; without it skip, or fail where CI=true."""
    found = shutil.which(name, path=os.pathsep.join(FOLDERS))
    if found is None or shutil.which("epmd") is None:
        missing = f"{name} is not installed: sh deploy/install-servers.sh rabbitmq"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass
class RabbitNode:
    """One node, started and stopped by its pid."""

    folder: Path
    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    management_port: int = field(default_factory=free_port)
    _epmd: Any = None
    _server: Any = None

    def __post_init__(self) -> None:
        self._program = rabbitmq_program("rabbitmq-server")
        self._ctl = rabbitmq_program("rabbitmqctl")
        for name in ("home", "mnesia", "log"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        cookie = self.folder / "home" / ".erlang.cookie"
        cookie.write_text(uuid.uuid4().hex)
        cookie.chmod(0o400)
        self._make_certificates()
        self._environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.folder / "home"),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"darks-{uuid.uuid4().hex[:8]}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +A 8 +sbwt none"
            ),
        }
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"management.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self.management_port}\n"
            f"listeners.ssl.default = 127.0.0.1:{self.tls_port}\n"
            f"ssl_options.cacertfile = {self.ca_file}\n"
            f"ssl_options.certfile = {self.folder / 'server.pem'}\n"
            f"ssl_options.keyfile = {self.folder / 'server.key'}\n"
            "ssl_options.verify = verify_none\n"
            "vm_memory_high_watermark.absolute = 512MB\n"
            "disk_free_limit.absolute = 50MB\n"
        )

    @property
    def ca_file(self) -> Path:
        return self.folder / "server.pem"

    def start(self) -> None:
        """Start, or start again on the same data; return when it serves."""
        if self._epmd is None:
            port = self._environment["ERL_EPMD_PORT"]
            self._epmd = self._popen([shutil.which("epmd"), "-port", port, "-address", "127.0.0.1"], "epmd")
        self._server = self._popen([self._program], "server")
        deadline = time.monotonic() + START_SECONDS
        while not self._serves():
            if self._server.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "server.log").read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"RabbitMQ did not start:\n{said}")
            time.sleep(0.1)

    def stop_server(self, with_signal: int = signal.SIGTERM) -> None:
        """Stop the node, by default as an operator would; its data stay."""
        self._end(self._server, with_signal)
        self._server = None

    def send(self, with_signal: int) -> None:
        """Signal the node's processes (SIGSTOP, SIGCONT)."""
        os.killpg(self._server.pid, with_signal)

    def stop(self) -> None:
        """Stop everything."""
        self.stop_server(signal.SIGKILL)
        self._end(self._epmd, signal.SIGKILL)
        self._epmd = None

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl."""
        done = subprocess.run(
            [self._ctl, *arguments],
            env=self._environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    def settings(self, vhost: str = "/", **others: Any) -> BrokerSettings:
        return BrokerSettings(
            **{
                "url": f"amqp://guest:guest@127.0.0.1:{self.port}/{vhost.replace('/', '%2F')}",
                "management_url": f"http://127.0.0.1:{self.management_port}",
                **others,
            }
        )

    @contextlib.contextmanager
    def new_vhost(self) -> Iterator[str]:
        api, name = Management(self.settings()), uuid.uuid4().hex[:8]
        api.put("vhosts", name, body={})
        api.put("permissions", name, "guest", body={"configure": ".*", "write": ".*", "read": ".*"})
        try:
            yield name
        finally:
            api.delete("vhosts", name)

    def cut(self, vhost: str) -> None:
        """Close every connection to a virtual host."""
        # The management API knows a connection only after some seconds.
        self.ctl("close_all_connections", "--vhost", vhost, "cut by a test")

    def _serves(self) -> bool:
        try:
            overview = Management(self.settings()).get("overview")
            with socket.create_connection(("127.0.0.1", self.port), 1.0):
                return bool(overview)
        except (DarksError, OSError):
            return False

    def _popen(self, command: list[Any], name: str) -> Any:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                env=self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _end(self, process: Any, with_signal: int) -> None:
        if process is None:
            return
        for each in (with_signal, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, each)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
                break
        # The group may outlive its first process.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def _make_certificates(self) -> None:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
                *("-keyout", "server.key", "-out", "server.pem"),
            ],
            cwd=self.folder,
            capture_output=True,
            check=True,
        )
