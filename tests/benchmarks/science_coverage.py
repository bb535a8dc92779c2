"""Do the stated errors hold? Sets of simulated darks against their truth; goes on where it stopped.

    PYTHONPATH=tests .venv/bin/python tests/benchmarks/science_coverage.py run FOLDER --worker 0 --workers 2 &
    PYTHONPATH=tests .venv/bin/python tests/benchmarks/science_coverage.py run FOLDER --worker 1 --workers 2
    PYTHONPATH=tests .venv/bin/python tests/benchmarks/science_coverage.py tables FOLDER

With --pipeline: fewer sets, but raw exposures that go through all steps.

`run` writes one line of JSON a set into FOLDER and leaves out what is there; `tables` prints what
docs/science-validation.md shows: the pulls, (measured - truth) / stated error, figure by figure.
"""

import argparse
import time
from pathlib import Path

from support.science_coverage.measure import append, measure_pipeline, measure_set, read
from support.science_coverage.tables import tables

#: Layout -> ramps -> seeds of each detector. Correlated noise has the SUBGRISM64 sets and full frames only.
SEEDS = {
    "SUBGRISM64": {5: 48, 10: 44, 30: 10},
    "SUB160": {5: 8, 10: 14, 30: 10},
    "SUB160 slow": {5: 8, 10: 14, 30: 10},
    "FULL": {5: 2, 10: 1, 30: 1},
}
DETECTORS = ("NRCA1", "NRCALONG")
#: Of the draws: another wherever the code was mended on what the last one showed.
ROUND = 3


def jobs() -> list[tuple[str, str, int, int]]:
    """Return (detector, layout, ramps, seed) of every set, each kind evenly spread over the list."""
    spread = [
        # Full frames take minutes each: last.
        ((seed + 0.5) / count + (layout == "FULL"), (detector, layout, ramps, seed))
        for layout, kinds in SEEDS.items()
        for ramps, count in kinds.items()
        for seed in range(count)
        for detector in DETECTORS
    ]
    # So that whenever it is stopped, every kind has had its share.
    return [job for _, job in sorted(spread, key=lambda each: each[0])]


def pipeline_jobs() -> list[tuple[str, str, int, int]]:
    """Return the sets that go through the whole pipeline; detectors have other seeds, hence other noise."""
    return [
        *((DETECTORS[seed % 2], "SUB160 pipeline", 10, 1000 * ROUND + seed) for seed in range(24)),
        *((detector, "SUB320 pipeline", 10, 1000 * ROUND + 100 + n) for n, detector in enumerate(DETECTORS)),
    ]


def draw_of(detector: str, layout: str, ramps: int, seed: int) -> int:
    """Return the seed that a set is drawn with: one of its own, or sets would share their noise."""
    kind = DETECTORS.index(detector) + len(DETECTORS) * list(SEEDS).index(layout)
    return 100_000_000 * (ROUND - 1) + 1_000_000 * (kind + 1) + 1000 * ramps + seed


def run(folder: Path, worker: int, workers: int, minutes: float, pipeline: bool) -> None:
    """Measure this worker's share of the sets that are not in `folder` yet, for so long at most."""
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    done = {(each["detector"], each["layout"], each["ramps"], each["seed"]) for each in read(folder)}
    for job in (pipeline_jobs() if pipeline else jobs())[worker::workers]:
        if job in done:
            continue
        if time.monotonic() - begun > 60 * minutes:
            break
        start = time.monotonic()
        detector, layout, ramps, seed = job
        if pipeline:
            result = measure_pipeline(detector, layout.split()[0], seed, folder)
        else:
            result = measure_set(detector, layout, ramps, draw_of(*job), folder)
        named = {"detector": detector, "layout": layout, "ramps": ramps, "seed": seed}
        append(folder / f"{'pipeline' if pipeline else 'worker'}{worker}.jsonl", named | result)
        print(f"{detector} {layout} {ramps} ramps, seed {seed}: {time.monotonic() - start:.1f} s", flush=True)


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "tables"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0, help="start no set after so long")
    parser.add_argument("--pipeline", action="store_true", help="raw exposures through `nircam-darks run`")
    asked = parser.parse_args()
    if asked.what == "run":
        run(asked.folder, asked.worker, asked.workers, asked.minutes, asked.pipeline)
    else:
        results = [
            each for each in read(asked.folder) if each["layout"].endswith("pipeline") == asked.pipeline
        ]
        print(tables(results))


if __name__ == "__main__":
    main()
