"""Peak memory of darkref and noise against the number of full-frame exposures."""

from pathlib import Path

from harness import MIB, Row, Side, made, python, run

#: Few groups, to spare the disk; memory does not grow with them.
GROUPS = 4
EXPOSURES = (10, 40, 100)
BOUND = 2 * 1024**3


def measure(work: Path, runs: int) -> list[Row]:
    """Measure sets of ten files, which go by as many names as are wanted."""
    rows = []
    for stage in ("darkref", "noise"):
        peaks = []
        for exposures in EXPOSURES:
            store = made(["ramps", 2048, GROUPS, exposures, 10], work / f"memory{exposures}")
            side = Side(python("job.py", stage, store, store / "set.json"))
            peaks.append(run(side).peak)
        text = ", ".join(f"{n}: {peak / MIB:.0f} MiB" for n, peak in zip(EXPOSURES, peaks, strict=True))
        rows.append(
            Row(
                f"peak memory, {stage}, full frame, {EXPOSURES[0]}, {EXPOSURES[1]}, {EXPOSURES[2]} exposures",
                "2 GiB",
                max(peaks) / MIB,
                BOUND / MIB,
                max(peaks) / BOUND,
                "<= 1x",
                max(peaks) <= BOUND,
                unit="MiB",
                note=text,
            )
        )
    return rows
