"""Run both sides of a comparison as whole processes, and say what they took.

Only the standard library: a process that is forked off begins with the memory of the one that forks it, so
this one has to stay small for the peaks to be true.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MIB = 1024**2


@dataclass
class Run:
    """One process: seconds of the clock and of the processors, peak memory in bytes, and what it said."""

    wall: float
    processor: float
    peak: int
    said: dict[str, Any]


@dataclass
class Side:
    """One side of a comparison, run several times.

    `seconds` picks the figure that is compared; by default the wall clock of the whole process.
    """

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    def median(self, of: Callable[[Run], float]) -> float:
        """Return the median of a figure over the runs."""
        return statistics.median(of(run) for run in self.runs)


@dataclass
class Row:
    """A line of the table; times in seconds, memory in bytes. `ratio` is what `target` speaks of."""

    work: str
    against: str
    ours: float
    theirs: float
    ratio: float
    target: str
    reached: bool
    unit: str = "s"
    our_memory: float | None = None
    their_memory: float | None = None
    our_processor: float | None = None
    their_processor: float | None = None
    runs: int = 1
    note: str = ""


def python(script: str, *arguments: object) -> list[str]:
    """Return the command that runs a script of this folder."""
    return [sys.executable, "-W", "ignore", str(HERE / script), *map(str, arguments)]


def run(side: Side, timeout: float = 3600.0) -> Run:
    """Run a side once. The last line that it prints is JSON; a failure ends the benchmark."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", HERE)))
    environment = {**os.environ, "PYTHONPATH": path, **side.environment}
    start = time.perf_counter()
    process = subprocess.Popen(side.command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, errors = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(side.command)} failed:\n{errors.decode()[-3000:]}")
    lines = out.decode().strip().splitlines()
    output = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    one = Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output)
    side.runs.append(one)
    return one


def alternate(ours: Side, theirs: Side, runs: int, before: Callable[[], None] = lambda: None) -> None:
    """Run both sides in turn, so that whatever else the machine does meets both; `before` each run."""
    # Once for compilers and caches of all sorts, uncounted.
    for side in (ours, theirs):
        run(side)
        side.runs.clear()
    for number in range(runs):
        for side in (ours, theirs) if number % 2 == 0 else (theirs, ours):
            before()
            run(side)


def row(
    work: str,
    against: str,
    target: str,
    ours: Side,
    theirs: Side,
    reached: Callable[[float], bool],
    seconds: Callable[[Run], float] = lambda run: run.wall,
    their_seconds: Callable[[Run], float] | None = None,
    faster: bool = True,
    note: str = "",
) -> Row:
    """Make a line of two sides that were run; `faster`: the ratio is theirs over ours."""
    mine, other = ours.median(seconds), theirs.median(their_seconds or seconds)
    ratio = other / mine if faster else mine / other
    return Row(
        work,
        against,
        mine,
        other,
        ratio,
        target,
        reached(ratio),
        our_memory=ours.median(lambda run: run.peak),
        their_memory=theirs.median(lambda run: run.peak),
        our_processor=ours.median(lambda run: run.processor),
        their_processor=theirs.median(lambda run: run.processor),
        runs=len(ours.runs),
        note=note,
    )


def forget_files(folder: Path) -> Callable[[], None]:
    """Return what makes the next reading of a folder's files come from the disk."""

    def forget() -> None:
        os.sync()
        try:
            Path("/proc/sys/vm/drop_caches").write_text("3\n")
        except OSError:
            for path in folder.rglob("*.fits"):
                descriptor = os.open(path, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)

    return forget


def made(script_arguments: Sequence[object], folder: Path) -> Path:
    """Return a folder of data, made at the first call by `data.py`."""
    if not folder.exists():
        run(Side(python("data.py", *script_arguments, folder)))
    return folder
