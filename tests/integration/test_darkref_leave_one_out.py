"""A good reference is accepted, one with a planted fault of each kind is not; the step is jwst's own."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

from nircam_darks.simulation.crds_cache import environment, write_cache
from services.darkref.build_config import LeaveOneOut
from services.darkref.handler import handle
from services.darkref.reference_file import reader as reference_planes
from services.darkref.verification import leave_one_out as left_out
from services.darkref.verification.checks import ReferenceBasis
from services.darkref.verification.expectations import expected_read_noise
from services.darkref.verification.verify import verify_reference
from shared.products.reference import CONTRIBUTIONS
from shared.ramps.ramp import Ramp
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.ranged_file import RangedFile
from support.configurations import configuration
from support.darkref_sets import commit_set, dark, write_ramp

GAIN = 1.84
EXPOSURES, INTS, GROUPS = 7, 2, 16


@pytest.fixture(scope="module")
def key():
    return configuration(ngroups=GROUPS, noutputs=4)


@pytest.fixture(scope="module")
def good(tmp_path_factory, key):
    """A flight-mode reference of six exposures, and the file of a seventh."""
    return _reference(tmp_path_factory.mktemp("good"), key, "flight")


def _reference(folder, key, mode):
    rng = np.random.default_rng(5)
    files = [
        write_ramp(folder / f"jw{n}_jump.fits", key, *dark(rng, key, INTS, hits=0.002))
        for n in range(EXPOSURES)
    ]
    store = LocalStore(folder / "store")
    ready = commit_set(
        store, files[:-1], [key] * (EXPOSURES - 1), [INTS] * (EXPOSURES - 1), gain=GAIN, simulated=True
    )
    (outgoing,) = handle(ready, StageContext(store, StageSettings(store=folder / "store", mode=mode)))
    return folder / "store" / outgoing.message.content.reference.key, files[-1]


def _verified(reference, file, key, ramp_key=None, **more):
    with Ramp(RangedFile(file), file.name) as ramp:
        exposure = LeaveOneOut(file.stem, ramp_key or key, ramp, reference, (EXPOSURES - 1) * INTS)
        return verify_reference(reference, key, _basis(key, **more), exposure)


def _basis(key, standard_error=True):
    read_noise = expected_read_noise(key, GAIN, None)
    cds = [5 * 2**0.5] * 4 if standard_error else []
    return ReferenceBasis(GAIN, (EXPOSURES - 1) * INTS, standard_error, read_noise, cds=cds)


def _failed(verification):
    return {(check.name, check.where) for check in verification.checks if check.passed is False}


def test_a_good_reference_is_accepted_with_every_number(good, key):
    verification = _verified(*good, key)
    assert verification.accepted, verification.verdict
    assert verification.verdict.startswith("accepted: ")
    assert verification.amplifiers == [True] * 4
    assert all(amplifier.passed for amplifier in verification.checks)
    for amplifier in verification.left_out.amplifiers:
        assert amplifier.pixels == 16 * 64
        assert abs(amplifier.mean_residual_dn) < 3
        assert amplifier.cds_before_dn == pytest.approx(5 * 2**0.5, rel=0.05)
    assert type(verification).model_validate_json(verification.model_dump_json()) == verification


def _shift(hdus):
    hdus["SCI"].data[:, :, 16:32] += 8


def _shift_after_the_first(hdus):
    hdus["SCI"].data[1:, :, 16:32] += 8


def _double_errors(hdus):
    hdus["ERR"].data *= 2


def _double_noise(hdus):
    sci = hdus["SCI"].data
    sci[1:] += np.random.default_rng(1).normal(0, 3**0.5 * 5 / 12**0.5, sci[1:].shape).astype(np.float32)


def _wrong_outputs(hdus):
    hdus[0].header["NOUTPUTS"] = 1


def _no_descrip(hdus):
    del hdus[0].header["DESCRIP"]


def _hot(hdus):
    ramp = 10 * configuration().group_time / GAIN * np.arange(GROUPS, dtype=np.float32)
    hdus["SCI"].data[:, 10, 5] += ramp
    hdus["SCI"].data[:, 40, 50] += ramp


def _wrong_detector(hdus):
    # The other long-wave detector reads the other way, NRCA1 the same way.
    hdus[0].header["DETECTOR"] = "NRCA1"


def _no_quality(hdus):
    del hdus["DQ"]


def _hole(hdus):
    hdus["SCI"].data[3, 4, 5] = np.nan


@pytest.mark.parametrize(
    ("fault", "name", "where"),
    [
        (_shift, "first group zero", "file"),
        (_shift_after_the_first, "residual rise", "amplifier 2"),
        (_double_errors, "ERR", "amplifier 1"),
        (_double_noise, "noise of SCI", "amplifier 3"),
        (_double_noise, "noise after subtraction", "amplifier 3"),
        (_wrong_outputs, "keyword NOUTPUTS", "file"),
        (_no_descrip, "CRDS certify: DESCRIP", "file"),
        (_no_descrip, "strict DarkModel: DESCRIP", "file"),
        (_hot, "unflagged hot pixels", "detector"),
        (_wrong_detector, "keyword DETECTOR", "file"),
        (_no_quality, "arrays", "file"),
        (_hole, "finite arrays", "file"),
    ],
)
def test_a_planted_fault_is_named(tmp_path, good, key, monkeypatch, fault, name, where):
    # Given
    spoilt = tmp_path / good[0].name
    shutil.copy(good[0], spoilt)
    # which says what pixels have a model ramp
    shutil.copy(good[0].with_name(CONTRIBUTIONS), tmp_path)
    with fits.open(spoilt, mode="update") as hdus:
        fault(hdus)
    if fault is not _no_descrip:
        # Five seconds each, and the rules have tests of their own.
        monkeypatch.setattr("services.darkref.verification.verify.violations", lambda path: [])
    # When
    verification = _verified(spoilt, good[1], key)
    # Then
    assert not verification.accepted
    assert (name, where) in _failed(verification)
    assert name in verification.verdict
    if fault is _shift_after_the_first:
        assert verification.amplifiers == [True, False, True, True]
    # and rolled up
    assert verification.detector == (where == "file")


def test_a_noisy_exposure_is_named(tmp_path, good, key, monkeypatch):
    monkeypatch.setattr("services.darkref.verification.verify.violations", lambda path: [])
    noisy = write_ramp(
        tmp_path / "noisy_jump.fits", key, *dark(np.random.default_rng(9), key, INTS, read_noise=10.0)
    )
    failed = _failed(_verified(good[0], noisy, key))
    assert ("read noise", "amplifier 4") in failed


def test_too_few_integrations_are_recorded_and_decide_nothing(good, key, monkeypatch):
    monkeypatch.setattr("services.darkref.verification.verify.violations", lambda path: [])
    with Ramp(RangedFile(good[1]), "ramp") as ramp:
        few = LeaveOneOut("jw6", key, ramp, good[0], 3)
        verification = verify_reference(good[0], key, _basis(key), few)
    assert verification.accepted
    assert "not enough data for left-out exposure" in verification.verdict
    # Then the scatter of the integrations about SCI stands for the noise of the exposure
    assert verification.amplifiers == [True] * 4
    (check,) = [each for each in verification.checks if each.name == "left-out exposure"]
    assert check.passed is None
    assert "jw6" in check.detail


def test_hot_pixels_do_not_decide_where_the_mode_flags_none(tmp_path, key, monkeypatch):
    good = _reference(tmp_path, key, "reference")
    monkeypatch.setattr("services.darkref.verification.verify.violations", lambda path: [])
    spoilt = tmp_path / good[0].name
    shutil.copy(good[0], spoilt)
    with fits.open(spoilt, mode="update") as hdus:
        _hot(hdus)
    verification = _verified(spoilt, good[1], key, standard_error=False)
    assert verification.accepted, verification.verdict
    assert ("unflagged hot pixels", "detector") in _failed(verification)


@pytest.fixture(scope="module")
def deep(tmp_path_factory, key):
    """Frames of a dark averaged on board to DEEP8: 8 of every 20."""
    long = configuration(ngroups=48, noutputs=4)
    rng = np.random.default_rng(6)
    frames, _ = dark(rng, long, INTS, hits=0)
    data = np.stack([frames[:, start : start + 8].mean(axis=1) for start in (0, 20, 40)], axis=1)
    its_key = configuration(ngroups=3, noutputs=4, readpatt="DEEP8", nframes=8, groupgap=12)
    path = tmp_path_factory.mktemp("deep") / "deep_jump.fits"
    return write_ramp(path, its_key, data, np.zeros(data.shape, np.uint8)), its_key


@pytest.fixture(scope="module")
def long_dark(tmp_path_factory):
    """A RAPID dark of 48 groups, of 12 integrations."""
    folder = tmp_path_factory.mktemp("long")
    key = configuration(ngroups=48, noutputs=4)
    rng = np.random.default_rng(7)
    files = [write_ramp(folder / f"jw{n}_jump.fits", key, *dark(rng, key, 2, hits=0.001)) for n in range(6)]
    store = LocalStore(folder / "store")
    ready = commit_set(store, files, [key] * 6, [2] * 6, gain=GAIN, simulated=True)
    (outgoing,) = handle(ready, StageContext(store, StageSettings(store=folder / "store", mode="flight")))
    return folder / "store" / outgoing.message.content.reference.key, key


def test_a_rapid_dark_leaves_deep8_within_noise(long_dark, deep, monkeypatch):
    # Given an exposure whose groups are averages of frames, with gaps between them
    monkeypatch.setattr("services.darkref.verification.verify.violations", lambda path: [])
    reference, key = long_dark
    file, its_key = deep
    # When the step averages the dark's groups alike
    verification = _verified(reference, file, key, ramp_key=its_key)
    # Then what is left is within the noise, and so is the noise
    assert verification.left_out.readpatt == "DEEP8"
    assert verification.accepted, verification.verdict
    names = {check.name for check in verification.checks if check.where == "amplifier 1" and check.passed}
    assert {"mean residual", "residual rise", "noise after subtraction"} <= names


def test_bands_do_not_show(good, key, monkeypatch):
    with Ramp(RangedFile(good[1]), "ramp") as ramp:
        whole = left_out.measure_residuals(good[0], ramp, key, "jw", 12)
        planes = reference_planes.read_planes(good[0], (GROUPS, 64, 64))
        monkeypatch.setattr(reference_planes, "BAND_BYTES", 4 * GROUPS * 64 * 5)
        assert len(list(reference_planes.bands((GROUPS, 64, 64)))) == 13
        assert left_out.measure_residuals(good[0], ramp, key, "jw", 12) == whole
        for name in ("rate", "pair_variance", "first", "error", "dq"):
            again = reference_planes.read_planes(good[0], (GROUPS, 64, 64))
            np.testing.assert_array_equal(getattr(again, name), getattr(planes, name))


def test_the_noise_is_numpys(good, key):
    # Given the residuals by plain numpy
    with fits.open(good[0]) as hdus, fits.open(good[1]) as ramp:
        left = ramp["SCI"].data.astype(float) - hdus["SCI"].data
        flags = np.maximum.accumulate(ramp["GROUPDQ"].data, axis=1) > 0
        science = ramp["SCI"].data.astype(float)
    left[flags], science[flags] = np.nan, np.nan
    with Ramp(RangedFile(good[1]), "ramp") as ramp:
        result = left_out.measure_residuals(good[0], ramp, key, "jw", 12).amplifiers
    for n, one in enumerate(result):
        mine = left[..., 16 * n : 16 * (n + 1)]
        levels = np.ma.masked_invalid(mine[:, 1:] - mine[:, :1]).mean(axis=(0, 1))
        assert one.mean_residual_dn == pytest.approx(np.ma.median(levels), abs=1e-5)
        rises = np.ma.masked_invalid(mine[:, -1] - mine[:, 0]).mean(axis=0)
        assert one.rise_dn == pytest.approx(np.ma.median(rises), abs=1e-5)
        # 16 pairs: the median of chi2(15) / 15 is 0.9559 (any table).
        pairs = (mine[:, 1::2] - mine[:, ::2]).reshape(-1, *mine.shape[2:])
        whole = np.isfinite(pairs).all(axis=0)
        expected = np.sqrt(np.median(pairs.var(axis=0, ddof=1)[whole]) / 0.9559)
        assert one.cds_after_dn == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("which", ["RAPID", "DEEP8"])
def test_the_subtraction_is_that_of_the_dark_current_step(tmp_path, good, long_dark, deep, key, which):
    # Given what jwst's step itself makes of the whole exposure
    reference, file, its_key = (good[0], good[1], key) if which == "RAPID" else (long_dark[0], *deep)
    _step(file, reference, tmp_path)
    # When ours goes through it in bands
    with (
        fits.open(tmp_path / "stepped.fits") as stepped,
        fits.open(reference) as hdus,
        fits.open(file) as ramp,
    ):
        header = hdus[0].header
        for rows in (slice(0, 10), slice(10, 64)):
            for n in range(INTS):
                mine, bad = left_out.subtract_dark(
                    (
                        ramp["SCI"].data[n, :, rows],
                        ramp["GROUPDQ"].data[n, :, rows],
                        ramp["PIXELDQ"].data[rows],
                    ),
                    (hdus["SCI"].data[:, rows].astype(np.float32), hdus["DQ"].data[rows]),
                    its_key,
                    header,
                )
                # Then not a bit differs
                np.testing.assert_array_equal(mine, stepped["SCI"].data[n, :, rows])
                np.testing.assert_array_equal(bad, stepped["PIXELDQ"].data[rows])


def _step(file, reference, folder):
    write_cache(folder, {}, "2022-01-01T00:00:00")
    code = (
        "import sys; from jwst.dark_current import DarkCurrentStep\n"
        "from stdatamodels.jwst.datamodels import RampModel\n"
        "ramp, dark, out = sys.argv[1:]\n"
        "step = DarkCurrentStep(); step.override_dark = dark\n"
        "done = step.run(RampModel(ramp)); assert done.meta.cal_step.dark_sub == 'COMPLETE'; done.save(out)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file), str(reference), str(folder / "stepped.fits")],
        env=os.environ | environment(folder),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-2000:]
