"""CrashReport: what is written down of a job that failed."""

import signal
import sys
from pathlib import Path

import pytest

from shared.runtime.crash_report import LONGEST, CrashReport, how_it_died, kernel_kills


def evidence(**results) -> CrashReport:
    record = {
        "how": "was killed",
        "service": "ingest",
        "message_id": "m",
        "pid": 7,
        "seconds": 2.04,
        **results,
    }
    return CrashReport(**record)


def test_it_says_what_is_known_in_lines():
    text = evidence(peak_memory=300 << 20, progress="3 of 9 groups", stack="File x", traceback="Trace").text()
    assert text.startswith("what happened: was killed\njob: ingest, message m\nran for: 2.0 s\n")
    for line in (
        "progress at the end: 3 of 9 groups",
        "peak memory of its process: 300 MiB",
        f"python {sys.version.split()[0]}",
        "stack of each thread, most recent call first:\nFile x",
    ):
        assert line in text
    assert text.endswith("traceback:\nTrace")


def test_what_is_not_known_is_said_to_be_so():
    text = evidence().text()
    assert "none reported" in text
    assert "not seen" in text
    assert "stack" not in text
    assert "traceback" not in text


def test_however_long_its_parts_it_keeps_what_is_nearest_to_the_fault():
    # Given parts of which the important lines stand first in a stack, and last in a traceback
    long = "x" * 20_000
    text = evidence(
        how=long, progress=long, stack=f"fault here {long}", traceback=f"{long} KeyError: 'here'"
    ).text()
    assert len(text) <= LONGEST
    assert "fault here" in text
    assert text.endswith("KeyError: 'here'")


def test_it_holds_no_credentials():
    text = evidence(
        how="amqp://me:s3cret@rabbit is away", stack="password=s3cret", traceback="X-Amz-Signature=s3cret"
    ).text()
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("code", "kernel_killed", "words"),
    [
        (3, False, "exit code 3"),
        (-signal.SIGKILL, False, "out of memory?"),
        (-signal.SIGKILL, True, "the kernel killed a process for lack of it"),
        (-signal.SIGTERM, True, "stopped from outside"),
        (-signal.SIGSEGV, True, "signal 11 (SIGSEGV): a fault in compiled code"),
        (-(signal.SIGRTMIN + 1), False, "(unknown)"),
    ],
)
def test_how_a_process_died_is_said_in_words(code: int, kernel_killed: bool, words: str):
    assert words in how_it_died(code, kernel_killed)


def test_the_kernels_kills_are_counted_where_it_counts_them(tmp_path: Path):
    statistics = tmp_path / "vmstat"
    assert kernel_kills(statistics) is None
    statistics.write_text("nr_free_pages 3\noom_kill 4\n")
    assert kernel_kills(statistics) == 4
    statistics.write_text("nr_free_pages 3\n")
    assert kernel_kills(statistics) is None
