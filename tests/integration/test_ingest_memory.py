"""ingest's peak memory on full frames of any length, in a process of its own."""

import os

import pytest

from support.full_frame_ingest import INGEST_JOB, NY, full_frame
from support.ingest_exposures import (
    crds_environment,
    edit,
    write_references,
    write_server_config,
)
from support.peak_memory import needs_proc, peak_of

#: With this in the environment, also the routine dark of 2 x 150 groups, and one of few groups, from which
#: stcal takes jumps one after another; each takes minutes.
LONG = "DARKS_TEST_LONG_EXPOSURE"
#: Integrations, groups, and the threads that are asked for, more than would fit.
SHAPES = [(1, 30, 16), (2, 40, 1), *([(12, 10, 1), (2, 150, 1)] if os.environ.get(LONG) else [])]


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize(("nints", "ngroups", "threads"), SHAPES)
def test_a_full_frame_of_any_length_needs_two_gib(tmp_path, nints, ngroups, threads):
    # Given a full-frame dark
    raw = full_frame(tmp_path, nints, ngroups)
    for path in write_references(tmp_path / "references", size=NY).values():
        edit(path, SUBARRAY="FULL")
    write_server_config(tmp_path / "crds")
    environment = os.environ | crds_environment(tmp_path / "crds")
    # When its ramp is made
    peak, _ = peak_of(INGEST_JOB, tmp_path, raw, threads, tmp_path, environment=environment)
    print(f"{nints} x {ngroups}, {threads} threads: {peak / 1024**2:.0f} MiB")
    # Then memory, that of mapped files included, stays below 2 GiB
    assert peak < 2 * 1024**3
