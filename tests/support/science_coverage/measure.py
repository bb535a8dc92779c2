"""One set of the coverage test: drawn, measured by darkref and noise, and held against its truth."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from nircam_darks.simulation.detector import SimulatedPixels
from nircam_darks.simulation.simulate import SimulationPlan, simulate, simulated_pixels
from services.darkref.handler import handle as build_reference
from services.darkref.measure.bad_pixels import Thresholds
from services.noise.handler import handle as measure_noise
from shared.nircam.dq import PixelFlag
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import Manifest
from support.science_coverage.sets import draw_set, pipeline_plan, plan_of
from support.science_coverage.truth import NO_CLOSED_FORM, truths

#: Figure -> field of the results of set-noise.
SET_NOISE = {
    "CDS noise": "cds_noise",
    "CDS noise, medians removed": "cds_noise_median_removed",
    "read noise (white)": "white_noise",
    "spatial effective noise": "spatial_effective_noise",
    "temporal effective noise": "temporal_effective_noise",
    "kTC noise": "ktc_noise",
    "correlated 1/f noise": "correlated_noise",
    "uncorrelated 1/f noise": "uncorrelated_noise",
}
#: A pixel is evidently hot from so many sigmas of an integration's slopes, and from so many e-/s.
_EVIDENT_SIGMA, _EVIDENT_RATE = 7.0, 0.55
#: A flag is false on a pixel below these.
_FALSE_SIGMA, _FALSE_RATE = 3.0, 0.45
#: Exit status of `nircam-darks run` where not every set came to an accepted reference.
REJECTED = 3
#: A figure: what was measured and the stated error; None where it was refused.
Measured = tuple[float | None, float | None]


def measure_set(detector: str, layout: str, ramps: int, draw: int, scratch: Path) -> dict[str, Any]:
    """Draw one set of calibrated ramps; return its figures as [measured, stated error, truth], and more."""
    plan = plan_of(detector, layout, ramps, draw)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="set-") as name:
        folder = Path(name)
        store = LocalStore(folder / "store")
        drawn = draw_set(plan, store, folder)
        # This process drew the ramps too, and still holds what that took.
        settings = StageSettings(store=folder / "store", mode="flight", verify=False, max_memory=4 * 1024**3)
        context = StageContext(store, settings)
        build_reference(drawn.ready, context)
        measure_noise(drawn.ready, context)
        measure_noise(drawn.first_exposure, context)
        store.close()
        return _compared(folder / "store", plan, drawn.pixels)


def measure_pipeline(detector: str, subarray: str, draw: int, scratch: Path) -> dict[str, Any]:
    """Simulate raw exposures and run the whole pipeline on them; return the same."""
    plan = pipeline_plan(detector, subarray, draw)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="set-") as name:
        folder = Path(name)
        simulated = simulate([plan], folder / "simulated")
        done = subprocess.run(
            [
                *(sys.executable, "-c", "from nircam_darks.cli.main import main; main()", "run"),
                *("--jobs", "1", "--mode", "flight", "--out", str(folder / "results")),
                str(simulated.files[0].parent),
            ],
            check=False,
            capture_output=True,
        )
        # A reference that its verification rejects is a result as well.
        if done.returncode not in (0, REJECTED):
            raise RuntimeError(f"seed {draw}: {done.stderr.decode()}")
        pixels = simulated_pixels(plan)
        result = _compared(folder / "results", plan, pixels)
    if not pixels.science.all():
        # What the reference pixel correction leaves of 1/f noise has no closed form.
        for figure in NO_CLOSED_FORM:
            result["figures"].pop(figure, None)
    return result | {"rejected": done.returncode == REJECTED}


def _compared(results: Path, plan: SimulationPlan, pixels: SimulatedPixels) -> dict[str, Any]:
    """Return what the products under a folder say, beside the truth."""
    products: dict[str, list[Manifest]] = {}
    for path in sorted(results.rglob("manifest.json")):
        manifest = Manifest.model_validate_json(path.read_bytes())
        products.setdefault(manifest.product, []).append(manifest)
    [reference], [noise] = products["reference"], products["set-noise"]
    exposures = [manifest.results for manifest in products["exposure-noise"]]
    # `run` moves the file to where people look for it.
    [file] = results.rglob(reference.results["file"])
    quality = fits.getdata(file, "DQ")
    true = truths(plan, pixels)
    measured = figures(reference.results, noise.results, exposures)
    return {
        "figures": {
            name: [value, error, true[name]]
            for name, (value, error) in measured.items()
            if value is not None and error is not None
        },
        "hot": hot_pixels(plan, pixels, quality, true["spatial effective noise"]),
    }


def figures(
    reference: dict[str, Any],
    noise: dict[str, Any],
    exposures: Iterable[dict[str, Any]],
) -> dict[str, Measured]:
    """Return each figure as the results have it; hits are those of the first exposure."""
    measured: dict[str, Measured] = {
        "dark current": (reference["dark_current_e_per_ks"], reference["dark_current_error_e_per_ks"])
    }
    for figure, field in SET_NOISE.items():
        if noise[field] is not None:
            measured[figure] = (noise[field]["value"], noise[field]["error"])
    events = min(exposures, key=lambda results: str(results["exposure_id"]))["events"]
    if events is not None:
        measured["hit rate"] = (events["hits_per_cm2_s"], events["hits_per_cm2_s_error"])
        measured["charge per event"] = (events["median_charge_e"], events["median_charge_error_e"])
    return measured


def hot_pixels(
    plan: SimulationPlan, pixels: SimulatedPixels, quality: NDArray[np.uint32], noise: float
) -> dict[str, int]:
    """Count the hot pixels that were found, missed and made up; `noise` is the spatial one, e-."""
    flagged = (quality & PixelFlag.HOT.mask != 0) & pixels.science
    seconds = plan.tgroup * (plan.ngroups - 1)
    above = (pixels.rate - pixels.bulk_rate) * seconds / noise
    evident = pixels.science & (pixels.rate >= _EVIDENT_RATE) & (above >= _EVIDENT_SIGMA)
    innocent = pixels.science & ((pixels.rate < _FALSE_RATE) | (above < _FALSE_SIGMA))
    return {
        "hot": int((pixels.science & (pixels.rate >= Thresholds().hot_e_per_s)).sum()),
        "evident": int(evident.sum()),
        "found": int((evident & flagged).sum()),
        "flagged": int(flagged.sum()),
        "innocent": int(innocent.sum()),
        "false": int((innocent & flagged).sum()),
    }


def append(file: Path, found: dict[str, Any]) -> None:
    """Add a set's result to a file of one JSON line a set."""
    with file.open("a") as lines:
        lines.write(json.dumps(found) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the results that are in a folder."""
    files = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]
