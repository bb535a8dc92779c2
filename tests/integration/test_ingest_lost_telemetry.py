"""Frames that were never read: named and masked, and no step of the pipeline takes them for signal."""

import numpy as np
import pytest
from astropy.io import fits

from nircam_darks.cli.inspect import inspect_file
from shared.products.ramp import RampMetadata, RejectionMetadata
from shared.store.manifest import find_all
from support.ingest_exposures import SECOND, bench_on, end_mjd, write_exposure, write_references

DO_NOT_USE, SATURATED, JUMP_DET, PERSISTENCE = 1, 2, 4, 32


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return write_references(tmp_path_factory.mktemp("references"))


@pytest.fixture
def bench(tmp_path, references, monkeypatch):
    return bench_on(tmp_path, references, monkeypatch)


def spoil(path, window, value):
    """Write a constant into a window of SCI."""
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus["SCI"].data[window] = value
    return path


def test_one_lost_integration_leaves_the_jumps_of_the_others_as_they_are(bench):
    # Given the same integrations with and without one more that was never read
    good = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", nints=3, ngroups=8)
    bad = write_exposure(bench.inbox / "jw2_nrca3_uncal.fits", nints=4, ngroups=8)
    with fits.open(good) as source, fits.open(bad, mode="update", memmap=False) as hdus:
        signal = source["SCI"].data
        hdus["SCI"].data[:] = np.stack([signal[0], np.zeros_like(signal[0]), signal[1], signal[2]])
    # When both are ingested
    with bench.open(good) as ramp:
        alone, flags = ramp.data.copy(), ramp.groupdq.copy()
    results = bench.results(bad)
    # Then the other integrations are those of the exposure without it
    with bench.open(bad) as ramp:
        np.testing.assert_array_equal(ramp.groupdq[[0, 2, 3]], flags)
        np.testing.assert_array_equal(ramp.data[[0, 2, 3]], alone)
        assert np.all(ramp.groupdq[1] == DO_NOT_USE)
        assert np.all(np.isnan(ramp.data[1]))
        assert ramp.groupdq[0, 3, 30, 30] & JUMP_DET
    # And it is named
    assert results.lost_integrations == [1]
    [lost] = results.lost_telemetry
    assert (lost.kind, lost.integration, lost.first_group, lost.last_group) == ("frame", 1, 0, 7)
    assert lost.value == 0
    assert len([remark for remark in results.remarks if remark not in results.header_remarks]) == 1


@pytest.mark.parametrize("value", [0, 65535, 11000])
def test_a_lost_group_is_neither_light_nor_a_hit(bench, value):
    # Given an exposure with a group that was never read, and another 30 s later
    first = spoil(write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", ngroups=10), (0, 5), value=value)
    start = end_mjd(ngroups=10) + 30 * SECOND
    second = write_exposure(bench.inbox / "jw2_nrca3_uncal.fits", seed=1, start_mjd=start)
    # When both are ingested
    results = bench.results(first)
    after = bench.results(second)
    # Then only this group is masked
    with bench.open(first) as ramp:
        assert np.all(ramp.groupdq[0, 5] == DO_NOT_USE)
        assert np.all(np.isnan(ramp.data[0, 5]))
        others = np.delete(ramp.groupdq[0], 5, axis=0)
        assert not np.any(others & (SATURATED | PERSISTENCE))
        assert np.count_nonzero(others & JUMP_DET) < 20
    # And nothing glows in the next exposure
    assert after.persistence_pixels == 0
    assert results.lost_integrations == []
    assert [(each.kind, each.first_group, each.value) for each in results.lost_telemetry] == [
        ("frame", 5, value)
    ]


@pytest.mark.parametrize("groups", [slice(0, 1), slice(2, 8)])
def test_an_integration_without_its_first_group_or_with_two_left_is_masked_throughout(bench, groups):
    path = spoil(write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", ngroups=8), (0, groups), value=0)
    assert bench.results(path).lost_integrations == [0]
    with bench.open(path) as ramp:
        assert np.all(ramp.groupdq[0] == DO_NOT_USE)
        # What was read stays
        np.testing.assert_array_equal(
            np.isnan(ramp.data[0]).all(axis=(1, 2)), np.isin(range(8), range(8)[groups])
        )
        assert not np.any(ramp.groupdq[1, :, 20, 20])


def test_lost_rows_are_masked_alone(bench):
    path = spoil(
        write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", ngroups=8),
        (0, slice(4, 6), slice(20, 28)),
        value=0,
    )
    [lost] = bench.results(path).lost_telemetry
    assert (lost.kind, lost.first_group, lost.last_group) == ("rows", 4, 5)
    assert (lost.first_row, lost.last_row) == (20, 27)
    with bench.open(path) as ramp:
        masked = ramp.groupdq & DO_NOT_USE != 0
        assert masked[0, 4:6, 20:28].all()
        masked[0, 4:6, 20:28] = False
        # What is left is the bad pixel of the mask reference.
        masked[:, :, 10, 10] = False
        assert not masked.any()
        assert not np.any(ramp.groupdq & (SATURATED | PERSISTENCE))


def test_a_dead_output_is_flagged_and_named(bench):
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", ngroups=8)
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus[0].header["NOUTPUTS"] = 4
        hdus["SCI"].data[..., 16:32] = 65535
        del hdus["ASDF"]
    results = bench.results(path)
    assert [(each.kind, each.integration, each.output) for each in results.lost_telemetry] == [
        ("output", 0, 2),
        ("output", 1, 2),
    ]
    assert results.lost_integrations == []
    with bench.open(path) as ramp:
        assert np.all(ramp.groupdq[..., 16:32] == DO_NOT_USE)
        assert not np.any(ramp.groupdq[..., 34:] & (DO_NOT_USE | SATURATED | PERSISTENCE))


def test_an_exposure_that_was_never_read_is_rejected(bench):
    path = spoil(write_exposure(bench.inbox / "jw1_nrca3_uncal.fits"), ..., value=11000)
    bench.ingest(path)
    [manifest] = find_all(bench.store, "ingest/")
    rejection = RejectionMetadata.model_validate(manifest.results)
    assert (manifest.product, rejection.check) == ("rejection", "telemetry")
    # And inspect says so beforehand
    assert [check.name for check in inspect_file(path).checks if check.passed is False] == ["telemetry"]


def test_a_good_exposure_has_no_lost_telemetry(bench):
    # Given a saturated pixel and a bad one, which are no lost telemetry
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", saturated=[(20, 20)])
    results: RampMetadata = bench.results(path)
    assert (results.lost_telemetry, results.lost_integrations) == ([], [])
