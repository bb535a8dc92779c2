"""A real S3 for tests: Ceph's gateway over one monitor and one disk in a file, all of it our own children.

Loopback only, nothing outside one private folder, every process stopped by its pid.
"""

import contextlib
import ctypes
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.settings.stage import S3Settings
from shared.store.s3 import S3Store
from support.doing_without import do_without

ACCESS, SECRET = "tester", "tester-secret"
PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool", "openssl")

_CONF = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon},v1:127.0.0.1:{mon_v1}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
ms_bind_port_min = {low}
ms_bind_port_max = {high}
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
# Without keys there is nothing to encrypt with, and the gateway would wait for ever.
ms_mon_client_mode = crc
# Without a manager nobody tunes anything: as few placement groups and as little waiting as will do.
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_tick_interval = 1
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 1
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_objectstore = bluestore
bluestore_block_size = 4294967296
osd_memory_target = 939524096
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
run_dir = {folder}/run
admin_socket = {folder}/run/$name.asok
pid_file = {folder}/run/$name.pid
log_file = {folder}/$name.log
crash_dir = {folder}/run
mon_data = {folder}/mon
osd_data = {folder}/osd
[client]
rgw_frontends = beast {front}
rgw_data = {folder}/rgw
rgw_dynamic_resharding = false
rgw_override_bucket_index_max_shards = 1
"""


class Ceph:
    """The server; `endpoint` is its address, `tls_endpoint` the same encrypted, as `ca` vouches for.

    Parameters
    ----------
    folder : Path
        Private to it, with a short path: the names of Unix sockets lie under it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        base = _free_block()
        self.port = base + 2
        self.endpoint = f"http://127.0.0.1:{base + 2}"
        self.tls_endpoint = f"https://127.0.0.1:{base + 3}"
        self.ca = folder / "ca.pem"
        for name in ("mon", "osd", "run", "rgw"):
            (folder / name).mkdir()
        self._conf = folder / "ceph.conf"
        self._fsid = str(uuid4())
        self._mon = f"[v2:127.0.0.1:{base},v1:127.0.0.1:{base + 1}]"
        self._conf.write_text(
            _CONF.format(
                fsid=self._fsid,
                mon=base,
                mon_v1=base + 1,
                low=base + 10,
                high=base + 99,
                folder=folder,
                # Without tcp_nodelay each small answer takes 40 ms.
                front=f"tcp_nodelay=1 endpoint=127.0.0.1:{base + 2} ssl_endpoint=127.0.0.1:{base + 3} "
                f"ssl_certificate={folder}/tls.pem",
            )
        )

    def start(self) -> None:
        """Make the cluster and its one user; return when it answers."""
        self._certify()
        self._run(
            "monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", self._mon, self._in("monmap")
        )
        self._run(
            "ceph-mon", *self._c, "--mkfs", "-i", "a", "--monmap", self._in("monmap"), "--no-mon-config"
        )
        self._start("mon", "ceph-mon", *self._c, "-i", "a", "-f", "--no-mon-config")
        disk = str(uuid4())
        self._run("ceph", *self._c, "osd", "new", disk)
        self._run("ceph-osd", *self._c, "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._start("osd", "ceph-osd", *self._c, "-i", "0", "-f")
        self.start_gateway()
        user = ("user", "create", "--uid=test", "--display-name=test")
        keys = (f"--access-key={ACCESS}", f"--secret={SECRET}")
        self._run("radosgw-admin", *self._c, "-n", "client.rgw.a", *user, *keys)
        self._until(lambda: self.client().list_buckets() is not None)

    def start_gateway(self) -> None:
        """Start the gateway (again); return when it answers."""
        self._start("rgw", "radosgw", *self._c, "-n", "client.rgw.a", "-f")
        self._until(lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() is None)

    def kill_gateway(self) -> None:
        """End the gateway as a power cut would."""
        self._end("rgw", signal.SIGKILL)

    def stop(self) -> None:
        """End everything and remove the folder."""
        for name in list(self._running):
            self._end(name, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self):
        """Return a boto3 client with the server's own credentials and no retries."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                request_checksum_calculation="when_required",
            ),
        )

    def store(self, bucket: str, scratch: Path, **settings: object) -> S3Store:
        """Open a store in a bucket, or under a prefix of one, with credentials from the environment."""
        return S3Store(f"s3://{bucket}", S3Settings(endpoint=self.endpoint, **settings), scratch)

    def new_bucket(self) -> str:
        """Make a bucket and return its name."""
        name = f"test-{uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def _certify(self) -> None:
        key, certificate = self.folder / "key.pem", self.ca
        self._run(
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        )
        (self.folder / "tls.pem").write_text(key.read_text() + certificate.read_text())

    @property
    def _c(self) -> tuple[str, str]:
        return "-c", str(self._conf)

    def _in(self, name: str) -> str:
        return str(self.folder / name)

    def _run(self, *words: str) -> None:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-500:]}")

    def _start(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self._running[name] = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=_die_with_parent
            )

    def _end(self, name: str, how: signal.Signals) -> None:
        process = self._running.pop(name)
        process.send_signal(how)
        process.wait()

    def _until(self, answers: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError, BotoCoreError, ClientError):
                if answers():
                    return
            dead = [name for name, process in self._running.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                text = "".join((self.folder / f"{name}.out").read_text()[-500:] for name in dead)
                raise RuntimeError(f"Ceph does not answer on {self.endpoint}; ended: {dead} {text}")
            time.sleep(0.05)


def _die_with_parent() -> None:
    # Where the tests themselves are killed nobody is left to stop it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _free_block() -> int:
    """Return the first of 100 ports that nobody listens on, below those that connections are given."""
    for _ in range(200):
        base = random.randrange(12_000, 32_000, 100)
        with contextlib.ExitStack() as held:
            try:
                for port in (*range(base, base + 4), *range(base + 10, base + 20)):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise RuntimeError("no free ports on 127.0.0.1")


@contextlib.contextmanager
def running_ceph() -> Iterator[Ceph]:
    """Give a server, with credentials in the environment; where it is not installed skip, in CI fail."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        do_without(f"Ceph is not installed (no {', '.join(missing)}): sh deploy/install-servers.sh ceph")
    server = Ceph(Path(tempfile.mkdtemp(prefix="ceph-")))
    with pytest.MonkeyPatch.context() as patch:
        # The chain by which boto3 finds credentials, and nothing else on this machine.
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        try:
            server.start()
            yield server
        finally:
            server.stop()
