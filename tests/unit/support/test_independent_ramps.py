"""The independent generator against closed forms: what it says it planted is in its ramps."""

from itertools import pairwise

import numpy as np
import pytest
from astropy.io import fits

from shared.nircam.configuration import ConfigurationKey
from support.independent_detector import DETECTORS, IndependentDetector, Scene
from support.independent_files import (
    calibrated_file,
    calibrated_ramp,
    independent_references,
    raw_exposure_file,
)
from support.independent_ramps import (
    PIXEL_CM2,
    cds_variance,
    expose_independent,
    expose_set,
    output_noise,
    pink_series,
    pink_variances,
)

SMALL = {"rows": 64, "columns": 64, "exposures": 1}


def taken(scene):
    return expose_independent(IndependentDetector(scene), 0)


def differences(exposure):
    """Differences from group to group, e-, 4-D."""
    gain = exposure.detector.scene.own.gain
    return np.diff(exposure.raw.astype(np.float64), axis=1) * gain


def test_an_exposure_depends_on_seed_and_number_alone():
    scene = Scene(**SMALL | {"exposures": 2}, ngroups=4)
    first, second = expose_set(scene)
    again = expose_independent(IndependentDetector(scene), 1)
    other = expose_independent(IndependentDetector(scene.but(seed=1)), 1)
    np.testing.assert_array_equal(second.raw, again.raw)
    assert (first.raw != second.raw).mean() > 0.9
    assert (second.raw != other.raw).mean() > 0.9


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_cds_noise_is_the_detectors_own(detector):
    # Given ramps with 1/f noise, whose CDS noise the white noise completes
    exposure = taken(Scene(**SMALL, detector=detector, ngroups=30, nints=6, hits=0, hot=0, warm=0, fast_rc=0))
    variance = differences(exposure).var(axis=(0, 1))
    # Then the median pixel has the published noise, Poisson and rounding apart
    wanted = exposure.detector.median_cds()[0] ** 2
    poisson = exposure.detector.scene.own.dark / 1000 * exposure.detector.scene.group_time
    rounding = 2 * exposure.detector.scene.own.gain**2 / 12
    assert np.median(variance) == pytest.approx(wanted + poisson + rounding, rel=0.05)


def test_white_noise_and_kick_of_the_reset():
    scene = Scene.plain(**SMALL, ngroups=10, nints=20, dark=0.0, cds=14.0, ktc=20.0)
    exposure = taken(scene)
    data = exposure.raw - exposure.detector.superbias
    own = exposure.truth.white / scene.own.gain
    # The mean of ten groups is the kick, and a tenth of the variance of a read
    wanted = np.sqrt(20.0**2 + (np.median(own) ** 2 + 1 / 12) / 10)
    assert data.mean(axis=1).std() == pytest.approx(wanted, rel=0.02)
    ratio = differences(exposure).var(axis=(0, 1)) / (2 * (exposure.truth.white**2 + scene.own.gain**2 / 12))
    assert ratio.mean() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("exponent", [0.8, 1.0, 1.2, 2.0])
def test_pink_noise_has_its_power_its_exponent_and_its_cds_noise(exponent):
    # Given 64 frames of 4096 samples
    frame, length = 4096, 64 * 4096
    variances = pink_variances(length, frame, exponent, 3.0)
    series = np.array(
        [pink_series(variances, length, np.random.default_rng(n)) for n in range(8)], np.float64
    )
    # When
    power = (np.abs(np.fft.rfft(series)) ** 2).mean(axis=0) * 2 / length**2
    within = power[64:].sum()
    bands = np.geomspace(64, length // 2, 9).astype(int)
    centres = [np.exp(np.log(np.arange(a, b)).mean()) for a, b in pairwise(bands)]
    means = [np.log(power[a:b]).mean() for a, b in pairwise(bands)]
    slope = np.polyfit(np.log(centres), means, 1)[0]
    cds = (series[:, frame:] - series[:, :-frame]).var()
    # Then
    assert within == pytest.approx(9.0, rel=0.06)
    assert slope == pytest.approx(-exponent, abs=0.05)
    assert cds == pytest.approx(cds_variance(variances, length, frame), rel=0.1)


def test_shared_noise_is_shared_by_neighbours_that_read_the_other_way():
    nothing = Scene.plain(rows=32, columns=64, outputs=4, ngroups=8, exposures=1, shared_pink=3.0)
    both = nothing.but(own_pink=3.0)
    for scene, wanted in ((nothing, 1.0), (both, 0.5)):
        noise = np.concatenate([output_noise(scene, np.random.default_rng(n)) for n in range(30)])
        first, second = noise[..., :16], noise[..., 16:32][..., ::-1]
        assert np.corrcoef(first.ravel(), second.ravel())[0, 1] == pytest.approx(wanted, abs=0.1)


def test_column_noise_alternates():
    scene = Scene.plain(**SMALL, ngroups=20, column_noise=1.5)
    noise = output_noise(scene, np.random.default_rng(1)).astype(np.float64)
    odd, even = noise[..., ::2].mean(axis=-1), noise[..., 1::2].mean(axis=-1)
    assert noise.std() == pytest.approx(1.5, rel=0.4)
    assert abs(np.corrcoef(odd.ravel(), even.ravel())[0, 1]) < 0.3
    # Neighbours of the same parity follow each other
    assert np.corrcoef(noise[..., :-2].ravel(), noise[..., 2:].ravel())[0, 1] > 0.5


def test_charge_accumulates_at_the_dark_rate_with_its_poisson_noise():
    scene = Scene.plain(**SMALL, ngroups=21, dark=3000.0, cds=0.01)
    exposure = taken(scene)
    steps = differences(exposure)
    wanted = 3.0 * scene.group_time
    assert steps.mean() == pytest.approx(wanted, rel=0.005)
    rounding = 2 * scene.own.gain**2 / 12
    assert steps.var() == pytest.approx(wanted + rounding, rel=0.03)


def test_ipc_keeps_the_charge_and_gives_neighbours_their_part():
    scene = Scene(**SMALL, hot=0.0, warm=0.0)
    detector = IndependentDetector(scene)
    image = np.zeros(scene.shape)
    image[30, 30] = 1000.0
    result = detector.neighbours_share(image)
    assert result.sum() == pytest.approx(1000.0)
    assert result[30, 31] == result[29, 30] == pytest.approx(5.97)
    assert detector.kernel.sum() == pytest.approx(1.0)


def test_the_mean_of_many_integrations_is_the_true_ramp():
    # Given settling, fast RC pixels, hot pixels and IPC, but no hits
    scene = Scene(
        **SMALL, ngroups=10, nints=60, hits=0.0, settling=20.0, fast_rc=0.002, nonlinear=False, dark=300.0
    )
    exposure = taken(scene)
    data = exposure.raw.astype(np.float64) * exposure.detector.gain
    ramp = (data - data[:, :1]).mean(axis=0)
    # Then it is found to within its noise: 18 e- a difference, sqrt(60)
    left = (ramp - exposure.detector.true_ramp())[1:, ~exposure.detector.hot]
    assert abs(left.mean()) < 0.5
    assert np.median(np.abs(left)) * 1.4826 == pytest.approx(np.sqrt(13.25**2 + 15) / np.sqrt(60), rel=0.25)
    fast = exposure.detector.fast_rc
    assert np.median(ramp[-1, fast]) > 300
    np.testing.assert_allclose(ramp[-1, fast], exposure.detector.true_ramp()[-1, fast], atol=15)


def test_hits_arrive_at_their_rate_and_stay():
    scene = Scene.plain(**SMALL, ngroups=20, nints=10, hits=50.0, cds=1.0, dark=0.0)
    exposure = taken(scene)
    expected = 50.0 * PIXEL_CM2 * 64 * 64 * scene.read_times[-1, -1] * 10
    assert len(exposure.truth.hits.charge) == pytest.approx(expected, abs=5 * np.sqrt(expected))
    steps = np.diff(exposure.raw.astype(np.float64), axis=1) * exposure.detector.gain
    left = steps - exposure.truth.deposits[:, 1:]
    unsaturated = exposure.raw[:, 1:] < 50000
    assert np.abs(left[unsaturated]).max() < 12


def test_telegraph_pixels_stay_as_long_as_they_should():
    scene = Scene.plain(**SMALL, ngroups=60, nints=20, telegraph=0.05, telegraph_dwell=300.0, cds=1.0)
    exposure = taken(scene)
    levels = exposure.truth.telegraph[:, :, exposure.detector.telegraph]
    changes = (np.diff(levels, axis=1) != 0).mean()
    assert changes == pytest.approx((1 - np.exp(-2 * scene.group_time / 300)) / 2, rel=0.1)
    seen = (
        np.diff(exposure.raw.astype(np.float64), axis=1)[:, :, exposure.detector.telegraph] * scene.own.gain
    )
    np.testing.assert_allclose(seen, np.diff(levels, axis=1), atol=20)


def test_bistable_pixels_are_hot_in_so_many_of_the_sets_integrations():
    scene = Scene.plain(
        rows=32, columns=32, nints=2, exposures=5, ngroups=6, bistable=0.1, bistable_in=3, cds=1.0
    )
    exposures = expose_set(scene)
    pixels = exposures[0].detector.bistable
    rise = np.concatenate([e.raw[:, -1].astype(float) - e.raw[:, 0] for e in exposures])[:, pixels]
    rate = rise * scene.own.gain / (5 * scene.group_time)
    np.testing.assert_array_equal((rate > 1).sum(axis=0), 3)


@pytest.mark.parametrize("readpatt", ["RAPID", "SHALLOW4", "MEDIUM8", "DEEP8"])
def test_averaged_frames_leave_less_noise_and_whole_numbers(readpatt):
    scene = Scene.plain(**SMALL, readpatt=readpatt, ngroups=12, nints=2, dark=0.0, cds=14.0)
    exposure = taken(scene)
    assert exposure.raw.dtype == np.uint16
    # The noise of a read is averaged, that of rounding is not
    wanted = 2 * exposure.truth.white**2 / scene.frames[0] + scene.own.gain**2 / 6
    assert (differences(exposure).var(axis=(0, 1)) / wanted).mean() == pytest.approx(1.0, abs=0.03)


def test_reference_pixels_collect_nothing():
    scene = Scene(**SMALL | {"columns": 2048}, first_row=1, first_column=1, outputs=4, ngroups=5, hits=50.0)
    exposure = taken(scene)
    light = exposure.detector.light
    assert (~light).sum() == 4 * 2048 + 2 * 4 * 60
    assert not exposure.truth.deposits[..., ~light].any()
    assert not exposure.detector.true_ramp()[:, ~light].any()


def test_saturation_ends_a_ramp_and_a_snowball_has_a_core():
    scene = Scene(**SMALL, ngroups=10, snowballs=20.0, hits=0.0, seed=3)
    data, groupdq = calibrated_ramp(taken(scene))
    saturated = (groupdq & 2) > 0
    assert 20 < saturated[:, -1].sum() < saturated[0, -1].size
    # Once saturated, always
    assert (saturated[:, 1:] >= saturated[:, :-1]).all()
    assert np.isfinite(data).all()


def test_persistence_decays_in_the_first_exposure_alone():
    scene = Scene.plain(
        rows=32, columns=32, ngroups=40, exposures=2, persistence=0.2, persistence_charge=5000.0, dark=0.0
    )
    first, second = (e.raw[0, -1].astype(float) - e.raw[0, 0] for e in expose_set(scene))
    assert (first > 1000).mean() == pytest.approx(0.2, abs=0.05)
    assert (second > 1000).sum() == 0


def test_calibration_by_the_truth_finds_hits_and_straightens_ramps():
    scene = Scene(**SMALL, ngroups=20, hits=20.0)
    exposure = taken(scene)
    _, groupdq = calibrated_ramp(exposure)
    jumps = (groupdq & 4) > 0
    # Every large hit after the first group is flagged, and of quiet places next to none
    large = exposure.truth.deposits > 300
    large[:, 0] = False
    assert jumps[large].mean() > 0.98
    assert jumps[exposure.truth.deposits == 0].mean() < 2e-3


def test_files_have_the_keywords_of_their_scene(tmp_path):
    # Given
    scene = Scene(**SMALL, ngroups=3, nints=2, detector="NRCB1")
    exposure = taken(scene)
    # When
    raw = raw_exposure_file(tmp_path, exposure)
    done = calibrated_file(tmp_path, exposure)
    references = independent_references(
        tmp_path / "crds", exposure.detector, exposure.truth.pink_cds_variance
    )
    # Then
    for path in (raw, done):
        assert ConfigurationKey.from_header(fits.getheader(path), path.name) == scene.key
    np.testing.assert_array_equal(fits.getdata(raw, "SCI"), exposure.raw)
    assert set(references) == {"mask", "saturation", "superbias", "linearity", "gain", "readnoise"}
    # READNOISE is the CDS noise in DN
    noise = np.median(fits.getdata(references["readnoise"], "SCI"))
    assert noise * scene.own.gain == pytest.approx(16.6, rel=0.02)
