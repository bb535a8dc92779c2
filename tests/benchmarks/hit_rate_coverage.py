"""Do the errors of hits/cm2/s and of their median charge hold? Simulated darks through `nircam-darks run`.

    .venv/bin/python tests/benchmarks/hit_rate_coverage.py NRCA1 SUB640 --seeds 1 20

One line an exposure, then the pulls, (measured - truth) / stated error: mean 0 and standard deviation 1 are
what honest errors give. The truth of the rate is what was asked for, of the charge the library's median.
An exposure of SUB640 takes about half a minute.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from nircam_darks.simulation.cosmic_rays import charge_library
from nircam_darks.simulation.simulate import SimulationPlan, simulate
from shared.products.jumps import JumpEvents
from shared.products.noise import ExposureNoiseResults


def measure(plan: SimulationPlan, folder: Path) -> JumpEvents:
    """Return the events of one simulated exposure."""
    simulated = simulate([plan], folder / "simulated")
    # Whether a reference could be built of it does not matter here.
    subprocess.run(
        [
            *(sys.executable, "-c", "from nircam_darks.cli.main import main; main()", "run", "--jobs", "1"),
            *("--out", str(folder / "results"), str(simulated.files[0].parent)),
        ],
        check=False,
        capture_output=True,
    )
    for path in (folder / "results").rglob("manifest.json"):
        manifest = json.loads(path.read_text())
        if manifest["product"] == "exposure-noise":
            events = ExposureNoiseResults.model_validate(manifest["facts"]).events
            if events is not None:
                return events
    raise SystemExit(f"{folder}: no exposure with events; give three groups or more")


def main() -> None:
    """Run the exposures that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("detector")
    parser.add_argument("subarray")
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 20), help="first and last")
    parser.add_argument("--ngroups", type=int, default=20)
    parser.add_argument("--nints", type=int, default=1)
    parser.add_argument("--readpatt", default="RAPID")
    parser.add_argument("--cosmic-ray-rate", type=float, default=None, help="hits/cm2/s")
    asked = parser.parse_args()
    library = charge_library()
    scene = library.scenes["SUNMIN"]
    charge = float(np.interp(0.5, library.probabilities, scene.quantiles))
    rates, charges = [], []
    for seed in range(asked.seeds[0], asked.seeds[1] + 1):
        plan = SimulationPlan(
            asked.detector,
            asked.subarray,
            ngroups=asked.ngroups,
            nints=asked.nints,
            readpatt=asked.readpatt,
            cosmic_ray_rate=asked.cosmic_ray_rate,
            seed=seed,
        )
        with tempfile.TemporaryDirectory() as folder:
            hits = measure(plan, Path(folder))
        rates.append((hits.hits_per_cm2_s - plan.hit_rate) / hits.hits_per_cm2_s_error)
        line = f"{seed}: {hits.hits_per_cm2_s:.3f} ± {hits.hits_per_cm2_s_error:.3f} ({plan.hit_rate:.3f})"
        if hits.median_charge_e is not None and hits.median_charge_error_e:
            charges.append((hits.median_charge_e - charge) / hits.median_charge_error_e)
            line += f", {hits.median_charge_e:.0f} ± {hits.median_charge_error_e:.0f} e- ({charge:.0f})"
        print(line, flush=True)
    for name, pulls in (("hits/cm2/s", np.array(rates)), ("median charge", np.array(charges))):
        print(
            f"{name}: pull {pulls.mean():+.2f} ± {1 / np.sqrt(len(pulls)):.2f}, std {pulls.std(ddof=1):.2f}, "
            f"within 1 sigma {np.mean(np.abs(pulls) < 1):.0%}, 3 sigma {np.mean(np.abs(pulls) < 3):.0%}"
        )


if __name__ == "__main__":
    main()
