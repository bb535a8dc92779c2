"""A disk that fills up in the middle of a run."""

import os
import shutil
import subprocess
import time

import pytest

from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.running import run_darks

#: `finished` is run once for all of them.
pytestmark = pytest.mark.xdist_group("campaign")

#: Seconds in which a run on a full disk must have given up: twice what a busy machine takes for a whole one.
PATIENCE = 240


def mount(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a disk of so many bytes; again, to give it another size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    mounted = False

    def resize(size: int):
        nonlocal mounted
        options = f"remount,size={size}" if mounted else f"size={size}"
        done = mount("-t", "tmpfs", "-o", options, "tmpfs", folder)
        if done.returncode and not mounted:
            assert os.environ.get("CI") != "true", f"CI must be able to mount: {done.stderr}"
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        mounted = True
        return folder

    yield resize
    if mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


def assert_whole(out) -> int:
    """Every committed product has all its bytes; return how many products there are."""
    store = LocalStore(out)
    products = list(find_all(store, ""))
    for product in products:
        for entry in product.objects:
            with store.open(entry.key) as reader:
                assert reader.size == entry.size, entry.key
    return len(products)


def run_on(disk, campaign):
    started = time.monotonic()
    done = run_darks(campaign.files[0].parent, "--jobs", 2, out=disk / "results")
    assert time.monotonic() - started < PATIENCE
    assert "Traceback" not in done.text
    return done


def test_a_disk_that_fills_up_ends_the_run_and_more_room_finishes_it(campaign, finished, small_disk):
    # Given room for a third of what the campaign's products take
    needed = sum(path.stat().st_size for path in finished.out.rglob("*") if path.is_file())
    disk = small_disk(needed // 3)

    # When it is run there, Then it ends by itself, says why, and what is committed is whole
    full = run_on(disk, campaign)
    assert full.code in (2, 3), full.text
    text = " ".join(full.text.split())
    assert f"no space left on {disk}" in text, full.text
    assert "make room and run again" in text
    assert assert_whole(disk / "results") < len(finished.manifests)

    # And with more room the same command finishes what it began
    small_disk(3 * needed)
    again = run_on(disk, campaign)
    assert again.code == 0, again.text
    assert assert_whole(disk / "results") == len(finished.manifests)


def test_without_room_for_even_the_summary_there_is_one_line(campaign, finished, small_disk):
    # Given a finished run on a disk that is then filled to its last byte
    needed = sum(path.stat().st_size for path in finished.out.rglob("*") if path.is_file())
    disk = small_disk(2 * needed)
    shutil.copytree(finished.out, disk / "results")
    before = (disk / "results" / "summary.json").read_bytes()
    with (disk / "filler").open("wb", buffering=0) as filler:
        while shutil.disk_usage(disk).free:
            filler.write(bytes(4096))

    # When it is run again, Then one line says so, and the old summary stands
    full = run_on(disk, campaign)
    assert full.code == 2, full.text
    [line] = [line for line in full.text.splitlines() if line.startswith("nircam-darks:")]
    assert f"no space left on {disk}" in line
    assert (disk / "results" / "summary.json").read_bytes() == before

    # And with room it is as it was
    (disk / "filler").unlink()
    assert run_on(disk, campaign).code == 0
