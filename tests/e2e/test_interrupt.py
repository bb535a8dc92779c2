"""Ctrl-C in the middle of a run."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.running import command, run_darks

#: Seconds from Ctrl-C to the end: jobs are given three of them to finish, and a busy machine the rest.
END = 30


def processes_below(pid: int) -> set[int]:
    """The ids of a process's children, their children and so on, of Linux's /proc."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    results = {pid}
    while more := {child for child, parent in parents.items() if parent in results} - results:
        results |= more
    return results - {pid}


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are found by Linux's /proc")
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_ctrl_c_ends_a_run_with_one_line_and_the_next_one_finishes_it(campaign, tmp_path, times):
    # Given a run in the middle of its work
    out, darks = tmp_path / "results", campaign.files[:4]
    process = subprocess.Popen(
        command("run", *darks, "--out", out, "--jobs", 2),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As in a terminal, where Ctrl-C goes to the whole group.
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("ingest/**/manifest.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = processes_below(process.pid)
    assert children

    # When Ctrl-C is pressed
    pressed = time.monotonic()
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.3)
    try:
        output, complaints = process.communicate(timeout=60)
    finally:
        process.kill()

    # Then it ends soon, with the code and the line for it, and leaves no process behind
    assert time.monotonic() - pressed < END
    assert process.returncode == 130, complaints
    assert complaints.splitlines() == [
        "nircam-darks: stopped; run the same command again to continue from here"
    ], complaints
    assert "Traceback" not in output
    assert not [pid for pid in children if alive(pid)]

    # And the next run finishes
    again = run_darks(*darks, out=out)
    assert again.code == 0, again.text
