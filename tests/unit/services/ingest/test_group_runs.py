"""Runs of groups: what jwst carries from one group to the next goes from run to run."""

from types import SimpleNamespace

import numpy as np
import pytest
from jwst.refpix import RefPixStep
from stdatamodels.jwst import datamodels as dm

from services.ingest.group_runs import GroupRuns
from services.ingest.memory_plan import StreamPlan
from support.ingest_exposures import place

FULL = 2048


def full_frame(data):
    model = place(dm.RampModel(data), size=FULL)
    model.meta.subarray.name, model.meta.exposure.noutputs = "FULL", 4
    model.meta.exposure.zero_frame = False
    return model


@pytest.mark.parametrize("sides", [True, False])
def test_reference_pixels_of_a_full_frame_do_not_depend_on_the_runs(sides):
    # Given a full frame whose values need all bits of single precision, and some bad reference pixels
    random = np.random.default_rng(1)
    plane = random.normal(10, 6, (FULL, FULL)).astype("f4")
    data = np.stack([[plane, np.roll(plane, 3), plane[::-1], plane[:, ::-1]]])
    bad = np.zeros((FULL, FULL), "u4")
    bad[random.integers(0, 4, 50), random.integers(0, FULL, 50)] = 1
    bad[random.integers(0, FULL, 50), random.integers(0, 4, 50)] = 1
    bad[100:130, :4] = 1
    step = RefPixStep(use_side_ref_pixels=sides)
    with full_frame(data.copy()) as whole:
        whole.pixeldq = bad
        expected = step.process(whole).data
    # When a run of three groups and a run of one go through the step
    source = SimpleNamespace(
        shape=data.shape,
        read=lambda integration, groups, _: (
            data[integration : integration + 1, groups].copy(),
            np.zeros((1, groups.stop - groups.start, FULL, FULL), "u1"),
        ),
    )
    with full_frame(data[:, :1]) as model:
        model.pixeldq = bad
        plan = StreamPlan(3, FULL, FULL, threads=2)
        runs = GroupRuns(SimpleNamespace(refpix=step), ("refpix",), source, {}, model, plan)
        corrected = [run.data for run in runs.run()]
    # Then they are those of all four at once, bit for bit
    np.testing.assert_array_equal(np.concatenate(corrected), expected[0])
