"""noise's peak memory on a full-frame set of 10 x 1 integrations x 20 groups, in a process of its own."""

import os

import numpy as np
import pytest

from shared.store.local import LocalStore
from shared.store.manifest import MANIFEST
from support.configurations import configuration
from support.darkref_sets import KeyResults
from support.noise_sets import put_ramp, set_ready
from support.peak_memory import needs_proc, peak_of
from support.ramp_products import link_ramp

_JOB = """
from pathlib import Path
from services.noise.handler import handle
from shared.contracts.messages import parse
from shared.settings.stage import StageSettings
from shared.runtime.handler import StageContext
from shared.store.local import LocalStore
root = Path(sys.argv[1])
message = parse((root / "message.json").read_bytes())
handle(message, StageContext(LocalStore(root), StageSettings(store=root)))
"""


@pytest.mark.slow
@needs_proc
def test_full_frame_set_of_ten_ramps_stays_under_two_gibibytes(tmp_path):
    # Given ten names of one full-frame ramp: memory does not depend on what the pixels say
    store = LocalStore(tmp_path / "store")
    key = configuration(2048, 2048, 20)
    sci = np.random.default_rng(1).standard_normal((1, 20, 2048, 2048), np.float32)
    one = put_ramp(store, tmp_path, key, sci, number=0)
    members = []
    for n in range(10):
        path = f"ingest/{key.slug}/jw{n}/{n:032x}"
        ramp = link_ramp(store, path, store.root / one.ramp.key, f"{n:064x}", KeyResults(key=key))
        members.append(
            one.model_copy(
                update={
                    "exposure_id": f"jw{n}",
                    "manifest": f"{path}/{MANIFEST}",
                    "ramp": ramp,
                    "start_mjd": one.start_mjd + 0.01 * n,
                    "end_mjd": one.end_mjd + 0.01 * n,
                }
            )
        )
    (store.root / "message.json").write_bytes(set_ready(key, members).encode())
    # When a fresh process measures the set with the default bound
    peak, _ = peak_of(_JOB, store.root, environment=os.environ | {"NUMBA_NUM_THREADS": "1"})
    # Then it never held 2 GiB, and it measured the set
    print(f"peak {peak / 1024**2:.0f} MiB")
    assert peak < 2 * 1024**3
    assert list(store.root.glob(f"noise/*/set1/*/{MANIFEST}"))
