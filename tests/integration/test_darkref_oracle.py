"""Notebook mode against jwst_reffiles' own Dark, on sets written as FITS."""

import warnings

import numpy as np
import pytest
from astropy.io import fits
from jwst_reffiles.dark_current.dark_reffile import Dark

from services.darkref import build as building
from services.darkref.combine import combine_set as streaming
from services.darkref.handler import handle
from services.darkref.measure import planes as plane_threads
from shared.products.reference import ReferenceResults
from shared.ramps.window_plan import WindowPlan
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.configurations import configuration
from support.darkref_sets import JUMP_DET, commit_set, dark, write_ramp
from support.independent_detector import Scene
from support.independent_files import calibrated_ramp
from support.independent_ramps import expose_set


def _reffiles(files, key, folder, monkeypatch):
    """Mean, std and number of good signals from jwst_reffiles, which litters the current directory."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    # Only the plots are left out: they take longer than all the rest.
    monkeypatch.setattr(Dark, "create_num_contributions_plots", lambda *_: None)
    ratio = 2048**2 // (key.subsize1 * key.subsize2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Dark(
            file_list=[str(file) for file in files],
            max_equivalent_groups=ratio * len(files) * key.ngroups,
            sigma_threshold=3,
            pedigree="GROUND",
            descrip="oracle",
            author="test",
            use_after="2022-01-01T00:00:00",
            history="one string",
            output_file=str(folder / "dark.fits"),
        )
    with fits.open(folder / "dark.fits") as hdus:
        return (
            hdus["SCI"].data.astype(float),
            hdus["ERR"].data.astype(float),
            fits.getdata(folder / "good_signals_per_group.fits"),
        )


def _ours(tmp_path, files, key, counts):
    store = LocalStore(tmp_path / "store")
    context = StageContext(
        store, StageSettings(store=tmp_path / "store", min_integrations=1, mode="reference")
    )
    (outgoing,) = handle(commit_set(store, files, [key] * len(files), counts), context)
    built = outgoing.message.content
    dark_file = tmp_path / "store" / built.reference.key
    with fits.open(dark_file) as hdus, fits.open(dark_file.with_name("contributions.fits")) as nmeas:
        return (
            hdus["SCI"].data.astype(float),
            hdus["ERR"].data.astype(float),
            nmeas["NMEAS"].data.astype(int),
            ReferenceResults.model_validate(next(find_all(store, "darkref/")).results),
        )


def _assert_equal(ours, theirs, integrations):
    for name, one, other in zip(("SCI", "ERR"), ours, theirs, strict=False):
        # jwst_reffiles sums in float32: where values cancel, their rounding is all that is left of them.
        scatter = np.maximum(np.abs(theirs[0]), theirs[1])
        rounding = 3e-7 * np.sqrt(integrations) * scatter
        off = np.abs(one - other)
        assert (off <= 1e-5 * np.abs(other) + rounding).all(), f"{name}: {off.max()}"
        assert (off <= 1e-5 * scatter).all(), f"{name}: {(off / scatter).max()}"
    np.testing.assert_array_equal(ours[2], theirs[2])


CASES = [
    # files, integrations each, rows, columns, groups
    pytest.param(6, 1, 64, 64, 8, id="one integration a file"),
    pytest.param(4, 3, 64, 64, 6, id="several integrations a file"),
    pytest.param(1, 5, 160, 160, 4, id="one file"),
    pytest.param(30, 1, 64, 64, 3, id="many files, where the clip repeats"),
    pytest.param(10, 1, 640, 640, 3, id="SUB640", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("files", "nints", "ny", "nx", "ngroups"), CASES)
def test_equals_jwst_reffiles(tmp_path, monkeypatch, files, nints, ny, nx, ngroups):
    # Given a set with hits anywhere, at the first and the last group, in every integration
    rng = np.random.default_rng(files * 1000 + nints)
    key = configuration(ny, nx, ngroups)
    paths = []
    for n in range(files):
        data, groupdq = dark(rng, key, nints, hits=0.03)
        groupdq[:, 0, 3, 5] = JUMP_DET
        groupdq[:, -1, 7, 8] = JUMP_DET | 1
        groupdq[0, ngroups // 2, 9, 9] = JUMP_DET
        groupdq[:, ngroups // 2 :, 10, 10] = JUMP_DET
        # Other flags do not count in notebook mode.
        groupdq[:, :, 11, 11] = 2 | 1 | 32
        # An outlier that no flag shows, for the clip to find.
        data[0, ngroups // 3, 12, 12] += 5000 if n == 0 else 0
        paths.append(write_ramp(tmp_path / f"jw{n:02d}_jump.fits", key, data, groupdq))
    # When
    ours = _ours(tmp_path, paths, key, [nints] * files)
    theirs = _reffiles(paths, key, tmp_path / "reffiles", monkeypatch)
    # Then
    _assert_equal(ours, theirs, files * nints)
    assert not ours[0][:, 3, 5].any()
    assert not ours[1][:, 3, 5].any()
    assert ours[2][:, 3, 5].max() == 0
    assert ours[2][-1, 7, 8] == 0
    assert ours[2][-2, 7, 8] > 0


def test_equals_jwst_reffiles_on_ramps_of_the_independent_generator(tmp_path, monkeypatch):
    # Given a set with everything that detectors do
    scene = Scene(
        "NRCA3",
        rows=64,
        columns=64,
        ngroups=10,
        nints=2,
        exposures=3,
        hits=100.0,
        settling=20.0,
        fast_rc=0.005,
        telegraph=0.01,
        snowballs=0.5,
        seed=8,
    )
    paths = [
        write_ramp(tmp_path / f"jw{n}_jump.fits", scene.key, *calibrated_ramp(exposure))
        for n, exposure in enumerate(expose_set(scene))
    ]
    # When
    ours = _ours(tmp_path, paths, scene.key, [2] * 3)
    theirs = _reffiles(paths, scene.key, tmp_path / "reffiles", monkeypatch)
    # Then
    _assert_equal(ours, theirs, 6)
    assert ours[2].min() < 6


def test_the_result_does_not_depend_on_the_windows(tmp_path, monkeypatch):
    # Given
    rng = np.random.default_rng(9)
    key = configuration(64, 64, 7)
    paths = [write_ramp(tmp_path / f"jw{n}_jump.fits", key, *dark(rng, key, 2, hits=0.05)) for n in range(6)]
    runs = []
    # When combined whole, a group at a time, and in windows of groups and of rows that divide neither
    for groups, rows in ((7, 64), (1, 64), (3, 64), (2, 19), (7, 1)):
        folder = tmp_path / f"groups{groups}rows{rows}"
        folder.mkdir()
        monkeypatch.setattr(building, "plan_combine", lambda *_, g=groups, r=rows: WindowPlan(g, r, 7, 64))
        *arrays, results = _ours(folder, paths, key, [2] * 6)
        assert (results.groups_per_window, results.rows_per_window) == (groups, rows)
        runs.append((arrays, results.model_dump(exclude={"groups_per_window", "rows_per_window", "ramps"})))
    # Then every bit is the same, of the results too
    for arrays, results in runs[1:]:
        for one, other in zip(runs[0][0], arrays, strict=True):
            np.testing.assert_array_equal(one, other)
        assert results == runs[0][1]


@pytest.mark.parametrize("threads", [1, 2, 5, 16])
def test_the_result_does_not_depend_on_the_number_of_threads(tmp_path, monkeypatch, threads):
    # Given a set of an odd number of pixels in windows of an odd number of rows
    rng = np.random.default_rng(10)
    key = configuration(67, 61, 7)
    paths = [write_ramp(tmp_path / f"jw{n}_jump.fits", key, *dark(rng, key, 2, hits=0.05)) for n in range(5)]
    monkeypatch.setattr(building, "plan_combine", lambda *_: WindowPlan(3, 29, 7, 67))
    runs = []
    # When combined by one thread, and by several
    for number in (1, threads):
        monkeypatch.setattr(streaming, "processors", lambda number=number: number)
        monkeypatch.setattr(plane_threads, "processors", lambda number=number: number)
        folder = tmp_path / f"run{len(runs)}"
        folder.mkdir()
        *arrays, results = _ours(folder, paths, key, [2] * 5)
        runs.append((arrays, results.model_dump(exclude={"ramps"})))
    # Then every bit is the same
    for one, other in zip(runs[0][0], runs[1][0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert runs[0][1] == runs[1][1]
