"""A flash lifts every pixel from one group on: one step, not as many hits as there are pixels."""

import numpy as np
import pytest
from astropy.io import fits

from support.ingest_exposures import GAIN, bench_on, write_exposure, write_references

JUMP_DET = 4
#: Where the exposure's one hit falls.
HIT = (0, 3, 30, 30)


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return write_references(tmp_path_factory.mktemp("references"))


@pytest.fixture
def bench(tmp_path, references, monkeypatch):
    return bench_on(tmp_path, references, monkeypatch)


def lifted(path, first, height, columns=slice(4, None), shot_noise=False):
    """Add light to the science pixels of integration 0 from a group on; its shot noise stays in the pixel."""
    with fits.open(path, mode="update", memmap=False) as hdus:
        data = hdus["SCI"].data.astype(np.int64)
        light = np.full(data.shape[2:], height)
        if shot_noise:
            light = np.random.default_rng(9).poisson(height * GAIN, light.shape) / GAIN
        data[0, first:, 4:, columns] += np.rint(light).astype(np.int64)[4:, columns]
        hdus["SCI"].data[:] = data
    return path


def jumps_of(groupdq):
    return (groupdq & JUMP_DET) != 0


@pytest.mark.parametrize("nints", [1, 2, 4])
def test_a_flash_is_one_step_and_no_hit(bench, nints):
    # Given the same exposure with and without 80 DN more in every pixel from the group of its hit on
    dark = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", nints=nints, ngroups=10)
    flash = lifted(write_exposure(bench.inbox / "jw2_nrca3_uncal.fits", nints=nints, ngroups=10), 3, 80)
    with bench.open(dark) as ramp:
        expected, flags = ramp.data.copy(), ramp.groupdq.copy()
    # When it is ingested
    results = bench.results(flash)
    # Then the step is named
    [step] = results.common_steps
    assert (step.integration, step.group) == (0, 3)
    assert step.dn == [pytest.approx(80, abs=0.5)]
    with bench.open(flash) as ramp:
        # And what the other groups have is what they would have without it
        lift = np.median((ramp.data - expected)[0, :, 4:, 4:], axis=(1, 2))
        np.testing.assert_allclose(lift, 0, atol=0.5)
        np.testing.assert_array_equal(ramp.data[1:], expected[1:])
        # And the hit in its group is the only one there that the dark does not have, too
        assert jumps_of(ramp.groupdq)[HIT]
        assert np.count_nonzero(jumps_of(ramp.groupdq) != jumps_of(flags)) <= 3
    file = bench.root / "store" / bench.manifest(flash).object("ramp.fits").key
    assert "Common step" in str(fits.getheader(file)["HISTORY"])


def test_the_shot_noise_of_a_flash_is_no_hit(bench):
    # Given a flash of 200 DN, whose shot noise of 10 DN adds to a difference's 8.5
    flash = lifted(write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", ngroups=10), 3, 200, shot_noise=True)
    [step] = bench.results(flash).common_steps
    assert step.dn == [pytest.approx(200, abs=1)]
    with bench.open(flash) as ramp:
        flags = jumps_of(ramp.groupdq)[0, 3]
        assert flags[30, 30]
        # The hit and its four neighbours
        assert np.count_nonzero(flags) <= 5


def test_a_step_of_one_output_is_taken_out_there(bench):
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", ngroups=10)
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus[0].header["NOUTPUTS"] = 4
        del hdus["ASDF"]
    lifted(path, 6, 60, columns=slice(32, 48))
    [step] = bench.results(path).common_steps
    assert (step.integration, step.group) == (0, 6)
    assert [height is None for height in step.dn] == [True, True, False, True]
    with bench.open(path) as ramp:
        assert np.count_nonzero(jumps_of(ramp.groupdq)[0, 6]) < 5


@pytest.mark.parametrize("kind", ["settling", "lamp", "small"])
def test_what_is_no_step_is_left_as_it_is(bench, kind):
    # Given a reset that settles over groups, a lamp, or a step below the noise of a pixel
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", ngroups=10)
    groups = np.arange(10)
    level = {"settling": 60 * (1 - np.exp(-groups / 2)), "lamp": 20.0 * groups, "small": 4.0 * (groups > 4)}
    with fits.open(path, mode="update", memmap=False) as hdus:
        lift = np.rint(level[kind]).astype(np.int64)[:, None, None]
        hdus["SCI"].data[:] = hdus["SCI"].data.astype(np.int64) + lift
    assert bench.results(path).common_steps == []
