"""CDS noise: per pixel over pairs of groups, and the quick look that `inspect` prints."""

import numpy as np
import pytest
from astropy.io import fits
from scipy import stats

from services.noise.planes import ExposurePixels, Plane
from services.noise.read_noise.cds import CdsPairs, cds_summary
from shared.ramps.ramp import Ramp
from shared.store.sources import FileReader
from support.paths import SHARED_DATA

FGS = SHARED_DATA / "jw01019001001_gs-acq1_2022117003102_uncal.fits"


def ramp_of(path, sci, **extensions):
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(sci, name="SCI")])
    for name, data in extensions.items():
        hdus.append(fits.ImageHDU(data, name=name.upper()))
    hdus.writeto(path)
    return Ramp(FileReader(path), path.name)


@pytest.mark.skipif(not FGS.exists(), reason=f"no real FGS ramp at {FGS}")
def test_quick_look_on_the_real_fgs_ramp_gives_the_numbers_measured_independently():
    with Ramp(FileReader(FGS), FGS.name) as ramp:
        summary = cds_summary(ramp)
    assert summary.cds_medians == [11, -3, 6, 7, 12, 4]
    assert min(summary.group0_medians) == 14661
    assert max(summary.group0_medians) == 14737
    assert summary.temporal_std_dn == pytest.approx(10.44, abs=0.005)
    assert summary.temporal_std_median_removed_dn == pytest.approx(9.07, abs=0.005)


def test_quick_look_equals_numpy_on_unsigned_data_that_fall(tmp_path):
    rng = np.random.default_rng(1)
    sci = rng.integers(0, 65535, (4, 3, 16, 20)).astype(np.uint16)
    with ramp_of(tmp_path / "r.fits", sci) as ramp:
        summary = cds_summary(ramp)
    difference = sci[:, 1].astype(float) - sci[:, 0]
    medians = np.median(difference, axis=(1, 2))
    assert summary.group0_medians == np.median(sci[:, 0], axis=(1, 2)).tolist()
    assert summary.cds_medians == medians.tolist()
    assert summary.temporal_std_dn == pytest.approx(np.median(difference.std(0, ddof=1)))
    centred = difference - medians[:, None, None]
    assert summary.temporal_std_median_removed_dn == pytest.approx(np.median(centred.std(0, ddof=1)))


@pytest.mark.parametrize(("shape", "medians"), [((1, 2, 4, 4), 1), ((3, 1, 4, 4), 0)])
def test_quick_look_without_two_integrations_or_two_groups_has_no_temporal_noise(tmp_path, shape, medians):
    with ramp_of(tmp_path / "r.fits", np.ones(shape, np.float32)) as ramp:
        summary = cds_summary(ramp)
    assert len(summary.group0_medians) == shape[0]
    assert len(summary.cds_medians) == medians
    assert summary.temporal_std_dn is None
    assert summary.temporal_std_median_removed_dn is None


def test_quick_look_leaves_out_what_is_not_finite(tmp_path):
    sci = np.random.default_rng(2).normal(size=(5, 2, 8, 8)).astype(np.float32)
    whole = sci[..., 1:].copy()
    sci[2, 1, :, 0] = np.nan
    with (
        ramp_of(tmp_path / "a.fits", sci[..., 1:].copy()) as clean,
        ramp_of(tmp_path / "b.fits", whole) as same,
    ):
        assert cds_summary(clean) == cds_summary(same)
    with ramp_of(tmp_path / "c.fits", sci) as ramp:
        assert np.isfinite(cds_summary(ramp).temporal_std_dn)


def pairs_of(ramps, flagged=None, science=None, columns=None):
    """Every plane of ramps (ramp, group, y, x) through CdsPairs; `flagged` ends a ramp where True."""
    science = np.ones(ramps.shape[-2:], bool) if science is None else science
    pixels = ExposurePixels(science, science, ~science, columns or [slice(0, ramps.shape[-1])])
    pairs = CdsPairs(ramps.shape[-2:])
    for ramp, signal in enumerate(ramps):
        alive = np.ones(science.shape, bool)
        for group, plane in enumerate(signal):
            if flagged is not None:
                alive = alive & ~flagged[ramp, group]
            pairs.add(Plane(ramp, group, plane, np.uint8(~alive), np.zeros_like(alive), alive), pixels)
    return pairs, pixels


def test_cds_noise_of_a_pixel_is_the_std_of_its_unflagged_pairs():
    # Given ramps of seven groups with flags here and there
    rng = np.random.default_rng(3)
    ramps = rng.normal(0, 5, (4, 7, 6, 8)).astype(np.float32)
    flagged = rng.random(ramps.shape) < 0.05
    # When the pairs (0, 1), (2, 3), (4, 5) of each are taken
    pairs, pixels = pairs_of(ramps, flagged, columns=[slice(0, 4), slice(4, 8)])
    # Then each pixel's noise is numpy's, over the pairs before its first flag
    difference = (ramps[:, 1:6:2] - ramps[:, 0:6:2]).astype(float)
    difference[np.cumsum(flagged, axis=1)[:, 1:6:2] > 0] = np.nan
    expected = np.nanstd(difference, axis=(0, 1), ddof=1)
    np.testing.assert_allclose(pairs.per_pixel(), expected, rtol=1e-6)
    # And the amplifier's is the root of the median of the variance, each over its chi-squared median
    counts = np.isfinite(difference).sum(axis=(0, 1))
    corrected = expected**2 / (stats.chi2.median(counts - 1) / (counts - 1))
    wanted = [np.sqrt(np.median(corrected[:, :4])), np.sqrt(np.median(corrected[:, 4:]))]
    np.testing.assert_allclose(pairs.by_amplifier(pixels, removed=False), wanted, rtol=1e-6)
    centred = difference - np.nanmedian(difference, axis=(2, 3), keepdims=True)
    corrected = np.nanvar(centred, axis=(0, 1), ddof=1) / (stats.chi2.median(counts - 1) / (counts - 1))
    wanted = [np.sqrt(np.median(corrected[:, :4])), np.sqrt(np.median(corrected[:, 4:]))]
    np.testing.assert_allclose(pairs.by_amplifier(pixels, removed=True), wanted, rtol=1e-5)


@pytest.mark.parametrize("rate", [0.0, 300.0])
def test_dark_signal_of_any_size_does_not_widen_cds_noise(rate):
    rng = np.random.default_rng(4)
    hot = rng.uniform(0, rate, (50, 50)) * np.arange(8)[:, None, None]
    ramps = (rng.normal(0, 6, (6, 8, 50, 50)) + hot).astype(np.float32)
    pairs, pixels = pairs_of(ramps)
    assert pairs.by_amplifier(pixels, removed=False)[0] == pytest.approx(6 * 2**0.5, rel=0.02)


def test_what_a_whole_integration_shares_is_in_the_total_and_out_of_the_rest():
    rng = np.random.default_rng(5)
    ramps = rng.normal(0, 3, (40, 4, 40, 40)) + rng.normal(0, 4, (40, 4, 1, 1))
    pairs, pixels = pairs_of(ramps.astype(np.float32))
    shared = pairs.spread.medians.std() ** 2
    total = pairs.by_amplifier(pixels, removed=False)[0]
    removed = pairs.by_amplifier(pixels, removed=True)[0]
    assert removed == pytest.approx(3 * 2**0.5, rel=0.02)
    assert total == pytest.approx(np.sqrt(18 + shared), rel=0.03)


def test_noise_of_a_ramp_is_not_rounded_where_signals_are_whole_numbers():
    # Given raw signals, whose differences have a MAD that is a whole number
    rng = np.random.default_rng(6)
    for sigma in (3.0, 3.3, 3.7):
        ramps = np.round(rng.normal(0, sigma, (3, 6, 200, 200))).astype(np.float32)
        pairs, _ = pairs_of(ramps)
        # Then each ramp's CDS noise is still that of the signal and of its rounding
        np.testing.assert_allclose(pairs.by_ramp(), np.sqrt(2 * (sigma**2 + 1 / 12)), rtol=0.015)


def test_what_pixels_share_is_taken_off_whole_numbers_as_well():
    # Given signals in whole DN on a level that drifts by parts of one
    rng = np.random.default_rng(7)
    level = rng.normal(0, 2, (6, 20, 1, 1))
    ramps = np.round(rng.normal(0, 3, (6, 20, 100, 100)) + level)
    pairs, pixels = pairs_of(ramps.astype(np.float32))
    assert pairs.whole
    # Then what is left is the noise and its rounding: a whole median would leave another 1/12
    wanted = np.sqrt(2 * (9 + 1 / 12))
    assert pairs.by_amplifier(pixels, removed=True)[0] == pytest.approx(wanted, rel=1.5e-3)
    assert not pairs_of((ramps * 0.7).astype(np.float32))[0].whole


def test_noise_that_was_taken_for_jumps_and_unlike_pixels_do_not_lower_the_figure():
    # Given pixels whose noise scatters by 5 %, and steps beyond 3.3 sigma flagged, hits among them
    rng = np.random.default_rng(8)
    sigma = 5 * np.exp(0.05 * rng.standard_normal((200, 200)))
    ramps = rng.standard_normal((6, 12, 200, 200)) * sigma
    hits = rng.random(ramps.shape) < 5e-4
    ramps += np.cumsum(300 * hits, axis=1)
    steps = np.diff(ramps, axis=1, prepend=ramps[:, :1])
    jumps = np.abs(steps) > 3.3 * 2**0.5 * sigma
    alive = np.cumsum(jumps, axis=1) == 0
    every = np.ones((200, 200), bool)
    pixels, pairs = ExposurePixels(every, every, ~every, [slice(0, 200)]), CdsPairs((200, 200))
    # When
    for ramp, integration in enumerate(ramps.astype(np.float32)):
        for group, signal in enumerate(integration):
            flags = jumps[ramp, group]
            pairs.add(Plane(ramp, group, signal, np.uint8(4 * flags), flags, alive[ramp, group]), pixels)
    # Then the typical pixel's noise comes back, which would be 0.4 % low
    typical = np.median(sigma) * 2**0.5
    assert pairs.by_amplifier(pixels, removed=False)[0] == pytest.approx(typical, rel=2e-3)
    assert pairs.flagged.by_noise(typical) == pytest.approx(9.7e-4, rel=0.1)


def test_ramp_of_one_group_has_no_pair():
    pairs, pixels = pairs_of(np.zeros((3, 1, 4, 4), np.float32))
    assert np.isnan(pairs.by_ramp()).all()
    assert np.isnan(pairs.by_amplifier(pixels, removed=False)).all()
