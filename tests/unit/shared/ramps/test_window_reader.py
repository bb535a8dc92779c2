"""Windows of a set of ramps: the plan covers every sample once, and what is read is what is in the files."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.ramps.ramp import Ramp
from shared.ramps.window_plan import Place, WindowCost, WindowPlan, plan_windows
from shared.ramps.window_reader import Integration, WindowReader, wait_all
from shared.store.ranged_file import RangedFile

NINTS, NGROUPS, NY, NX = 3, 5, 7, 6


@pytest.fixture(scope="module")
def exposure(tmp_path_factory):
    """A ramp of a few integrations; its file, SCI and GROUPDQ."""
    rng = np.random.default_rng(1)
    sci = rng.normal(0, 100, (NINTS, NGROUPS, NY, NX)).astype(np.float32)
    quality = rng.integers(0, 64, sci.shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("ramp") / "ramp.fits"
    images = [fits.ImageHDU(sci, name="SCI"), fits.ImageHDU(quality, name="GROUPDQ")]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    return path, sci, quality


def _read(path, plan, slots, **how):
    """Read all windows, using each only once the reader has been asked for as many more as stay valid."""
    with Ramp(RangedFile(path), "ramp") as ramp, ThreadPoolExecutor(3) as requests:
        integrations = [Integration(ramp, n) for n in range(NINTS)]
        valid = []
        for window in WindowReader(integrations, plan.places(NINTS), requests, slots, **how):
            valid.append(window)
            if len(valid) == slots - 1:
                yield valid.pop(0)
        yield from valid


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, NY), groups=st.integers(1, NGROUPS), slots=st.integers(2, 4), native=st.booleans())
def test_windows_hold_what_the_file_does_as_long_as_they_are_valid(exposure, rows, groups, slots, native):
    path, sci, quality = exposure
    plan = WindowPlan(groups, rows, NGROUPS, NY)
    result, flags = np.full_like(sci, np.nan), np.zeros_like(quality)
    for window in _read(path, plan, slots, quality=True, native=native):
        at = (slice(None), window.groups, window.rows)
        shape = result[at].shape
        result[at] = window.signal.view("=f4" if native else ">f4").reshape(shape)
        flags[at] = window.quality.reshape(shape)
    np.testing.assert_array_equal(result, sci)
    np.testing.assert_array_equal(flags, quality)


def test_single_planes_of_one_integration_after_the_other(exposure):
    path, sci, _ = exposure
    places = [
        Place(slice(n, n + 1), slice(group, group + 1), slice(0, NY))
        for n in range(NINTS)
        for group in range(NGROUPS)
    ]
    planes = []
    with Ramp(RangedFile(path), "ramp") as ramp, ThreadPoolExecutor(1) as requests:
        integrations = [Integration(ramp, n) for n in range(NINTS)]
        for window in WindowReader(integrations, places, requests, native=True):
            assert window.quality is None
            planes.append(window.signal.view("=f4").reshape(NY, NX).copy())
    np.testing.assert_array_equal(planes, sci.reshape(-1, NY, NX))


def test_an_error_of_a_read_is_raised_by_the_iteration(exposure):
    class Broken(Ramp):
        def read_stored(self, *arguments):
            raise OSError(5, "Input/output error")

    with Broken(RangedFile(exposure[0]), "ramp") as ramp, ThreadPoolExecutor(1) as requests:
        reader = WindowReader([Integration(ramp, 0)], WindowPlan(1, 1, NGROUPS, NY).places(1), requests)
        with pytest.raises(OSError):
            next(iter(reader))


def test_all_are_waited_for_before_an_error_is_raised():
    done = []

    def fail():
        raise ValueError

    with ThreadPoolExecutor(1) as threads, pytest.raises(ValueError):
        wait_all([threads.submit(fail), threads.submit(done.append, 1)])
    assert done == [1]


@settings(deadline=None)
@given(
    integrations=st.integers(1, 100),
    shape=st.tuples(st.integers(1, 100), st.sampled_from([64, 640, 2048]), st.sampled_from([64, 640, 2048])),
    available=st.integers(1, 2**32),
    bound=st.one_of(st.none(), st.integers(1, 10**8)),
)
def test_a_plan_covers_everything_once_and_keeps_its_bounds(integrations, shape, available, bound):
    cost = WindowCost(sample=12, result=30, per_integration=16, per_pixel=88)
    plan = plan_windows(shape, integrations, available, cost, bound)
    ngroups, ny, nx = shape
    places = plan.places(integrations)
    assert len(places) == plan.windows
    count = np.zeros((ngroups, ny), int)
    for place in places:
        count[place.groups, place.rows] += 1
        assert place.integrations == slice(0, integrations)
    assert (count == 1).all()
    pixels = plan.rows * nx
    held = pixels * (integrations * (16 + 12 * plan.groups) + 30 * plan.groups + 88)
    assert held <= available or plan.rows == plan.groups == 1
    assert bound is None or integrations * plan.groups * pixels <= bound or plan.rows == plan.groups == 1


def test_groups_of_a_band_come_in_ascending_order():
    places = WindowPlan(2, 3, 5, 7).places(1)
    assert [(place.band, place.groups.start) for place in places] == [
        (band, group) for band in range(3) for group in (0, 2, 4)
    ]
