"""`run` of 100 small exposures against the sum of its jobs' own time over the cores."""

import statistics
from pathlib import Path

from harness import Row, Side, made, python, run

EXPOSURES, JOBS = 100, 2


def measure(work: Path, runs: int) -> list[Row]:
    """Run it, with a stopwatch around each job; start-up, imports and the report are what is beyond."""
    folder = made(["uncal", "NRCALONG,NRCBLONG:SUB160", 10, EXPOSURES // 2, 1], work / "small")
    ours = Side(python("many_small.py", folder, JOBS))
    for _ in range(runs):
        run(ours)
    wall = ours.median(lambda run: run.said["wall"])
    own = ours.median(lambda one: one.said["own"]) / JOBS
    ratio = statistics.median(entry.said["wall"] / (entry.said["own"] / JOBS) for entry in ours.runs)
    return [
        Row(
            f"`run` of {EXPOSURES} x SUB160 of 10 groups, two detectors, {JOBS} jobs at once",
            f"the sum of the jobs' own time over {JOBS} cores",
            wall,
            own,
            ratio,
            "<= 1.2x",
            ratio <= 1.2,
            our_processor=ours.median(lambda one: one.processor),
            runs=runs,
            note=f"{ours.runs[0].said['jobs']} jobs; start-up, imports and the report included. A job's own "
            "time is without its wait for the earlier exposures of its detector",
        )
    ]
