"""Job processes: what a handler does wrong stays in its process and comes back as a line."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.contracts.messages import Envelope
from shared.errors import JobCrashed
from shared.runtime.job_process import Done, Failed, JobProgress
from shared.runtime.jobs import JobProcesses, RunningJob
from shared.runtime.turns import Turns
from shared.settings.stage import StageSettings
from support.handlers import HANDLERS, announcement, attempts, environment_of
from support.paths import TESTS

LONG = 60.0


def outcome(job: RunningJob | None) -> Done | Failed:
    assert job is not None
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        report = job.poll(0.5)
        if isinstance(report, Done | Failed):
            assert job.poll(0.0) is report
            return report
    raise AssertionError("the job never ended")


_numbers = itertools.count()


def job_for(does: str = "work") -> Envelope:
    """Return an announcement of an exposure that no other test has."""
    return announcement(f"e{next(_numbers)}", does)


def exposure(message: Envelope) -> str:
    return str(message.content.exposure_id)


@pytest.fixture
def settings(tmp_path: Path) -> StageSettings:
    return StageSettings(store=tmp_path / "store")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def jobs(folder: Path) -> Iterator[JobProcesses]:
    """Processes that the tests share: what one test does to them must not show in the next."""
    with JobProcesses(
        2, HANDLERS, StageSettings(store=folder / "store"), log_file=folder / "run.log"
    ) as jobs:
        yield jobs


@pytest.fixture
def run(jobs: JobProcesses) -> Callable[[str], Done | Failed]:
    return lambda does: outcome(jobs.start("ingest", job_for(does)))


def test_a_job_reports_progress_and_what_to_publish(jobs: JobProcesses) -> None:
    message = job_for()
    job = jobs.start("ingest", message)
    assert job is not None
    reports: list[Any] = []
    while not isinstance(reports[-1] if reports else None, Done):
        reports.append(job.poll(LONG))
    assert reports[:-1] == [JobProgress(1, 2, "groups"), JobProgress(2, 2, "groups")]
    [outgoing] = reports[-1].outgoing
    assert outgoing.message.content.member.exposure_id == exposure(message)
    assert outgoing.delay == 0.0


def test_a_process_serves_many_jobs(jobs: JobProcesses) -> None:
    pids = set()
    for _ in range(3):
        job = jobs.start("ingest", job_for())
        assert job is not None
        pids.add(job.pid)
        assert isinstance(outcome(job), Done)
    assert len(pids) == 1


@pytest.mark.parametrize(
    ("does", "transient", "error", "words"),
    [
        ("reject", False, "BadInput", ["x.fits: 3-D data in two lines"]),
        ("bug", False, "KeyError", ["KeyError", "no such keyword"]),
        ("exit", False, "EnvironmentFault", ["CRDS_PATH is not set", "CRDS_CONTEXT"]),
        ("transient-until=9", True, "TransientError", ["CRDS did not answer"]),
        ("store-down-until=9", True, "StoreUnavailable", ["the store did not answer"]),
        ("out-of-memory", True, "MemoryError", ["out of memory", "lower --jobs or --max-memory"]),
        ("disk-full", True, "NoSpaceLeft", ["no space left on", "make room and run again"]),
        ("die-before-commit", True, "JobCrashed", ["signal 9 (SIGKILL)", "out of memory?", "--max-memory"]),
        ("segfault", True, "JobCrashed", ["signal 11 (SIGSEGV)", "compiled code"]),
        ("code=3", True, "JobCrashed", ["exit code 3"]),
    ],
)
def test_each_failure_has_its_kind_and_one_line(
    run: Callable[[str], Done | Failed], does: str, transient: bool, error: str, words: list[str]
) -> None:
    # When a handler fails
    failed = run(does)
    # Then the worker is told of which kind, in one line that says what to do
    assert isinstance(failed, Failed)
    assert (failed.transient, failed.error) == (transient, error)
    assert failed.store_down == (error in {"StoreUnavailable", "NoSpaceLeft"})
    for word in words:
        assert word in failed.message
    assert "\n" not in failed.message
    assert ("Traceback" in failed.traceback) == (does in {"bug", "exit", "out-of-memory"})
    # And the next job runs
    assert isinstance(run("work"), Done)


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("reject", ["traceback:", "BadInput", "in _misbehave"]),
        ("transient-until=9", ["traceback:", "CRDS did not answer"]),
        ("bug", ["KeyError: 'no such keyword'"]),
        ("ill=abort", ["Fatal Python error: Aborted", "in handle", "progress at the end: 1 of 2 groups"]),
        ("ill=segfault", ["Fatal Python error: Segmentation fault", "in crash_in_c"]),
        ("ill=killed", ["signal 9 (SIGKILL)"]),
    ],
)
def test_each_failure_carries_its_evidence(jobs: JobProcesses, does: str, words: list[str]) -> None:
    # When a handler fails, or its process dies
    message = job_for(does)
    job = jobs.start("ingest", message)
    failed = outcome(job)
    # Then what is known of it comes with the failure: which job and process, in which circumstances
    assert job is not None
    assert isinstance(failed, Failed)
    general = [str(message.id), f"pid {job.pid}", "ran for: ", "versions: nircam-darks", "peak memory"]
    for word in [*general, failed.message, *words]:
        assert word in failed.evidence, failed.evidence
    # And a stack only where there was one to see
    assert ("stack of each thread" in failed.evidence) == (does in {"ill=abort", "ill=segfault"})


def test_the_kernels_want_of_memory_is_told_apart(
    jobs: JobProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter((4, 5))
    monkeypatch.setattr("shared.runtime.jobs._COUNT_SECONDS", 0.0)
    monkeypatch.setattr("shared.runtime.jobs.kernel_kills", lambda: next(counts))
    failed = outcome(jobs.start("ingest", job_for("ill=killed")))
    assert isinstance(failed, Failed)
    assert "the kernel killed a process for lack of it" in failed.message


def test_what_a_job_reports_after_its_end_is_not_taken_for_the_next_ones(jobs: JobProcesses) -> None:
    assert isinstance(outcome(jobs.start("ingest", job_for("late-progress"))), Done)
    job = jobs.start("ingest", job_for("sleep=0.5"))
    assert job is not None
    reports: list[Any] = []
    while not isinstance(reports[-1] if reports else None, Done):
        reports.append(job.poll(LONG))
    assert [r.what for r in reports[:-1]] == ["groups", "groups"]


def test_a_job_past_its_time_limit_is_killed(settings: StageSettings) -> None:
    with JobProcesses(1, HANDLERS, settings, time_limit=3.0) as jobs:
        job = jobs.start("ingest", announcement("e", "hang-once"))
        assert job is not None
        failed = outcome(job)
        assert isinstance(failed, Failed)
        assert (failed.transient, failed.error) == (True, "JobCrashed")
        assert "time limit of 3 s" in failed.message
        # Where it hung is known.
        assert "stack of each thread" in failed.evidence
        assert "in _misbehave" in failed.evidence
        assert not psutil.pid_exists(job.pid)
        assert isinstance(outcome(jobs.start("ingest", announcement("e", "hang-once"))), Done)


def test_the_time_in_which_a_job_waits_for_its_turn_is_not_its_own(settings: StageSettings) -> None:
    # Given a job that is held for longer than its time limit
    message = announcement("e", "turn")
    with Turns(settings) as turns, JobProcesses(1, HANDLERS, settings, time_limit=3.0) as jobs:
        turns.hold(message.id)
        job = jobs.start("ingest", message)
        assert job is not None
        report = job.poll(LONG)
        assert isinstance(report, JobProgress)
        assert report.waiting
        assert job.poll(4.0) is None

        # When it has its turn, Then it goes on and ends well, and its seconds are those of its work
        turns.release(message.id)
        assert isinstance(outcome(job), Done)
        assert job.seconds < 3.0


@pytest.mark.skipif(sys.platform != "linux", reason="memory is looked up in /proc")
def test_a_job_past_its_memory_limit_is_killed(settings: StageSettings) -> None:
    with JobProcesses(1, HANDLERS, settings, memory_limit=300 << 20) as jobs:
        failed = outcome(jobs.start("ingest", announcement("e", "grow=10")))
        assert isinstance(failed, Failed)
        assert "where 314572800 are allowed" in failed.message
        assert "in _misbehave" in failed.evidence
        peak = failed.evidence.partition("peak memory of its process: ")[2].partition(" MiB")[0]
        assert int(peak) >= 300
        assert isinstance(outcome(jobs.start("ingest", announcement("e2"))), Done)


def test_all_busy_is_told_and_a_freed_place_wakes_the_one_who_waits(settings: StageSettings) -> None:
    with JobProcesses(1, HANDLERS, settings) as jobs:
        first = jobs.start("ingest", announcement("first", "sleep=0.5"))
        assert jobs.start("ingest", announcement("second")) is None
        started: list[RunningJob | None] = []
        waiter = threading.Thread(
            target=lambda: started.append(jobs.start("ingest", announcement("second"), timeout=LONG))
        )
        waiter.start()
        assert isinstance(outcome(first), Done)
        waiter.join(LONG)
        assert isinstance(outcome(started[0]), Done)


def test_those_who_wait_are_served_in_turn(settings: StageSettings) -> None:
    # Given one place, taken, and four that wait for it, one after the other
    with JobProcesses(1, HANDLERS, settings) as jobs:
        first = jobs.start("ingest", announcement("first", "sleep=1"))
        order: list[int] = []

        def wait(which: int) -> None:
            job = jobs.start("ingest", announcement(f"e{which}"), timeout=LONG)
            order.append(which)
            outcome(job)

        waiters = [threading.Thread(target=wait, args=(n,)) for n in range(4)]
        for waiter in waiters:
            waiter.start()
            time.sleep(0.05)
        outcome(first)
        for waiter in waiters:
            waiter.join(LONG)
        assert order == [0, 1, 2, 3]


def test_a_process_killed_while_idle_is_replaced(jobs: JobProcesses) -> None:
    job = jobs.start("ingest", job_for())
    assert job is not None
    outcome(job)
    os.kill(job.pid, signal.SIGKILL)
    psutil.Process(job.pid).wait(LONG) if psutil.pid_exists(job.pid) else None
    results = [outcome(jobs.start("ingest", job_for())) for _ in range(2)]
    # At worst the word to the dead one got out before it was known to be dead: a crash, to be retried.
    assert isinstance(results[1], Done)
    assert isinstance(results[0], Done) or results[0].error == "JobCrashed"


def test_stop_kills_the_job(jobs: JobProcesses) -> None:
    job = jobs.start("ingest", job_for("sleep=600"))
    assert job is not None
    assert job.poll(0.5) is None
    job.stop()
    failed = outcome(job)
    assert isinstance(failed, Failed)
    assert "was stopped" in failed.message
    assert not psutil.pid_exists(job.pid)


def test_close_ends_every_process_and_starts_none(settings: StageSettings) -> None:
    jobs = JobProcesses(2, HANDLERS, settings)
    idle = jobs.start("ingest", announcement("e"))
    busy = jobs.start("ingest", announcement("b", "sleep=600"))
    assert idle is not None
    assert busy is not None
    outcome(idle)
    jobs.close(grace=2.0)
    assert not psutil.pid_exists(idle.pid)
    assert not psutil.pid_exists(busy.pid)
    assert isinstance(outcome(busy), Failed)
    with pytest.raises(JobCrashed):
        jobs.start("ingest", announcement("e"))


def test_ctrl_c_does_not_reach_a_job(jobs: JobProcesses, folder: Path) -> None:
    message = job_for("sleep=1")
    job = jobs.start("ingest", message)
    assert job is not None
    while attempts(folder, exposure(message)) == 0:
        assert job.poll(0.05) is None
    os.kill(job.pid, signal.SIGINT)
    assert os.getpgid(job.pid) != os.getpgid(0)
    assert isinstance(outcome(job), Done)


PARENT = """
import time
from pathlib import Path
from support.handlers import HANDLERS, announcement
from shared.runtime.jobs import JobProcesses
from shared.settings.stage import StageSettings
jobs = JobProcesses(2, HANDLERS, StageSettings(store=Path({store!r})))
idle = jobs.start("ingest", announcement("e"))
while type(idle.poll(30)).__name__ != "Done":
    pass
busy = jobs.start("ingest", announcement("b", "sleep=600"))
other = jobs.start("ingest", announcement("c", "sleep=600"))
print(busy.pid, other.pid, flush=True)
time.sleep(600)
"""


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    # Given a program without a main guard, with jobs at work in two processes
    code = PARENT.format(store=str(tmp_path / "store"))
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert parent.stdout is not None
    children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    while attempts(tmp_path, "c") == 0:
        time.sleep(0.05)
    # When it is killed, Then they are gone soon
    parent.kill()
    parent.communicate()
    gone, alive = psutil.wait_procs(children, timeout=LONG)
    assert (len(gone), alive) == (2, [])


def test_what_a_job_prints_and_logs_stands_in_the_log_under_its_message(
    jobs: JobProcesses, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    message = job_for("noise")
    outcome(jobs.start("ingest", message))
    # A line is flushed after the answer was sent, so the next job's answer is waited for.
    outcome(jobs.start("ingest", job_for()))
    log = (folder / "run.log").read_text()
    assert f"[ingest {message.id}] printed by the handler" in log
    assert f"[ingest {message.id}] WARNING stpipe.step: logged by stpipe" in log
    assert "written by compiled code" in log
    assert capfd.readouterr() == ("", "")


def test_the_environment_is_handed_on(settings: StageSettings, tmp_path: Path) -> None:
    with JobProcesses(1, HANDLERS, settings, environment={"CRDS_PATH": "/nowhere/else"}) as jobs:
        outcome(jobs.start("ingest", announcement("e", "environment")))
    environment = json.loads(environment_of(tmp_path, "e").read_text())
    assert environment["CRDS_PATH"] == "/nowhere/else"
    assert environment["PATH"] == os.environ["PATH"]


def test_an_unknown_handler_says_its_name(settings: StageSettings) -> None:
    with JobProcesses(1, {"ingest": "services.nothing.handler:handle"}, settings) as jobs:
        failed = outcome(jobs.start("ingest", announcement("e")))
        assert isinstance(failed, Failed)
        assert not failed.transient
        assert "services.nothing.handler:handle" in failed.message


def test_a_job_leaves_no_scratch_behind(settings: StageSettings, tmp_path: Path) -> None:
    with JobProcesses(1, HANDLERS, settings) as jobs:
        outcome(jobs.start("ingest", job_for()))
        outcome(jobs.start("ingest", job_for("reject")))
        assert [f.name for f in (tmp_path / "store" / ".scratch").iterdir()] == ["lock"]
