"""ingest of a full-frame exposure of 108 groups, as of NRC-09, against the same jwst steps called by hand.

On one core and on two: jwst's steps use one by default, and ingest may use what it is given. The time of both
sides is that of the whole process. The steps by hand take some 20 GB of memory for the larger exposure.
"""

import json
from pathlib import Path

from harness import MIB, Row, Side, alternate, made, python, row
from row_ingest import announcement_of

GROUPS = 108
#: Bytes that one job may hold.
LIMIT = 2048 * MIB


def measure(work: Path, runs: int) -> list[Row]:
    """Run both pinned to one core, and both free to use two."""
    folder = made(["uncal", "NRCALONG:FULL", GROUPS, 1, 1], work / "uncal_long")
    environment = json.loads((folder / "environment.json").read_text())
    [exposure] = sorted((folder / "darks").glob("*_uncal.fits"))
    message = announcement_of(exposure, folder / "announced.json")
    rows, peaks = [], []
    for cores, threads, words, wanted in (("0", 1, "one core", 0.5), ("0,1", 2, "two cores", 0.3)):
        pinned = ["taskset", "-c", cores]
        job = python("job.py", "ingest", work / "ingested_long", message, "--threads", threads)
        ours = Side(pinned + job, environment)
        theirs = Side(pinned + python("peers.py", "steps", folder), environment)
        alternate(ours, theirs, runs)
        peaks.append(ours.median(lambda run: run.peak))
        rows.append(
            row(
                f"ingest, full frame, 1 x {GROUPS}, {words}",
                f"the same jwst steps called by hand in one process, {words}",
                f"<= {wanted}x",
                ours,
                theirs,
                lambda ratio, wanted=wanted: ratio <= wanted,
                faster=False,
                note="whole process; ours also validates, digests and commits",
            )
        )
    peak = max(peaks)
    memory = Row(
        f"ingest, full frame, 1 x {GROUPS}: peak memory",
        "2 GiB",
        peak / MIB,
        LIMIT / MIB,
        peak / LIMIT,
        "<= 1x",
        peak <= LIMIT,
        unit="MiB",
        runs=runs,
        note="the larger of one core and two",
    )
    return [*rows, memory]
