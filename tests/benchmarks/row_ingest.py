"""ingest of a full-frame exposure of 20 groups against the same jwst steps called by hand in one process."""

import hashlib
import json
from pathlib import Path

from harness import MIB, Row, Side, alternate, made, python, row


def measure(work: Path, runs: int) -> list[Row]:
    """Run both as whole processes; ours validates, digests and commits besides."""
    folder = made(["uncal", "NRCALONG:FULL", 20, 1, 1], work / "uncal")
    environment = json.loads((folder / "environment.json").read_text())
    [exposure] = sorted((folder / "darks").glob("*_uncal.fits"))
    message = announcement_of(exposure, folder / "announced.json")
    ours = Side(python("job.py", "ingest", work / "ingested", message), environment)
    theirs = Side(python("peers.py", "steps", folder), environment)
    alternate(ours, theirs, runs)
    time = row(
        "ingest, full frame, 1 x 20",
        "the same jwst steps called by hand in one process",
        "<= 1.05x",
        ours,
        theirs,
        lambda ratio: ratio <= 1.05,
        faster=False,
        note="whole process; ours also validates, digests and commits",
    )
    mine, other = time.our_memory or 0.0, time.their_memory or 1.0
    memory = Row(
        "ingest, full frame, 1 x 20: peak memory",
        time.against,
        mine / MIB,
        other / MIB,
        mine / other,
        "<= 1.1x",
        mine / other <= 1.1,
        unit="MiB",
        runs=runs,
    )
    return [time, memory]


def announcement_of(exposure: Path, file: Path) -> Path:
    """Write the message that announces an exposure; return its file."""
    # Our own classes would make this process larger than what it measures.
    digest = hashlib.sha256(exposure.read_bytes()).hexdigest()
    made(["announcement", exposure, digest], file)
    return file
