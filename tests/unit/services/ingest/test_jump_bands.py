"""Bands of the jump step: wherever they end, the flags are those of the whole frame."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jwst.datamodels import dqflags
from stcal.jump.jump import detect_jumps_data, flag_large_events
from stcal.jump.jump_class import JumpData

from services.ingest.jump_bands import JumpBands
from services.ingest.large_events import expand_large_events
from services.ingest.memory_plan import StreamPlan

NX = 12


class Planes:
    """Planes in memory, in place of those on scratch."""

    path = Path("unused")

    def __init__(self, data, groupdq):
        self.data, self.groupdq, self.shape = data.astype(">f4"), groupdq.copy(), data.shape

    def release(self):
        """Keep the memory."""


def jump_data_of(data, groupdq, pixeldq, random, after_jump, clip=(100, True)):
    """What jwst's step gives stcal, with its defaults."""
    flags, ny = dqflags.pixel, data.shape[2]
    gain = random.normal(2, 0.1, (ny, NX)).astype("f4")
    gain[0, 3] = np.nan
    jump_data = JumpData(None, gain, np.full((ny, NX), 10, "f4"), flags)
    jump_data.nframes, jump_data.dt_group, jump_data.n_reads_groupdiff = 1, np.ones(1), np.ones(1) * 2
    jump_data.data, jump_data.gdq, jump_data.pdq = data.copy(), groupdq.copy(), pixeldq.copy()
    jump_data.set_detection_settings(4.0, 6.0, 5.0, 200.0, 10.0, True)
    if after_jump:
        jump_data.set_after_jump(10.0, 1, 500.0, 3)
    jump_data.set_sigma_clipping_info(3, *clip)
    jump_data.min_diffs_single_pass, jump_data.find_showers = 10, False
    jump_data.max_cores = "1"
    return jump_data


def busy_ramp(random, shape, places):
    """Noise, hits at the places (integration, group, y), a snowball, saturation, lost groups and rows."""
    nints, ngroups, ny, nx = shape
    data = (5 * np.arange(ngroups)[:, None, None] + random.normal(0, 6, shape)).astype("f4")
    groupdq = np.zeros(shape, "u1")
    for integration, group, y in places:
        i, g, row = integration % nints, group % ngroups, y % ny
        data[i, g:, row, random.integers(nx)] += np.float32(random.choice([60, 150, 400, 5000]))
    y, x = random.integers(ny), random.integers(nx)
    far = np.hypot(*np.ogrid[-y : ny - y, -x : nx - x])
    group = random.integers(ngroups)
    data[-1, group:, far < 4] += np.float32(3000)
    groupdq[-1, group:][:, far < 2] |= 2
    groupdq[random.random(shape) < 0.02] |= 1
    if random.random() < 0.3:
        groupdq[0, random.integers(ngroups)] |= 1
    if random.random() < 0.3:
        groupdq[:, :, random.integers(ny)] |= 1
    return data, groupdq


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    nints=st.integers(1, 3),
    ngroups=st.integers(3, 14),
    ny=st.integers(1, 20),
    height=st.integers(1, 21),
    width=st.integers(1, NX + 1),
    threads=st.sampled_from([1, 2, 3]),
    places=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 13), st.integers(0, 19)), max_size=12),
    after_jump=st.booleans(),
    clip=st.sampled_from([(100, True), (1, True), (12, False)]),
)
def test_flags_do_not_depend_on_where_bands_end(
    seed, nints, ngroups, ny, height, width, threads, places, after_jump, clip
):
    # Given a ramp with events anywhere, so also beside the ends of bands
    random = np.random.default_rng(seed)
    data, groupdq = busy_ramp(random, (nints, ngroups, ny, NX), places)
    pixeldq = np.zeros((ny, NX), "u4")
    jump_data = jump_data_of(data, groupdq, pixeldq, random, after_jump, clip)
    expected, expected_pixeldq, cosmic_rays, _ = detect_jumps_data(deepcopy(jump_data))
    # When jumps are detected band by band
    planes, model = in_bands(jump_data, data, groupdq, pixeldq, StreamPlan(3, ny, NX, height, threads, width))
    # Then flags and the number of cosmic rays are those of the whole
    np.testing.assert_array_equal(planes.groupdq, expected)
    np.testing.assert_array_equal(model.pixeldq, expected_pixeldq)
    unused = int(np.all(groupdq & 1, axis=(2, 3)).sum())
    if (groups := nints * (ngroups - 1) - unused) >= 1:
        assert model.meta.exposure.primary_cosmic_rays == 1000 * cosmic_rays / (groups * ny * NX)


def in_bands(jump_data, data, groupdq, pixeldq, plan):
    """Planes and model after the step in bands."""
    model = SimpleNamespace(
        pixeldq=pixeldq.copy(),
        meta=SimpleNamespace(exposure=SimpleNamespace(group_time=1.0), cal_step=SimpleNamespace()),
    )
    step = SimpleNamespace(_setup_jump_data=lambda _: jump_data)
    planes = Planes(data, groupdq)
    JumpBands(step, planes, range(len(data)), plan).process(model)
    return planes, model


@pytest.mark.parametrize("only_use_ints", [True, False])
@pytest.mark.parametrize("spared", [0, 1])
def test_a_group_that_the_clip_flags_in_all_of_the_frame_is_given_back(only_use_ints, spared):
    # Given twenty integrations, one of which takes a step in the same group of all pixels, or of all but one
    random = np.random.default_rng(7)
    data = random.normal(0, 1, (20, 5, 6, NX)).astype("f4")
    data[3, 2:] += 400
    data[3, 2:, 5, NX - spared :] -= 400
    groupdq, pixeldq = np.zeros(data.shape, "u1"), np.zeros(data.shape[2:], "u4")
    jump_data = jump_data_of(data, groupdq, pixeldq, random, False, (10, only_use_ints))
    jump_data.gain_2d[...] = 2
    expected, _, _, _ = detect_jumps_data(deepcopy(jump_data))
    assert (np.count_nonzero(expected[3, 2] & 4) == 0) == (spared == 0)
    for size in [(1, 1), (2, NX), (6, 5)]:
        # When the clip sees a part of the frame at a time
        planes, _ = in_bands(jump_data, data, groupdq, pixeldq, StreamPlan(3, 6, NX, size[0], widest=size[1]))
        # Then it gives back what it would of the whole frame
        np.testing.assert_array_equal(planes.groupdq, expected)


@pytest.mark.parametrize("masked", [0, 1, 2, 4, 99])
@pytest.mark.parametrize("chosen", [[0, 1, 2, 3], [0, 2, 3], [1]], ids=str)
def test_large_events_are_those_of_the_whole_exposure(masked, chosen):
    # Given snowballs with saturated cores in every integration, one of them in no use
    random = np.random.default_rng(11)
    groupdq = np.zeros((4, 6, 60, 70), "u1")
    for integration in range(4):
        for _ in range(2):
            y, x, group = random.integers(60), random.integers(70), random.integers(1, 6)
            far = np.hypot(*np.ogrid[-y : 60 - y, -x : 70 - x])
            groupdq[integration, group, far < 9] |= 4
            groupdq[integration, group:, far < 4] = 2
    jump_data = JumpData(None, None, None, dqflags.pixel)
    jump_data.set_snowball_info(True, 5, 1, 2.0, True, 2.5, 2, 5)
    jump_data.persist_grps_flagged = masked
    expected = groupdq.copy()
    expected[chosen], number = flag_large_events(groupdq[chosen], 4, 2, deepcopy(jump_data))
    assert not np.array_equal(expected, groupdq)
    # When they are expanded one integration at a time
    found = expand_large_events(groupdq, chosen, jump_data)
    # Then flags and number are the same
    np.testing.assert_array_equal(groupdq, expected)
    assert found == number
