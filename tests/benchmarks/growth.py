"""How cost grows with pixels, groups and ramps: `growth.py [--plot docs/performance-growth.png]`.

Second jobs in a process, so without imports; each point is the median of some runs. Data lie in a temporary
folder, and each set is removed once it was measured.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from harness import ROOT, Side, made, python, run

#: (side, groups, ramps) of each point: one of the three changes, the others stay.
PIXELS = [(64, 20, 10), (160, 20, 10), (320, 20, 10), (640, 20, 10), (2048, 20, 10)]
GROUPS = [(640, 5, 10), (640, 10, 10), (640, 20, 10), (640, 40, 10), (640, 80, 10), (640, 108, 10)]
RAMPS = [(640, 20, 10), (640, 20, 20), (640, 20, 40), (640, 20, 80), (640, 20, 160)]


def measure(work: Path, runs: int) -> dict[str, dict[str, float]]:
    """Return seconds by "side,groups,ramps" and stage."""
    results: dict[str, dict[str, float]] = {}
    for side, groups, ramps in sorted({*PIXELS, *GROUPS, *RAMPS}):
        store = made(["ramps", side, groups, ramps, min(ramps, 10)], work / f"{side}-{groups}-{ramps}")
        point = results.setdefault(f"{side},{groups},{ramps}", {})
        for stage in ("darkref", "noise"):
            job = Side(python("job.py", stage, store, store / "set.json", "--second"))
            for _ in range(runs):
                run(job)
            point[stage] = statistics.median(each.said["job"] for each in job.runs)
        print(side, groups, ramps, point, flush=True)
        shutil.rmtree(store)
    return results


def plot(found: dict[str, dict[str, float]], path: Path) -> None:
    """Draw the three curves of both stages, on logarithmic axes."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), sharey=True, layout="constrained")
    for axis, points, place, label in (
        (axes[0], PIXELS, 0, "pixels (20 groups, 10 ramps)"),
        (axes[1], GROUPS, 1, "groups (SUB640, 10 ramps)"),
        (axes[2], RAMPS, 2, "ramps (SUB640, 20 groups)"),
    ):
        x = [point[place] ** 2 if place == 0 else point[place] for point in points]
        for stage, colour in (("darkref", "tab:blue"), ("noise", "tab:orange")):
            y = [found[",".join(map(str, point))][stage] for point in points]
            axis.loglog(x, y, "o-", color=colour, label=stage)
        # What costs the same for every sample would be parallel to this.
        axis.loglog(x, [y[-1] * each / x[-1] / 2 for each in x], ":", color="grey", label="proportional")
        axis.set_xlabel(label)
        axis.grid(which="major", alpha=0.3)
    axes[0].set_ylabel("seconds a job")
    axes[0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure and plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "performance-growth.json")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "performance-growth.png")
    parser.add_argument("--only-plot", action="store_true", help="from the figures that are there")
    asked = parser.parse_args()
    if not asked.only_plot:
        with tempfile.TemporaryDirectory(prefix="darks-growth-") as work:
            asked.json.write_text(json.dumps(measure(Path(work), asked.runs), indent=1) + "\n")
    plot(json.loads(asked.json.read_text()), asked.plot)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
