"""`run` of the exposures of one detector, two jobs at once against one.

The exposures lie within the persistence window of each other, so that each needs the state of the one before
it: with one job they go in strict order of time, with two they are calibrated side by side.
"""

from pathlib import Path

from harness import Row, Run, Side, alternate, made, python, row

EXPOSURES, GROUPS = 8, 50


def measure(work: Path, runs: int) -> list[Row]:
    """Run the whole of it, and count the seconds until the last exposure is ingested."""
    folder = made(["uncal", "NRCALONG:SUB640", GROUPS, EXPOSURES, 1], work / "one_detector")
    two, one = (Side(python("many_small.py", folder, jobs)) for jobs in (2, 1))
    alternate(two, one, runs)
    waited = two.median(lambda run: run.said["waited"])
    return [
        row(
            f"`run` of {EXPOSURES} x SUB640 of {GROUPS} groups, one detector, 2 jobs at once",
            "1 job: the strict order of time",
            ">= 1.7x",
            two,
            one,
            lambda ratio: ratio >= 1.7,
            seconds=lambda run: run.said["ingested"],
            note="until the last exposure is ingested; start-up, imports and the noise of exposures "
            f"included. The jobs of ingest waited {waited:.3g} s for the exposures before theirs. The whole "
            f"run, with the reference and the report: {two.median(_wall):.3g} s with 2 jobs, "
            f"{one.median(_wall):.3g} s with 1",
        )
    ]


def _wall(run: Run) -> float:
    return float(run.said["wall"])
