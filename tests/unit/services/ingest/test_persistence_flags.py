"""The persistence flags of the pixels concerned, against jwst's own step on the whole frame."""

import numpy as np
import pytest
from jwst.persistence import PersistenceStep
from stdatamodels.jwst.datamodels import RampModel

from services.ingest import persistence_flags
from services.ingest.persistence import PersistenceState, read_state, unix_seconds, write_state
from services.ingest.persistence_flags import flag_persistence, window_openers

SHAPE = (3, 7, 24, 20)
START_MJD, GROUP_SECONDS = 60000.25, 10.0
JUMP, SATURATED = 4, 2


def exposure(seed=1):
    """Give a ramp with saturated groups, jumps, and pixels that are saturated from the first group on."""
    random = np.random.default_rng(seed)
    model = RampModel(SHAPE)
    model.data = random.normal(1000, 300, SHAPE).astype("f4")
    groupdq = np.where(random.random(SHAPE) < 0.02, JUMP, 0).astype("u1")
    for y, x in random.integers(0, 20, (12, 2)):
        first = random.integers(0, SHAPE[1])
        groupdq[random.integers(0, SHAPE[0]), first:, y, x] |= SATURATED
    model.groupdq = groupdq
    model.meta.instrument.detector, model.meta.filename = "NRCA3", "e_jump.fits"
    model.meta.exposure.start_time = START_MJD
    model.meta.exposure.group_time = GROUP_SECONDS
    model.meta.exposure.integration_time = SHAPE[1] * GROUP_SECONDS
    return model


def earlier():
    """Give a state that ends within the exposure for some pixels, and after it for others."""
    random = np.random.default_rng(5)
    pixels = random.choice(SHAPE[2] * SHAPE[3], 30, replace=False)
    rows, columns = np.unravel_index(pixels, SHAPE[2:])
    return PersistenceState(rows, columns, unix_seconds(START_MJD) + random.uniform(1, 400, 30))


def with_times(model):
    """Give each integration a start of its own, with a gap of 100 s before it."""
    kind = model.get_dtype("int_times")
    times = np.zeros(SHAPE[0], kind)
    times["int_start_MJD_UTC"] = START_MJD + np.arange(SHAPE[0]) * (SHAPE[1] * GROUP_SECONDS + 100) / 86400
    model.int_times = times
    return model


@pytest.mark.parametrize("parameters", [{}, {"persistence_dnu": True}, {"dn_threshold": 1700.0}])
@pytest.mark.parametrize("window", [60, 1000])
@pytest.mark.parametrize("before", [None, earlier()], ids=["no state", "a state"])
@pytest.mark.parametrize("prepare", [lambda model: model, with_times], ids=["start time", "times"])
def test_flags_and_state_are_those_of_the_whole_frame(
    tmp_path, monkeypatch, parameters, window, before, prepare
):
    # Given an exposure, and jwst's step on the whole of it
    files = {"save_persistence": str(tmp_path / "after.asdf")}
    if before is not None:
        write_state(tmp_path / "before.asdf", before, "NRCA3", window, "e0")
        files["persistence_array_file"] = str(tmp_path / "before.asdf")
    whole = prepare(exposure())
    expected = PersistenceStep(skip=False, persistence_time=window, **files, **parameters).run(whole)
    left = read_state(tmp_path / "after.asdf", "NRCA3")

    # When only the pixels concerned are looked at, a few at a time, in a file on disk
    monkeypatch.setattr(persistence_flags, "_GATHERED", 5 * SHAPE[0] * SHAPE[1])
    model = prepare(exposure())
    groupdq = np.memmap(tmp_path / "groupdq", "u1", "w+", shape=SHAPE)
    groupdq[:] = model.groupdq
    step = PersistenceStep(skip=False, persistence_time=window, **parameters)
    data = model.data if step.dn_threshold is not None else None
    openers = window_openers(groupdq, data, step.dn_threshold)
    state = flag_persistence(step, model, groupdq, openers, before, data)

    # Then the flags and the state are the same, bit for bit
    np.testing.assert_array_equal(groupdq, expected.groupdq)
    np.testing.assert_array_equal(state.rows, left.rows)
    np.testing.assert_array_equal(state.columns, left.columns)
    np.testing.assert_array_equal(state.window_end, left.window_end)
    assert len(state) > 0
    assert np.any(groupdq & 32)


def test_an_exposure_without_saturation_after_none_is_not_touched():
    model = exposure()
    groupdq = model.groupdq & ~np.uint8(SATURATED)
    before = groupdq.copy()
    step = PersistenceStep(skip=False, persistence_time=1000)
    state = flag_persistence(step, model, groupdq, window_openers(groupdq), None)
    assert len(state) == 0
    np.testing.assert_array_equal(groupdq, before)
