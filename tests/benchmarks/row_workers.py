"""Two ingest workers against one, 20 exposures."""

from pathlib import Path

from harness import Row, Side, alternate, made, python, row

#: Two more load jwst in the workers' processes before the clock starts.
EXPOSURES = 22


def measure(work: Path, runs: int) -> list[Row]:
    """Run both; the workers' start is left out, which each has once in its life."""
    folder = made(["uncal", "NRCALONG:SUB640", 10, EXPOSURES, 1], work / "workers")
    two, one = Side(python("workers.py", folder, 2)), Side(python("workers.py", folder, 1))
    alternate(two, one, runs)
    return [
        row(
            "2 ingest workers, 20 exposures of SUB640 x 10 groups",
            "1 worker",
            ">= 1.9x",
            two,
            one,
            lambda ratio: ratio >= 1.9,
            seconds=lambda run: run.said["seconds"],
            note="the workers had loaded jwst before",
        )
    ]
