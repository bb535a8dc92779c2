"""Effective noise against pynrc's algorithm, SUB640, 10 ramps x 20 groups, all numbers of groups."""

from pathlib import Path

from harness import Row, Side, alternate, made, python, row


def measure(work: Path, runs: int) -> list[Row]:
    """Run the measurement alone on both sides, then our whole noise job of the set, which does far more."""
    store = made(["ramps", 640, 20, 10, 10], work / "sub640")
    theirs = Side(python("peers.py", "pynrc", store))
    ours = Side(python("effective_noise.py", store))
    whole = Side(python("job.py", "noise", store, store / "set.json"))
    alternate(ours, theirs, runs)
    alternate(whole, Side(whole.command), runs)
    against = "pynrc 2.0.1's algorithm: a fit for every n and ramp"
    return [
        row(
            "effective noise, all n, temporal and spatial, SUB640, 10 x 20",
            against,
            "50x",
            ours,
            theirs,
            lambda ratio: ratio >= 50,
            seconds=lambda run: run.said["both"],
            note="ours reads the FITS files within its time, theirs has them in memory",
        ),
        row(
            "noise of a set, everything it measures, SUB640, 10 x 20: whole process",
            against,
            "(for information)",
            whole,
            theirs,
            lambda ratio: True,
            note="with the jump events of its ten exposures, which services measure as each one arrives",
        ),
    ]
