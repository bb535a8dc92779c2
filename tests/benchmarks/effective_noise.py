"""Effective noise alone, as pynrc measures it: spatial and temporal, every number of groups, from FITS.

`effective_noise.py STORE` prints the seconds of each; the first round, in which kernels are loaded, is not
counted, as it is not for a worker's second job.
"""

import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.noise.effective.spatial import SlopeSpread
from services.noise.effective.temporal import temporal_sigmas
from services.noise.memory_plan import plan_noise, resident_memory
from services.noise.planes import exposure_pixels, planes
from shared.contracts.messages import parse
from shared.processors import processors
from shared.ramps.ramp import Ramp
from shared.ramps.window_reader import Integration
from shared.store.local import LocalStore


def main() -> None:
    """Measure a set twice."""
    folder = Path(sys.argv[1])
    ready = parse((folder / "set.json").read_bytes()).content
    store = LocalStore(folder)
    record: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(2):
            ramps = [
                Integration(Ramp(store.open(member.ramp.key), member.exposure_id), 0)
                for member in ready.members
            ]
            begun = time.perf_counter()
            windows = plan_noise(ready.key, len(ramps), 2 * 1024**3, resident_memory())
            temporal_sigmas(ramps, ready.key, windows, Path(scratch), lambda: None)
            temporal = time.perf_counter()

            def spread(ramp: Ramp) -> None:
                pixels = exposure_pixels(ready.key, ramp.read_image("PIXELDQ"), ramp.where)
                slopes = SlopeSpread()
                for plane in planes(ramp):
                    slopes.add(plane, pixels)

            # In a job the other measurements of a plane keep the second processor busy; here, another ramp.
            with ThreadPoolExecutor(processors()) as threads:
                list(threads.map(spread, [ramp for ramp, _ in ramps]))
            done = time.perf_counter()
            for ramp, _ in ramps:
                ramp.close()
            record = {"temporal": temporal - begun, "spatial": done - temporal, "both": done - begun}
    print(json.dumps(record))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
