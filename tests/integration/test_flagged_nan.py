"""NaN where the flags say that nothing was measured, which a calibrated exposure may hold."""

import numpy as np
import pytest
from astropy.io import fits

from services.darkref.handler import handle as build_reference
from services.noise.handler import handle as measure_noise
from shared.contracts.messages import ExposureIngested, ExposureRejected
from shared.nircam.dq import GroupFlag, PixelFlag
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.configurations import configuration
from support.darkref_sets import commit_set, dark, write_ramp
from support.ingest_exposures import bench_on, write_exposure, write_references
from support.noise_sets import ingested, put_ramp, set_ready

KEY = configuration()
GROUP_DO_NOT_USE, PIXEL_DO_NOT_USE = GroupFlag.DO_NOT_USE.mask, PixelFlag.DO_NOT_USE.mask


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return write_references(tmp_path_factory.mktemp("references"))


@pytest.fixture
def bench(tmp_path, references, monkeypatch):
    return bench_on(tmp_path, references, monkeypatch)


def spoil(path, pixels=(), groups=(), groupdq_too=True):
    """Write NaN at (y, x) of `pixels`, DO_NOT_USE in PIXELDQ, and at `groups`, DO_NOT_USE in GROUPDQ."""
    with fits.open(path, memmap=False) as hdus:
        science, pixeldq, groupdq = (hdus[name].data for name in ("SCI", "PIXELDQ", "GROUPDQ"))
        for y, x in pixels:
            science[:, :, y, x] = np.nan
            pixeldq[y, x] |= PIXEL_DO_NOT_USE
            groupdq[:, :, y, x] = GROUP_DO_NOT_USE if groupdq_too else 0
        for place in groups:
            science[place] = np.nan
            groupdq[place] |= GROUP_DO_NOT_USE
        hdus.writeto(path, overwrite=True)
    return path


def by_hand_until(path, references, last):
    from jwst.dq_init import DQInitStep
    from jwst.linearity import LinearityStep
    from jwst.refpix import RefPixStep
    from jwst.saturation import SaturationStep
    from jwst.superbias import SuperBiasStep

    chain = {
        "dq_init": (DQInitStep, ["mask"]),
        "saturation": (SaturationStep, ["saturation", "superbias"]),
        "superbias": (SuperBiasStep, ["superbias"]),
        "refpix": (RefPixStep, []),
        "linearity": (LinearityStep, ["linearity"]),
    }
    model = str(path)
    for name, (step, reftypes) in chain.items():
        chosen = {f"override_{reftype}": str(references[reftype]) for reftype in reftypes}
        model = step.call(model, configure_log=False, **chosen)
        if name == last:
            break
    return model


@pytest.mark.parametrize("done", ["dq_init", "linearity"])
@pytest.mark.parametrize("groupdq_too", [True, False])
def test_a_calibrated_exposure_with_flagged_nan_is_the_ramp_that_it_is_without(
    bench, references, done, groupdq_too
):
    # Given a file with some of its steps done, in which a pixel and a group without a value hold NaN
    raw = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits")
    plain, spoilt = bench.inbox / "jw2_nrca3_ramp.fits", bench.inbox / "jw3_nrca3_ramp.fits"
    for path in (plain, spoilt):
        by_hand_until(raw, references, done).save(path)
    pixels, groups = [(20, 25), (44, 7)], [(0, 2, 31, 12)]
    spoil(spoilt, pixels, groups, groupdq_too)
    # When both are ingested
    bench.results(plain)
    content = bench.content(spoilt)
    # Then the second is taken, and its ramp is that of the first in every other pixel
    assert isinstance(content, ExposureIngested)
    with bench.open(plain) as whole, bench.open(spoilt) as mended:
        touched = np.zeros(whole.data.shape[2:], bool)
        for y, x in [*pixels, groups[0][2:]]:
            # The jump step also looks at the four neighbours of a pixel.
            touched[y - 1 : y + 2, x - 1 : x + 2] = True
        np.testing.assert_array_equal(mended.data[..., ~touched], whole.data[..., ~touched])
        np.testing.assert_array_equal(mended.groupdq[..., ~touched], whole.groupdq[..., ~touched])
        # And what holds no value is DO_NOT_USE in every group of the pixel, as jwst's dq_init has it
        for y, x in pixels:
            assert ((mended.groupdq[:, :, y, x] & GROUP_DO_NOT_USE) != 0).all()
        unflagged = (mended.groupdq & (GroupFlag.DO_NOT_USE | GroupFlag.SATURATED).mask) == 0
        assert np.isfinite(mended.data[unflagged]).all()


def test_nan_without_a_flag_is_refused_and_only_it_is_counted(bench, references):
    # Given NaN in a flagged pixel, and in another that no flag marks
    raw = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits")
    part = bench.inbox / "jw2_nrca3_ramp.fits"
    by_hand_until(raw, references, "linearity").save(part)
    spoil(part, [(20, 25)])
    with fits.open(part, mode="update") as hdus:
        hdus["SCI"].data[1, 3, 40, 41] = np.nan
        hdus["GROUPDQ"].data[1, 3, 40, 41] = 0
    # When it is ingested
    content = bench.content(part)
    # Then it is rejected, and the reason names the one value
    assert isinstance(content, ExposureRejected)
    assert content.check == "finite data"
    assert "1 NaN" in content.reason
    assert "integration 2, group 4, x 42, y 41" in content.reason


def flagged_set(rng, number):
    """SCI, GROUPDQ and PIXELDQ of an exposure that lacks a pixel, part of a row, and a group of a pixel."""
    science, groupdq = dark(rng, KEY, 3)
    pixeldq = np.zeros(science.shape[2:], np.uint32)
    for rows, columns in ((10, 12), (40, slice(0, 9))):
        pixeldq[rows, columns] = PIXEL_DO_NOT_USE
        groupdq[:, :, rows, columns] |= GROUP_DO_NOT_USE
    groupdq[number, 2, 20, 20] |= GROUP_DO_NOT_USE
    return science, groupdq, pixeldq


def products(store, root, prefix):
    """Arrays and results by product, without what names the ramps."""
    manifests = sorted(find_all(store, prefix), key=lambda each: str(each.results.get("exposure_id")))
    arrays = {}
    for manifest in manifests:
        for entry in manifest.objects:
            if entry.name.endswith(".fits"):
                with fits.open(root / "store" / entry.key) as hdus:
                    arrays |= {
                        (manifest.results.get("exposure_id"), entry.name, hdu.name): hdu.data.copy()
                        for hdu in hdus
                        if hdu.is_image and hdu.data is not None
                    }
    return arrays, [{k: v for k, v in each.results.items() if k != "ramps"} for each in manifests]


def made_from(folder, value):
    """What darkref and noise make of a set whose flagged values are `value`, or as measured if it is None."""
    store, rng = LocalStore(folder / "store"), np.random.default_rng(5)
    context = StageContext(store, StageSettings(store=folder / "store"))
    files, members = [], []
    for number in range(3):
        science, groupdq, pixeldq = flagged_set(rng, number)
        if value is not None:
            science[(groupdq & GROUP_DO_NOT_USE) != 0] = value
        members.append(put_ramp(store, folder, KEY, science, groupdq, pixeldq, number + 1))
        files.append(write_ramp(folder / f"jw1-{number}_jump.fits", KEY, science, groupdq))
    for member in members:
        measure_noise(ingested(KEY, member), context)
    measure_noise(set_ready(KEY, members), context)
    build_reference(commit_set(store, files, [KEY] * 3, [3] * 3), context)
    return products(store, folder, "darkref/"), products(store, folder, "noise/")


def test_what_flagged_pixels_hold_changes_neither_reference_nor_noise(tmp_path):
    # Given two sets that differ only in what their flagged pixels and groups hold
    for name in ("measured", "nan"):
        (tmp_path / name).mkdir()
    # When a reference is built of each, and its noise measured
    measured, of_nan = made_from(tmp_path / "measured", None), made_from(tmp_path / "nan", np.nan)
    # Then the products are equal, bit for bit
    for (arrays, results), (other_arrays, other_results) in zip(measured, of_nan, strict=True):
        assert arrays
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, other_arrays[name])
        assert repr(results) == repr(other_results)
    # And the reference says that the pixel was not measured
    reference = {extension: array for (_, _, extension), array in of_nan[0][0].items()}
    assert np.isfinite(reference["SCI"]).all()
    assert reference["DQ"][10, 12] & PixelFlag.UNRELIABLE_DARK
