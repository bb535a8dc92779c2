"""darkref against jwst_reffiles 1.0.1, SUB640, 10 ramps x 20 groups, the same files."""

from pathlib import Path

from harness import Row, Side, alternate, made, python, row


def measure(work: Path, runs: int) -> list[Row]:
    """Run both as whole processes, and ours once more for its second job, as in a worker."""
    store = made(["ramps", 640, 20, 10, 10], work / "sub640")
    against = "jwst_reffiles 1.0.1 `Dark` (without its plots)"
    rows = []
    for mode in ("reference", "flight"):
        job = ("job.py", "darkref", store, store / "set.json", "--mode", mode)
        theirs = Side(python("peers.py", "reffiles", store))
        whole, second = Side(python(*job)), Side(python(*job, "--second"))
        alternate(whole, theirs, runs)
        alternate(second, Side(python(*job)), runs)
        name = f"darkref, {mode} mode, SUB640, 10 x 20"
        rows += [
            row(
                f"{name}: the combine",
                against,
                "40x",
                second,
                theirs,
                lambda ratio: ratio >= 40,
                seconds=lambda run: run.said["timings"]["combine"],
                their_seconds=lambda run: run.said["combine"],
                note="reading, combining and writing cubes; imports and loading of kernels left out",
            ),
            row(
                f"{name}: whole process",
                against,
                "8x",
                whole,
                theirs,
                lambda ratio: ratio >= 8,
                note="imports included; no verification",
            ),
        ]
    return rows
