"""Make what the benchmarks work on: `data.py ramps SIDE GROUPS EXPOSURES DISTINCT FOLDER`, or `uncal ...`.

Calibrated ramps are drawn here, with noise, pedestals, hits in crosses and their flags; as many as are
asked for, of which some may be further names of the same file where only memory is looked at. Raw
exposures, and the references to calibrate them with, are simulated.
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

from shared.contracts.messages import Envelope, ExposureIngested, SetMember, SetReady
from shared.store.local import LocalStore
from shared.store.manifest import MANIFEST
from support.configurations import configuration
from support.darkref_sets import START_MJD, KeyResults, write_ramp
from support.ramp_products import link_ramp

#: Hits a pixel and group, before their neighbours are flagged too: 5 % of the pixels in 20 groups.
_HITS = 0.0005


def ramps(side: int, ngroups: int, exposures: int, distinct: int, folder: Path) -> None:
    """Make a store with a set of calibrated ramps, and the message that says it is ready."""
    folder.mkdir(parents=True)
    key = configuration(side, side, ngroups)
    store = LocalStore(folder)
    members: list[SetMember] = []
    for n in range(exposures):
        path = f"ingest/{key.slug}/jw{n:03d}/0123abcd{n}"
        if n < distinct:
            file = folder / path / "ramp.fits"
            file.parent.mkdir(parents=True)
            write_ramp(file, key, *_ramp(np.random.default_rng(n), ngroups, side))
        else:
            file = folder / members[n % distinct].ramp.key
        start = START_MJD + 0.01 * n
        members.append(
            SetMember(
                exposure_id=f"jw{n:03d}",
                manifest=f"{path}/{MANIFEST}",
                ramp=link_ramp(store, path, file, f"{n:064x}", KeyResults(key=key)),
                integrations=1,
                start_mjd=start,
                end_mjd=start + 0.005,
            )
        )
    common = {"configuration": key.slug, "key": key, "gain": 1.84, "simulated": True}
    ready = SetReady(set_id="benchmark", members=members, **common)
    (folder / "set.json").write_bytes(Envelope.of(ready, identity="benchmark").encode())
    ingested = ExposureIngested(member=members[0], versions={}, **common)
    (folder / "exposure.json").write_bytes(Envelope.of(ingested, identity="benchmark").encode())
    store.close()


def _ramp(rng: np.random.Generator, ngroups: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    plane = (side, side)
    data = np.empty((1, ngroups, *plane), np.float32)
    flags = np.empty(data.shape, np.uint8)
    level = rng.standard_normal(plane, np.float32) * 20
    for group in range(ngroups):
        struck = rng.random(plane, np.float32) < _HITS
        level += struck * np.float32(300)
        data[0, group] = level + rng.standard_normal(plane, np.float32) * 5 + np.float32(0.2 * group)
        flags[0, group] = ndimage.binary_dilation(struck) * 4
    return data, flags


def uncal(what: str, ngroups: int, exposures: int, nints: int, folder: Path) -> None:
    """Simulate raw exposures with a CRDS cache beside them; `what` is ``DETECTOR[,DETECTOR]:SUBARRAY``."""
    from nircam_darks.simulation.simulate import SimulationPlan, environment, simulate

    detectors, _, subarray = what.partition(":")
    plans = [
        SimulationPlan(detector, subarray, ngroups=ngroups, exposures=exposures, nints=nints)
        for detector in detectors.split(",")
    ]
    result = simulate(plans, folder)
    (folder / "environment.json").write_text(json.dumps(environment(result.crds_path)))


def announcement(exposure: Path, digest: str, file: Path) -> None:
    """Write the message that announces an exposure."""
    from shared.contracts.messages import ExposureAnnounced

    content = ExposureAnnounced(
        exposure_id=exposure.name.removesuffix("_uncal.fits"),
        uri=exposure.as_uri(),
        size=exposure.stat().st_size,
        sha256=digest,
    )
    file.write_bytes(Envelope.of(content, identity=digest).encode())


if __name__ == "__main__":
    kind, first, *numbers, where = sys.argv[1:]
    if kind == "announcement":
        announcement(Path(first), numbers[0], Path(where))
    elif kind == "ramps":
        ramps(int(first), *map(int, numbers), Path(where))
    else:
        uncal(first, *map(int, numbers), Path(where))
