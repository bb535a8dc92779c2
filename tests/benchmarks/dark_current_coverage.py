"""Do the dark current's stated errors hold? Simulated sets through `nircam-darks run`, against their truth.

    .venv/bin/python tests/benchmarks/dark_current_coverage.py NRCA1 SUB160 --seeds 101 112

One line a set, then the pulls, (measured - truth) / stated error: mean 0 and standard deviation 1 are what
honest errors give. Sets take 10 s (SUB160) to some minutes (FULL) each.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from nircam_darks.simulation.noise import ONE_OVER_F, OneOverFNoise
from nircam_darks.simulation.simulate import SimulationPlan, simulate


def measure(plan: SimulationPlan, folder: Path) -> tuple[float, float, float]:
    """Return the dark current of one simulated set, its stated error and the truth, e- per 1000 s."""
    simulated = simulate([plan], folder / "simulated")
    subprocess.run(
        [
            *(sys.executable, "-c", "from nircam_darks.cli.main import main; main()", "run", "--jobs", "1"),
            *("--out", str(folder / "results"), str(simulated.files[0].parent)),
        ],
        check=True,
        capture_output=True,
    )
    [reference] = json.loads((folder / "results" / "summary.json").read_text())["references"]
    [truth] = simulated.truth.configurations
    return (
        reference["dark_current_e_per_ks"],
        reference["dark_current_error_e_per_ks"],
        truth.dark_current_e_per_ks,
    )


def main() -> None:
    """Run the sets that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("detector")
    parser.add_argument("subarray")
    parser.add_argument("--seeds", type=int, nargs=2, default=(101, 112), help="first and last")
    parser.add_argument("--ngroups", type=int, default=20)
    parser.add_argument("--exposures", type=int, default=12)
    parser.add_argument("--nints", type=int, default=1)
    parser.add_argument("--without-pink-noise", action="store_true", help="white read noise only")
    asked = parser.parse_args()
    if asked.without_pink_noise:
        ONE_OVER_F.update({channel: OneOverFNoise(0.0, 0.0) for channel in ONE_OVER_F})
    pulls = []
    for seed in range(asked.seeds[0], asked.seeds[1] + 1):
        plan = SimulationPlan(
            asked.detector,
            asked.subarray,
            ngroups=asked.ngroups,
            exposures=asked.exposures,
            nints=asked.nints,
            seed=seed,
        )
        with tempfile.TemporaryDirectory(prefix="dark-current-") as folder:
            value, error, truth = measure(plan, Path(folder))
        pulls.append((value - truth) / error)
        print(
            f"seed {seed}: {value:.2f} +- {error:.2f}, truth {truth:.2f}, pull {pulls[-1]:+.2f}", flush=True
        )
    result = np.array(pulls)
    worst = result[np.abs(result).argmax()]
    spread = f"std {result.std(ddof=1):.2f}, " if result.size > 1 else ""
    print(f"{result.size} sets: pull mean {result.mean():+.2f}, {spread}worst {worst:+.2f}")


if __name__ == "__main__":
    main()
