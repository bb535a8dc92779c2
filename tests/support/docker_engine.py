"""A Docker of the tests' own: private socket and folder, no bridge, no rules for the firewall."""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from support.doing_without import do_without

TARGETS = ("ingest", "darkref", "noise", "cli")
PROGRAMS = ("dockerd", "containerd", "runc", "debootstrap", "unshare")
#: Debian's client; a machine may have another of that name that knows no BuildKit of this server.
CLIENT = "/usr/bin/docker"
#: Names a folder that stays, for whoever works on the images: what was built once is there the next time.
KEPT = "DARKS_TEST_DOCKER_FOLDER"
START_SECONDS = 30.0
#: Docker needs all three images' layers, the build's own and pip's unpacked packages for a moment.
ROOM = 12 * 1024**3


class Engine:
    """One server, started and stopped by its pid.

    Parameters
    ----------
    folder : Path
        Private to it, with a short path: its socket lies there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")},
            "DOCKER_HOST": f"unix://{folder}/sock",
            "DOCKER_CONFIG": str(folder / "client"),
            "DOCKER_BUILDKIT": "1",
        }

    def start(self, apart: bool = False) -> None:
        """Start it; return when it answers.

        Parameters
        ----------
        apart : bool
            In a network of its own, which leads nowhere. There it may make bridges, rules and ports as it
            likes, which this machine never sees; `network` enters it.
        """
        none = ("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [
                    *("dockerd", "--data-root", self.folder / "data", "--exec-root", self.folder / "exec"),
                    *("--pidfile", self.folder / "pid", "-H", f"unix://{self.folder}/sock"),
                    *("--bridge=none", *(() if apart else none)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_apart if apart else _die_with_parent,
            )
        deadline = time.monotonic() + START_SECONDS
        while self.ask("version").returncode:
            if self._server.poll() is not None or time.monotonic() > deadline:
                do_without(f"dockerd does not start here:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop every container and the server, and unmount all that was in it."""
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            running = self.ask("ps", "--quiet", "--all").stdout.split()
            if running:
                self.ask("rm", "--force", *running)
        if self._server is not None:
            self._server.send_signal(signal.SIGTERM)
            try:
                self._server.wait(60)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        for mounted in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            where = mounted.split()[1]
            if where.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", where], check=False)

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Have this thread's new sockets, and whatever it starts, in the server's own network."""
        libc = ctypes.CDLL(None, use_errno=True)
        with (
            Path("/proc/thread-self/ns/net").open() as here,
            Path(f"/proc/{self._pid}/ns/net").open() as there,
        ):
            try:
                if libc.setns(there.fileno(), _NETWORK):
                    raise OSError(ctypes.get_errno(), "setns")
                yield
            finally:
                libc.setns(here.fileno(), _NETWORK)

    def docker(self, *words: str, within: float = 120) -> str:
        """Run the client; return what it said, without the last newline."""
        done = self.ask(*words, within=within)
        assert done.returncode == 0, (
            f"docker {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout.rstrip("\n")

    @property
    def _pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    def in_image(self, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """Run a command in a new container of an image, which may write to its temporary folder only."""
        return self.docker("run", "--rm", *CONFINED, *options, image, *command)

    def derive(self, name: str, base: str, *lines: str) -> str:
        """Make an image of another one by lines of a Dockerfile; return its name."""
        done = subprocess.run(
            [CLIENT, "build", "--quiet", "--network", "none", "--tag", name, "-"],
            env=self.environment,
            input="\n".join((f"FROM {base}", *lines)),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return name

    def build(self, context: Path, target: str, base: str) -> str:
        """Build one target of the Dockerfile; return the image's name."""
        name = f"nircam-darks-{target}"
        # A machine behind a proxy has these; the builder keeps them out of the image by itself.
        proxies = [
            word for word in ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL") if word in os.environ
        ]
        began = time.monotonic()
        done = subprocess.run(
            [
                *(CLIENT, "build", "--network", "host", "--progress", "plain"),
                *("--build-arg", f"BASE_IMAGE={base}", "--build-arg", "REVISION=test"),
                *(word for proxy in proxies for word in ("--build-arg", proxy)),
                *("--target", target, "--tag", name, context),
            ],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        size = int(self.docker("image", "inspect", "--format", "{{.Size}}", name))
        print(f"\n{name}: {size / 1e6:.0f} MB, built in {time.monotonic() - began:.0f} s", file=sys.stderr)
        return name

    def ask(self, *words: str, within: float = 120) -> subprocess.CompletedProcess[str]:
        """Run the client, whatever comes of it."""
        return subprocess.run(
            [CLIENT, *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )


#: As an orchestrator that trusts nobody runs a service. /tmp is in memory, as an emptyDir may be.
CONFINED = (
    "--read-only",
    *("--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges"),
    *("--network", "host"),
    *("--tmpfs", "/tmp:rw,nosuid,nodev,noexec,size=1g,mode=1777"),
)


#: CLONE_NEWNET of <sched.h>; SIOCGIFFLAGS and SIOCSIFFLAGS of <linux/sockios.h>, IFF_UP of <net/if.h>.
_NETWORK = 0x40000000
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1


def _die_with_parent() -> None:
    # Where the tests themselves are killed nobody is left to stop it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _apart() -> None:
    _die_with_parent()
    if ctypes.CDLL(None).unshare(_NETWORK):
        raise OSError("unshare: no network of its own")
    # Only loopback is there, and it is down.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        loopback = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack_from("16sh", fcntl.ioctl(any_socket, _GET_FLAGS, loopback))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    """Give a server; where this machine cannot run one skip with what to do about it, in CI fail."""
    missing = [program for program in (*PROGRAMS, CLIENT) if shutil.which(program) is None]
    if missing:
        do_without(f"no {', '.join(missing)}: sh deploy/install-servers.sh docker (as root, with apt)")
    if os.geteuid() != 0:
        do_without("dockerd and debootstrap need root: run `make test-image` as root")
    kept = os.environ.get(KEPT)
    folder = Path(kept) if kept else Path(tempfile.mkdtemp(prefix="darks-docker-"))
    folder.mkdir(exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < ROOM:
        if not kept:
            folder.rmdir()
        do_without(
            f"{free / 1e9:.0f} GB are free in {folder.parent}, {ROOM / 1e9:.0f} GB are needed: set TMPDIR"
        )
    engine = Engine(folder)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
