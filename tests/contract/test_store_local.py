"""The embedded store against kills, full disks, missing permissions and many processes."""

import errno
import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from shared.errors import DarksError, EnvironmentFault, NoSpaceLeft, StoreUnavailable
from shared.store.faults import disk_fault
from shared.store.local import LocalStore

WRITER = """
import hashlib, os, sys
from pathlib import Path
from shared.store.faults import disk_fault
from shared.store.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
print("ready", flush=True)
n = 0
while True:
    body = os.urandom(1 << 10) * (1 + n % 700)
    body += hashlib.sha256(body).digest()
    store.put(f"put/{n % 7}", body)
    file = store.scratch() / "made"
    file.write_bytes(body)
    store.put_file(f"file/{n % 7}", file)
    store.put_if_absent(f"once/{os.getpid()}-{n}", body)
    n += 1
"""

RACER = """
import sys, time
from pathlib import Path
from shared.store.faults import disk_fault
from shared.store.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
store.scratch()
print("ready", flush=True)
sys.stdin.readline()
won = [n for n in range(200) if store.put_if_absent(f"race/{n}", sys.argv[2].encode())]
print(" ".join(map(str, won)), flush=True)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_killed_writer_leaves_only_whole_objects(tmp_path: Path) -> None:
    rng = random.Random(62)
    for _ in range(8):
        # Given a process that writes without a pause, When it is killed at any moment
        writer = start(WRITER, str(tmp_path))
        time.sleep(rng.uniform(0.0, 0.12))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        # Then everything that is visible is whole
        store = LocalStore(tmp_path)
        for key in store.list(""):
            body = store.get(key)
            assert hashlib.sha256(body[:-32]).digest() == body[-32:], key
        # And the next opener removed what the dead one left, but not what the living hold
        mine = store.scratch()
        LocalStore(tmp_path)
        folders = [f for f in (tmp_path / ".scratch").iterdir() if f.is_dir()]
        assert folders == [mine]
        store.close()
    assert list(LocalStore(tmp_path).list("once/")), "the writers never got to write"


def test_of_many_processes_one_wins_each_key(tmp_path: Path) -> None:
    racers = [start(RACER, str(tmp_path), f"racer {n}") for n in range(4)]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    claims = {f"racer {n}": racer.communicate(timeout=60)[0].split() for n, racer in enumerate(racers)}
    won = [key for keys in claims.values() for key in keys]
    assert sorted(won, key=int) == [str(n) for n in range(200)]
    store = LocalStore(tmp_path)
    for name, keys in claims.items():
        for key in keys:
            assert store.get(f"race/{key}") == name.encode()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a real file system of 2 MiB; where it may not be mounted, one file of 2 MiB at most."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
        == 0
    )
    if mounted:
        yield folder
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, before[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_leaves_nothing_behind(small_disk: Path) -> None:
    # Given a disk of 2 MiB that holds an object
    store = LocalStore(small_disk)
    store.put("kept", b"k" * 1000)
    # When 3 MiB are put, each way
    for write in (
        lambda: store.put("big", b"x" * (3 << 20)),
        lambda: store.put("kept", b"x" * (3 << 20)),
        lambda: store.put_if_absent("big", b"x" * (3 << 20)),
    ):
        with pytest.raises((StoreUnavailable, EnvironmentFault)) as caught:
            write()
        # Then it says what, where and how much
        assert caught.value.where.startswith(str(small_disk))
        if isinstance(caught.value, StoreUnavailable):
            assert isinstance(caught.value, NoSpaceLeft)
            assert str(3 << 20) in str(caught.value)
        assert "\n" not in str(caught.value)
    # And what was there stands, nothing half-written is left, and there is room again
    assert list(store.list("")) == ["kept"]
    assert store.get("kept") == b"k" * 1000
    assert [f.name for f in store.scratch().iterdir()] == ["alive"]
    store.put("fits", b"y" * (1 << 20))


def test_a_file_from_another_file_system_is_copied_whole(small_disk: Path, tmp_path: Path) -> None:
    file = tmp_path / "from-elsewhere"
    file.write_bytes(b"z" * 100_000)
    store = LocalStore(small_disk)
    assert store.put_file("a/b", file).size == 100_000
    assert store.get("a/b") == b"z" * 100_000
    assert not file.exists()


def test_a_link_is_not_taken_for_the_file(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"content")
    link.symlink_to(file)
    store = LocalStore(tmp_path / "store")
    store.put_file("a", link)
    file.write_bytes(b"changed later")
    assert store.get("a") == b"content"
    assert file.exists()


def test_without_hard_links_one_still_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    store = LocalStore(tmp_path)
    assert store.put_if_absent("m", b"first") is True
    monkeypatch.setattr(Path, "is_file", lambda self: False)
    assert store.put_if_absent("m", b"second") is False
    assert store.get("m") == b"first"


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (errno.ENOSPC, NoSpaceLeft),
        (errno.EDQUOT, NoSpaceLeft),
        (errno.EIO, StoreUnavailable),
        (errno.EROFS, EnvironmentFault),
        (errno.EACCES, EnvironmentFault),
        (errno.EFBIG, EnvironmentFault),
    ],
)
def test_each_error_of_the_disk_has_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fault: type[DarksError]
) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"x")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(fault) as caught:
        store.put("a", b"y")
    monkeypatch.undo()
    assert type(caught.value) is fault
    assert caught.value.where == str(tmp_path)
    assert store.get("a") == b"x"


def test_a_file_cut_short_under_a_reader_is_an_error(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"x" * 100)
    with store.open("a") as reader:
        os.truncate(tmp_path / "a", 10)
        with pytest.raises(StoreUnavailable) as caught:
            reader.read(0, 100)
    assert caught.value.where == "a"


def test_opening_makes_no_folder_and_listing_nothing_is_empty(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "none")
    assert list(store.list("")) == []
    with pytest.raises(KeyError):
        store.get("a")
    assert not (tmp_path / "none").exists()


def test_the_store_s_own_folder_is_no_key(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    own = store.scratch().relative_to(tmp_path).parts[0]
    with pytest.raises(ValueError):
        store.put(f"{own}/x", b"")
    assert not (tmp_path / own / "x").exists()


def test_the_uri_leads_to_the_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "dïr #1")
    store.put("a/b c", b"x")
    assert Path(unquote(urlparse(store.uri("a/b c")).path)).read_bytes() == b"x"


def test_a_folder_that_is_empty_after_a_delete_goes_too(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    store.put("a/b/c/1", b"")
    store.put("a/2", b"")
    store.delete("a/b/c/1")
    assert [path.name for path in (tmp_path / "store" / "a").iterdir()] == ["2"]
    store.delete("a/2")
    assert not (tmp_path / "store" / "a").exists()
    assert (tmp_path / "store").exists()


def test_a_full_disk_that_is_not_the_store_s_is_named(tmp_path: Path) -> None:
    # jwst and CRDS write to folders of their own
    elsewhere = tmp_path / "cache"
    elsewhere.mkdir()
    error = OSError(errno.ENOSPC, "No space left on device", str(elsewhere / "file"))
    assert disk_fault(error, tmp_path / "store").where == str(elsewhere)
    inside = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "store" / "a" / "b"))
    assert disk_fault(inside, tmp_path / "store").where == str(tmp_path / "store")
