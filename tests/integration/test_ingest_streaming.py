"""Streaming calibration: bit for bit what jwst's steps make of the whole exposure, however it is cut."""

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels as dm

from services.ingest import pipeline, ramp_file
from services.ingest.exposure import ValidExposure
from services.ingest.memory_plan import StreamPlan
from services.ingest.plan import plan_for
from services.ingest.steps import STEPS
from services.ingest.telemetry import find_lost_telemetry
from shared.nircam.configuration import ConfigurationKey
from shared.ramps.ramp import Ramp
from shared.store.sources import FileReader
from support.ingest_exposures import SIZE, bench_on, write_exposure, write_references
from support.steps_by_hand import steps_by_hand

#: Groups of a run, rows of a band, and how many at a time: the least, uneven ones, and all at once.
CUTS = [(3, 1, 3), (4, 7, 1), (50, 200)]
#: Parameters of the jump step that reach beyond a pixel.
JUMPS = {
    "plain": {},
    "large events": {"expand_large_events": True, "min_jump_area": 5, "edge_size": 5},
    "after a jump": {
        "after_jump_flag_dn1": 10.0,
        "after_jump_flag_time1": 5.0,
        "after_jump_flag_dn2": 1000.0,
        "after_jump_flag_time2": 9.0,
    },
    "sigma clipping": {"only_use_ints": False, "minimum_sigclip_groups": 8},
    "showers": {"find_showers": True},
    "no neighbours": {"flag_4_neighbors": False},
}


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """References with NaN, bad pixels, a gain that varies and coefficients of inverse linearity."""
    folder = tmp_path_factory.mktemp("references")
    paths = write_references(folder)
    random = np.random.default_rng(5)
    for reftype, change in {
        "gain": lambda model: _set(model.data, random.normal(2, 0.1, model.data.shape), {(9, 9): np.nan}),
        "saturation": lambda model: _set(model.data, 50000.0, {(8, 8): np.nan}),
        "superbias": lambda model: _set(model.data, 10000.0, {(7, 7): np.nan}),
        "linearity": lambda model: _set(model.coeffs, model.coeffs.copy(), {(2, 6, 6): np.nan}),
    }.items():
        with dm.open(paths[reftype]) as model:
            change(model)
            if reftype == "linearity":
                inverse = np.zeros_like(model.coeffs)
                inverse[1], inverse[2] = 1.0, -1e-7
                model.inv_coeffs = inverse
            model.save(paths[reftype])
    return paths


def _set(array, values, single):
    array[...] = values
    for place, value in single.items():
        array[place] = value


def busy_exposure(path, *, ngroups=11, nints=2, nframes=1, noutputs=1, zero_frame=False, lost=()):
    """A dark with cosmic rays on every row, saturation from every group on, a snowball, and zeros."""
    write_exposure(path, ngroups=ngroups, nints=nints)
    random = np.random.default_rng(3)
    with fits.open(path, mode="update", memmap=False) as hdus:
        data = hdus["SCI"].data
        for integration in range(nints):
            for y in range(SIZE):
                group, x = random.integers(1, ngroups), random.integers(4, SIZE - 4)
                data[integration, group:, y, x] += np.uint16(random.integers(100, 20000))
            for group in range(ngroups):
                data[integration, group:, 5 + 4 * group % 50, 12 + 3 * group] = 60000
                # In an average of frames, what is saturated in the next group shows before.
                if group:
                    data[integration, group - 1, 5 + 4 * group % 50, 12 + 3 * group] = 47000
            data[integration, ngroups // 2, 40, 20:24] = 0
            y, x = np.mgrid[:SIZE, :SIZE]
            far = np.hypot(y - 30, x - 40)
            data[integration, ngroups // 2 :, far < 9] += np.uint16(3000)
            data[integration, ngroups // 2 :, far < 4] = 65000
        for where in lost:
            data[where] = 0
        header = hdus[0].header
        header["NFRAMES"], header["NOUTPUTS"] = nframes, noutputs
        if zero_frame:
            header["ZEROFRAM"] = True
            frames = data[:, 0].astype("f4")
            frames[:, 50, 50] = 0
            hdus.append(fits.ImageHDU(frames, name="ZEROFRAME"))
        del hdus["ASDF"]
    return path


def stream(path, references, folder, monkeypatch, cut, jump=None):
    """The ramp as ingest makes it with so many groups and rows at a time."""
    folder.mkdir(exist_ok=True)
    header = fits.getheader(path)
    key = ConfigurationKey.from_header(header, path.name)
    bench = bench_on(folder, references, monkeypatch)
    monkeypatch.setattr(ramp_file, "plan_stream", lambda ny, nx, _: StreamPlan(cut[0], ny, nx, *cut[1:]))
    own = pipeline._step_parameters

    def with_jump(*arguments):
        parameters = own(*arguments)
        parameters["jump"] |= jump or {}
        return parameters

    monkeypatch.setattr(pipeline, "_step_parameters", with_jump)
    with Ramp(FileReader(path), path.name) as ramp:
        telemetry = find_lost_telemetry(ramp, key)
    exposure = ValidExposure(
        exposure_id=path.stem,
        path=path,
        uri=str(path),
        key=key,
        header=header,
        telemetry=telemetry if telemetry.lost else None,
    )
    plan = plan_for(list(STEPS), bench.settings, persistence_done=False)
    made = ramp_file.make_ramp_file(exposure, plan, lambda: None, folder, lambda *_: None)
    monkeypatch.setattr(pipeline, "_step_parameters", own)
    return made


def assert_equal_ramps(path, expected):
    with dm.open(path) as ramp:
        for name in ("data", "groupdq", "pixeldq"):
            np.testing.assert_array_equal(getattr(ramp, name), getattr(expected, name), err_msg=name)
        if expected.meta.exposure.zero_frame:
            np.testing.assert_array_equal(ramp.zeroframe, expected.zeroframe)
        assert ramp.meta.cal_step.instance == expected.meta.cal_step.instance
        assert ramp.meta.exposure.instance == expected.meta.exposure.instance
        named = {reftype: entry.get("name") for reftype, entry in ramp.meta.ref_file.instance.items()}
        assert set(named) >= {"mask", "saturation", "superbias", "linearity", "gain", "readnoise"}


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("nframes", [1, 4])
def test_the_ramp_is_that_of_the_whole_exposure(tmp_path, references, monkeypatch, nframes, jump):
    # Given a dark with whatever reaches from group to group and from row to row
    path = busy_exposure(tmp_path / "busy_nrca3_uncal.fits", nframes=nframes)
    bench_on(tmp_path, references, monkeypatch)
    expected = steps_by_hand(path, references, {"jump": JUMPS[jump]})
    assert np.count_nonzero(expected.groupdq & 4) > 100
    for cut in CUTS:
        # When it is calibrated in pieces
        made = stream(path, references, tmp_path / f"{cut}", monkeypatch, cut, JUMPS[jump])
        # Then they make the same ramp, to the last bit and keyword
        assert_equal_ramps(made.path, expected)


@pytest.mark.parametrize(
    "shape",
    [
        {"ngroups": 3},
        {"ngroups": 4, "nints": 3},
        {"noutputs": 4},
        {"zero_frame": True},
        {"zero_frame": True, "nframes": 4, "noutputs": 4, "ngroups": 7, "nints": 1},
    ],
    ids=str,
)
def test_the_ramp_of_any_shape_is_that_of_the_whole_exposure(tmp_path, references, monkeypatch, shape):
    path = busy_exposure(tmp_path / "busy_nrca3_uncal.fits", **shape)
    bench_on(tmp_path, references, monkeypatch)
    expected = steps_by_hand(path, references)
    for cut in CUTS[:2]:
        made = stream(path, references, tmp_path / f"{cut}", monkeypatch, cut)
        assert_equal_ramps(made.path, expected)


@pytest.mark.parametrize(
    "lost", [[(0, 3)], [(1, slice(None))], [(0, 5, slice(8, 24))], [(0, 0), (1, 4)]], ids=str
)
def test_lost_telemetry_gives_the_same_ramp_however_it_is_cut(tmp_path, references, monkeypatch, lost):
    # Rows that were never read fill whole bands: these have fewer usable groups than the frame
    path = busy_exposure(tmp_path / "lost_nrca3_uncal.fits", lost=lost)
    whole = stream(path, references, tmp_path / "whole", monkeypatch, CUTS[-1], JUMPS["large events"])
    with dm.open(whole.path) as expected:
        for cut in CUTS[:2]:
            made = stream(path, references, tmp_path / f"{cut}", monkeypatch, cut, JUMPS["large events"])
            assert_equal_ramps(made.path, expected)
            assert made.common_steps == whole.common_steps


def test_the_file_is_as_jwst_writes_it(tmp_path, references, monkeypatch):
    path = busy_exposure(tmp_path / "busy_nrca3_uncal.fits", zero_frame=True)
    bench_on(tmp_path, references, monkeypatch)
    made = stream(path, references, tmp_path / "own", monkeypatch, CUTS[0])
    expected = tmp_path / "by_hand.fits"
    steps_by_hand(path, references).save(expected)
    with fits.open(made.path, memmap=False) as own, fits.open(expected, memmap=False) as theirs:
        assert [hdu.name for hdu in own] == [hdu.name for hdu in theirs]
        for hdu, other in zip(own, theirs, strict=True):
            if hdu.name != "ASDF":
                assert hdu.shape == other.shape
                # HISTORY says what ingest did.
                assert set(other.header) - {""} == set(hdu.header) - {"", "HISTORY"}
        own.verify("exception")
    # And its metadata are read from where jwst put them, as those of its own files
    with dm.open(made.path) as ramp, dm.open(expected) as other:
        ignored = {"date", "filename", "ref_file"}
        assert set(ramp.meta.instance) - ignored == set(other.meta.instance) - ignored


def test_a_long_history_moves_the_planes(tmp_path, references, monkeypatch):
    # Given more lines of HISTORY than there is room for
    path = busy_exposure(tmp_path / "busy_nrca3_uncal.fits", zero_frame=True)
    monkeypatch.setattr(ValidExposure, "history", property(lambda _: [f"Line {n}" for n in range(400)]))
    made = stream(path, references, tmp_path / "own", monkeypatch, CUTS[1])
    # Then they are all there, and so is the ramp
    lines = list(fits.getheader(made.path)["HISTORY"])
    assert [line for line in lines if line.startswith("Line")] == [f"Line {n}" for n in range(400)]
    assert_equal_ramps(made.path, steps_by_hand(path, references))
