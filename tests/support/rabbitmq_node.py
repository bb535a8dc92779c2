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
from typing import IO, Any

import pytest

from shared.broker.rabbitmq import BrokerSettings
from shared.broker.rabbitmq.management import Management
from shared.errors import DarksError
from support.doing_without import do_without
from support.paths import SERVERS

START_SECONDS = 90.0
# Debian's program in sbin insists on being its own service user; the one beside it does not.
# DARKS_TEST_RABBITMQ_BIN names the folder of another version's programs.
FOLDERS = (os.environ.get("DARKS_TEST_RABBITMQ_BIN", "/usr/lib/rabbitmq/bin"), os.environ.get("PATH", ""))
#: Where deploy/install-servers.sh puts the systems that hold other versions.
#: Parameters of a fixture: this machine's RabbitMQ, and the newer ones. The tests of one server share a
#: worker of pytest-xdist, and so the server.
VERSIONS = [
    pytest.param(None, id="rabbitmq", marks=pytest.mark.xdist_group("rabbitmq")),
    *(
        pytest.param(
            version,
            id=f"rabbitmq-{version}",
            marks=[pytest.mark.slow, pytest.mark.xdist_group(f"rabbitmq-{version}")],
        )
        for version in ("4.0", "4.3")
    ),
]
# A system's root has its own mounts, which end with the last process that sees them; the node's folder is
# at /mnt in it.
_IN_SYSTEM = (
    'mount -t proc proc "$1/proc" && mount --bind "$2" "$1/mnt" && '
    'root=$1 && shift 2 && exec chroot "$root" "$@"'
)

# A dead-letter worker whose queue is deleted while the worker starts is started again, and fails again, a
# hundred times in a second. Then RabbitMQ's supervisor of all such workers gives up, and from there on no
# queue that dead-letters at least once can be declared on it (rabbitmq-server issue 16652). So leaders,
# with which workers start, are awaited before a virtual host is deleted; a queue may stay without one.
_AWAIT_LEADERS = """
Late = fun() ->
  [Q || Q <- rabbit_amqqueue:list(<<"%s">>),
        is_tuple(amqqueue:get_pid(Q)),
        ra_leaderboard:lookup_leader(element(1, amqqueue:get_pid(Q))) =:= undefined]
end,
Wait = fun Wait(0) -> late; Wait(N) ->
  case Late() of [] -> ok; _ -> timer:sleep(100), Wait(N - 1) end
end,
Wait(50), timer:sleep(500).
"""
_KEEP_SUPERVISOR = """
case whereis(rabbit_fifo_dlx_sup) of
  undefined -> supervisor:restart_child(rabbit_sup, rabbit_fifo_dlx_sup);
  _ -> ok
end.
"""


def rabbitmq_program(name: str) -> str:
    """Return the path of one of RabbitMQ's programs; without it skip, or fail where CI=true."""
    program = shutil.which(name, path=os.pathsep.join(FOLDERS))
    if program is None or shutil.which("epmd") is None:
        do_without(f"{name} is not installed: sh deploy/install-servers.sh rabbitmq")
    return program


def rabbitmq_system(version: str) -> Path:
    """Return the root of the system that holds a version; without it skip, or fail where CI=true."""
    root = SERVERS / f"rabbitmq-{version}"
    if not root.is_dir():
        do_without(
            f"RabbitMQ {version} is not installed: sh deploy/install-servers.sh rabbitmq-{version} (as root)"
        )
    if os.geteuid() != 0:
        do_without(f"RabbitMQ {version} runs in a root folder of its own, which only root may enter")
    return root


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class _Group:
    """A process and what it starts, as one process group that does not outlive the tests."""

    def __init__(self, command: list[Any], environment: dict[str, str], folder: Path, log: IO[bytes]) -> None:
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        # Its input ends when the tests do, even if they are killed.
        self._guard = subprocess.Popen(
            ["sh", "-c", 'read _; kill -s KILL -- "-$1"', "guard", str(self.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def end(self, with_signal: int) -> None:
        """Signal the group and wait for its end, which is by force after 30 s."""
        for each in (with_signal, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, each)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
                break
        # The group may outlive its first process.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._guard.kill()
        self._guard.communicate()


def _stands_still(group: int) -> bool:
    """Whether every thread of a process group is stopped (or its process over)."""
    for task in Path("/proc").glob("[0-9]*/task/[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # Behind the command's name, which may hold anything: state, parent, process group.
            state, _, its_group = task.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "TtZX":
                return False
    return True


@dataclass
class RabbitNode:
    """One node, started and stopped by its pid.

    Attributes
    ----------
    system : Path or None
        Root of the system whose RabbitMQ it is; by default this machine's.
    host : str
        A loopback address.
    beside : RabbitNode or None
        A node, already started, that it can form a cluster with.
    """

    folder: Path
    system: Path | None = None
    host: str = "127.0.0.1"
    beside: "RabbitNode | None" = None
    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    management_port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    _epmd: _Group | None = None
    _server: _Group | None = None
    _starts: int = 0

    def __post_init__(self) -> None:
        self.name = f"darks-{uuid.uuid4().hex[:8]}@localhost"
        if self.system is None:
            self._program, self._ctl = map(rabbitmq_program, ("rabbitmq-server", "rabbitmqctl"))
            self._prefix, path, seen = [], os.environ["PATH"], self.folder
        else:
            self._program, self._ctl = (
                f"/usr/lib/rabbitmq/bin/{p}" for p in ("rabbitmq-server", "rabbitmqctl")
            )
            self._prefix = [
                "unshare",
                "--mount",
                "sh",
                "-c",
                _IN_SYSTEM,
                "in-system",
                self.system,
                self.folder,
            ]
            path, seen = "/usr/sbin:/usr/bin:/sbin:/bin", Path("/mnt")
        for name in ("home", "mnesia", "log"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        cookie = self.folder / "home" / ".erlang.cookie"
        cookie.write_text(self.beside.cookie if self.beside else uuid.uuid4().hex)
        cookie.chmod(0o400)
        self._make_certificates()
        self._environment = {
            "PATH": path,
            "LANG": "C.UTF-8",
            "HOME": str(seen / "home"),
            "ERL_EPMD_PORT": self.beside.epmd_port if self.beside else str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_IP_ADDRESS": self.host,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(seen / "mnesia"),
            "RABBITMQ_LOG_BASE": str(seen / "log"),
            "RABBITMQ_PID_FILE": str(seen / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(seen / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(seen / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +A 8 +sbwt none"
            ),
        }
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management,rabbitmq_prometheus].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"management.tcp.ip = {self.host}\n"
            f"management.tcp.port = {self.management_port}\n"
            f"prometheus.tcp.ip = {self.host}\n"
            f"prometheus.tcp.port = {self.metrics_port}\n"
            f"listeners.ssl.default = {self.host}:{self.tls_port}\n"
            f"ssl_options.cacertfile = {seen / 'server.pem'}\n"
            f"ssl_options.certfile = {seen / 'server.pem'}\n"
            f"ssl_options.keyfile = {seen / 'server.key'}\n"
            "ssl_options.verify = verify_none\n"
            "vm_memory_high_watermark.absolute = 512MB\n"
            "disk_free_limit.absolute = 50MB\n"
        )

    @property
    def ca_file(self) -> Path:
        return self.folder / "server.pem"

    @property
    def cookie(self) -> str:
        return (self.folder / "home" / ".erlang.cookie").read_text()

    @property
    def epmd_port(self) -> str:
        return self._environment["ERL_EPMD_PORT"]

    @property
    def version(self) -> str:
        """The version that it says it is, such as ``4.0.5``."""
        return Management(self.settings()).get("overview")["rabbitmq_version"]

    def start(self) -> None:
        """Start, or start again on the same data; return when it serves."""
        if self._epmd is None and self.beside is None:
            self._epmd = self._popen(["epmd", "-port", self.epmd_port, "-address", "127.0.0.1"], "epmd")
        self._server = self._popen([self._program], "server")
        self._starts += 1
        deadline = time.monotonic() + START_SECONDS
        while not self._serves():
            if self._server.poll() is not None or time.monotonic() > deadline:
                output = (self.folder / "server.log").read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"RabbitMQ did not start:\n{output}")
            time.sleep(0.1)

    def stop_server(self, with_signal: int = signal.SIGTERM) -> None:
        """Stop the node, by default as an operator would; its data stay."""
        self._end(self._server, with_signal)
        self._server = None

    def send(self, with_signal: int) -> None:
        """Signal the node's processes (SIGSTOP, SIGCONT); with the first, return when they stand still."""
        os.killpg(self._server.pid, with_signal)
        # Its threads stop one after the other, and a publish takes less than a millisecond.
        while with_signal == signal.SIGSTOP and not _stands_still(self._server.pid):
            time.sleep(0.001)

    def stop(self) -> None:
        """Stop everything."""
        self.stop_server(signal.SIGKILL)
        self._end(self._epmd, signal.SIGKILL)
        self._epmd = None

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl."""
        done = subprocess.run(
            [*self._prefix, self._ctl, *arguments],
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
                "url": f"amqp://guest:guest@{self.host}:{self.port}/{vhost.replace('/', '%2F')}",
                "management_url": f"http://{self.host}:{self.management_port}",
                **others,
            }
        )

    @contextlib.contextmanager
    def new_vhost(self) -> Iterator[str]:
        api, name = Management(self.settings()), uuid.uuid4().hex[:8]
        api.put("vhosts", name, body={})
        api.put("permissions", name, "guest", body={"configure": ".*", "write": ".*", "read": ".*"})
        starts = self._starts
        try:
            yield name
        finally:
            if self._starts != starts:
                # Queues of a node that was restarted elect their leaders anew.
                self.ctl("eval", _AWAIT_LEADERS % name)
            api.delete("vhosts", name)
            if self._starts != starts:
                self.ctl("eval", _KEEP_SUPERVISOR)

    def cut(self, vhost: str) -> None:
        """Close every connection to a virtual host."""
        # The management API knows a connection only after some seconds.
        self.ctl("close_all_connections", "--vhost", vhost, "cut by a test")

    def _serves(self) -> bool:
        try:
            overview = Management(self.settings()).get("overview")
            with socket.create_connection((self.host, self.port), 1.0):
                return bool(overview)
        except (DarksError, OSError):
            return False

    def _popen(self, command: list[Any], name: str) -> "_Group":
        with (self.folder / f"{name}.log").open("ab") as log:
            return _Group([*self._prefix, *command], self._environment, self.folder, log)

    def _end(self, group: "_Group | None", with_signal: int) -> None:
        if group is not None:
            group.end(with_signal)

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
