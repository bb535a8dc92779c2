"""Bands of the jump step: wherever they end, the flags are those of the whole frame."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jwst.datamodels import dqflags
from stcal.jump.jump import detect_jumps_data
from stcal.jump.jump_class import JumpData

from services.ingest.jump_bands import JumpBands
from services.ingest.memory_plan import StreamPlan

NX = 12


class Planes:
    """Planes in memory, in place of those on scratch."""

    path = Path("unused")

    def __init__(self, data, groupdq):
        self.data, self.groupdq, self.shape = data.astype(">f4"), groupdq.copy(), data.shape

    def release(self):
        """Keep the memory."""


def jump_data_of(data, groupdq, pixeldq, random, after_jump):
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
    jump_data.set_sigma_clipping_info(3, 100, True)
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
    threads=st.sampled_from([1, 2, 3]),
    places=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 13), st.integers(0, 19)), max_size=12),
    after_jump=st.booleans(),
)
def test_flags_do_not_depend_on_where_bands_end(
    seed, nints, ngroups, ny, height, threads, places, after_jump
):
    # Given a ramp with events anywhere, so also beside the ends of bands
    random = np.random.default_rng(seed)
    data, groupdq = busy_ramp(random, (nints, ngroups, ny, NX), places)
    pixeldq = np.zeros((ny, NX), "u4")
    jump_data = jump_data_of(data, groupdq, pixeldq, random, after_jump)
    expected, expected_pixeldq, cosmic_rays, _ = detect_jumps_data(deepcopy(jump_data))
    # When jumps are detected band by band
    exposure = SimpleNamespace(group_time=1.0)
    model = SimpleNamespace(
        pixeldq=pixeldq, meta=SimpleNamespace(exposure=exposure, cal_step=SimpleNamespace())
    )
    step = SimpleNamespace(_setup_jump_data=lambda _: jump_data)
    planes = Planes(data, groupdq)
    plan = StreamPlan(3, ny, NX, height, threads)
    JumpBands(step, planes, range(nints), plan).process(model)
    # Then flags and the number of cosmic rays are those of the whole
    np.testing.assert_array_equal(planes.groupdq, expected)
    np.testing.assert_array_equal(model.pixeldq, expected_pixeldq)
    unused = int(np.all(groupdq & 1, axis=(2, 3)).sum())
    if (groups := nints * (ngroups - 1) - unused) >= 1:
        assert exposure.primary_cosmic_rays == 1000 * cosmic_rays / (groups * ny * NX)
