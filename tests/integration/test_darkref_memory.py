"""darkref's peak memory on a full-frame set of 10 x 1 integrations x 20 groups, in a process of its own."""

from pathlib import Path

import numpy as np
import pytest

from shared.contracts.messages import Envelope, SetMember, SetReady
from shared.store.local import LocalStore
from shared.store.manifest import MANIFEST
from support.configurations import configuration
from support.darkref_sets import START_MJD, KeyResults, write_ramp
from support.peak_memory import needs_proc, peak_of
from support.ramp_products import link_ramp

_JOB = """
import sys
from pathlib import Path
from services.darkref.handler import handle
from shared.contracts.messages import parse
from shared.settings.stage import StageSettings
from shared.runtime.handler import StageContext
from shared.store.local import LocalStore
root, bound = Path(sys.argv[1]), int(sys.argv[2])
message = parse((root / "message.json").read_bytes())
handle(message, StageContext(LocalStore(root), StageSettings(store=root, max_memory=bound)))
"""


@pytest.fixture(scope="module")
def full_frames(tmp_path_factory):
    """Ten names of one full-frame exposure: memory does not depend on what the pixels say."""
    folder = tmp_path_factory.mktemp("full")
    key = configuration(2048, 2048, 20)
    rng = np.random.default_rng(1)
    data = rng.standard_normal((1, 20, 2048, 2048), np.float32) * 5
    groupdq = (rng.random(data.shape, np.float32) < 0.003).astype(np.uint8) * 4
    file = write_ramp(folder / "jw_jump.fits", key, data, groupdq)
    store = LocalStore(folder)
    members = []
    for n in range(10):
        path = f"ingest/{key.slug}/jw{n}/0123abcd{n}"
        members.append(
            SetMember(
                exposure_id=f"jw{n}",
                manifest=f"{path}/{MANIFEST}",
                ramp=link_ramp(store, path, file, f"{n:064x}", KeyResults(key=key)),
                integrations=1,
                start_mjd=START_MJD + 0.01 * n,
                end_mjd=START_MJD + 0.01 * n + 0.005,
            )
        )
    ready = SetReady(
        configuration=key.slug, key=key, set_id="full", members=members, gain=1.84, simulated=True
    )
    (folder / "message.json").write_bytes(Envelope.of(ready, identity="full").encode())
    return folder


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("gibibytes", [1, 2])
def test_peak_memory_stays_within_max_memory(full_frames: Path, gibibytes):
    bound = gibibytes * 1024**3
    for old in full_frames.glob(f"darkref/*/*/*/{MANIFEST}"):
        old.unlink()
    peak, _ = peak_of(_JOB, full_frames, bound)
    print(f"peak {peak / 1024**2:.0f} MiB of {bound / 1024**2:.0f} MiB")
    assert peak < bound
