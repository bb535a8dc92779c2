"""Events of an exposure in a store, through the noise stage, against what was planted."""

import numpy as np
import pytest

from services.noise.handler import handle
from shared.nircam.detectors import PIXEL_PITCH_UM
from shared.products.noise import ExposureNoiseResults
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.configurations import configuration
from support.noise_sets import GAIN, JUMP_DET, ingested, put_ramp, white_ramps

KEY = configuration(80, 96, 8, detector="NRCA1", substrt1=1, substrt2=1)
CHARGE_DN = 800.0


@pytest.fixture
def context(tmp_path):
    store = LocalStore(tmp_path / "store")
    yield StageContext(store, StageSettings(store=tmp_path / "store"))
    store.close()


def test_facts_of_an_exposure_hold_its_hits_their_charge_and_when_it_was_taken(context, tmp_path):
    # Given a corner of the detector, with reference pixels on two sides, and 60 hits on two pixels each
    rng = np.random.default_rng(4)
    sci = white_ramps(KEY, nints=3, seed=4)
    groupdq = np.zeros(sci.shape, np.uint8)
    places = rng.permutation([(y, x) for y in range(6, 78, 6) for x in range(6, 92, 6)])[:60]
    for y, x in places:
        nint, group = rng.integers(3), rng.integers(1, 8)
        sci[nint, group:, y, x] += 0.75 * CHARGE_DN
        sci[nint, group:, y, x + 1] += 0.25 * CHARGE_DN
        groupdq[nint, group, y, x : x + 2] |= JUMP_DET
    # And two flags that noise made, down, and flags on reference pixels
    for nint, y, x in ((0, 9, 9), (2, 40, 51)):
        sci[nint, 5:, y, x] -= 40
        groupdq[nint, 5, y, x] |= JUMP_DET
    groupdq[:, 3, 1, 10:20] |= JUMP_DET
    member = put_ramp(context.store, tmp_path, KEY, sci, groupdq)
    # When it is measured
    handle(ingested(KEY, member), context)
    [manifest] = [m for m in find_all(context.store, "noise/") if m.product == "exposure-noise"]
    events = ExposureNoiseResults.model_validate(manifest.results).events
    # Then hits, noise and charge are what was planted
    assert events is not None
    assert (events.events, events.negative_events) == (60, 2)
    assert events.hits == pytest.approx(58, abs=2)
    assert events.hits_low < 58 < events.hits_high
    assert events.pixels_per_event == 2
    assert events.median_charge_e == pytest.approx(CHARGE_DN * GAIN, rel=0.01)
    assert sum(events.charge.events) == 60
    assert sum(events.charge.mirrored) == 2
    # And the rate is over the area off reference pixels and border, and over three ramps
    area = (80 - 4 - 2) * (96 - 4 - 2) * (PIXEL_PITCH_UM * 1e-4) ** 2
    assert events.area_cm2 == pytest.approx(area)
    assert events.live_seconds == pytest.approx(3 * 7 * KEY.group_time)
    assert events.hits_per_cm2_s == pytest.approx(events.hits / area / events.live_seconds)
    assert events.hits_per_cm2_s_low < events.hits_per_cm2_s < events.hits_per_cm2_s_high
    assert "hits/cm2/s in flight" in events.verdict
    # And a collector finds when
    assert (events.start_mjd, events.end_mjd) == (member.start_mjd, member.end_mjd)
    assert events.start_mjd < events.mid_mjd < events.end_mjd


def test_exposure_of_two_groups_has_no_events(context, tmp_path):
    key = configuration(64, 64, 2)
    member = put_ramp(context.store, tmp_path, key, white_ramps(key))
    handle(ingested(key, member), context)
    [manifest] = [m for m in find_all(context.store, "noise/") if m.product == "exposure-noise"]
    assert ExposureNoiseResults.model_validate(manifest.results).events is None
