"""What is expected of each detector, and how much of a dark has to be measured."""

import math

import numpy as np
import pytest
from astropy.io import fits

from services.darkref.verification.expectations import check_dark_current, expected_read_noise
from services.darkref.verification.measured_share import measured_share
from shared.nircam.detectors import detectors
from shared.nircam.dq import PixelFlag
from shared.statistics.verdicts import Acceptance, Value
from support.configurations import configuration


@pytest.mark.parametrize(
    ("detector", "rate", "error", "passed"),
    [
        # A falling level, and a light leak of 0.1 e-/s, as they came out of NRCALONG.
        ("NRCALONG", -961.0, 13.0, False),
        ("NRCALONG", 124.0, 13.0, False),
        # The two tables and the ground test differ by 7 e-/ks; each of them is right.
        ("NRCALONG", 27.0, 0.3, True),
        ("NRCALONG", 34.2, 0.3, True),
        ("NRCBLONG", 34.9, 0.3, True),
        ("NRCA1", 0.4, 0.2, True),
        ("NRCA2", 3.0, 0.2, True),
        # 5 sigma of the table's own spread: 1.1 and 5.
        ("NRCB1", 1.9 + 0.5 + 5.6, 0.01, False),
        ("NRCALONG", 34.2 + 24.9, 0.01, True),
        ("NRCALONG", 34.2 + 25.1, 0.01, False),
        # A short set cannot tell, and says so; it is off where it is off by 5 of its own errors.
        ("NRCA1", 3714.0, 3946.0, None),
        ("NRCA1", 3714.0, 500.0, False),
    ],
)
def test_a_rate_is_held_against_what_is_known_of_its_detector(detector, rate, error, passed):
    check = check_dark_current(configuration(detector=detector), Value(rate, error))
    assert check.passed is passed
    assert check.on_failure == Acceptance.HELD


def readnoise(path, key, noise, corner=(1, 1)):
    primary = fits.PrimaryHDU()
    primary.header["SUBSTRT1"], primary.header["SUBSTRT2"] = corner
    fits.HDUList([primary, fits.ImageHDU(noise.astype(np.float32), name="SCI")]).writeto(path)
    return path


def test_the_map_of_crds_says_what_each_amplifier_should_have(tmp_path):
    # Given a map of the whole detector whose four stripes differ, and a subarray of full width
    key = configuration(
        ny=64, nx=2048, detector="NRCBLONG", noutputs=4, substrt1=1, substrt2=985, subarray="SUBGRISM64"
    )
    stripes = np.array([14.9, 15.0, 15.2, 15.4]) / 1.8
    noise = np.broadcast_to(np.repeat(stripes, 512), (2048, 2048)).copy()
    noise[990, 5] = np.nan
    path = readnoise(tmp_path / "readnoise.fits", key, noise)
    # When
    ranges = expected_read_noise(key, 1.8, path)
    # Then each has its own, and the map itself lies inside
    for known, one in zip((14.9, 15.0, 15.2, 15.4), ranges, strict=True):
        assert one.low < known < one.high
        assert one.low == pytest.approx(0.9 * known, rel=1e-5)
        assert "readnoise.fits" in one.source


def test_crds_own_map_of_nrcblong_passes_without_the_map_too():
    # CDS noise of 14.9 to 15.4 e-, 13.8 % above the channel's one number
    (only,) = expected_read_noise(configuration(detector="NRCBLONG"), 1.8, None)
    assert only.low < 14.9
    assert only.high > 15.4
    assert not only.low < 2 * 15.4 < only.high


@pytest.mark.parametrize("detector", sorted(detectors()))
def test_every_figure_of_the_table_is_within_and_half_or_double_is_not(detector):
    known = detectors()[detector]
    (only,) = expected_read_noise(configuration(detector=detector), known.gain, None)
    for figure in (known.expected.cds_noise.value, *known.cds_noise_e):
        assert only.low < figure < only.high
        assert figure / 2 < only.low
    assert 2 * known.expected.cds_noise.value > only.high


def test_a_map_of_other_pixels_is_not_used(tmp_path):
    key = configuration()
    path = readnoise(tmp_path / "far.fits", key, np.full((64, 64), 8.0), corner=(1001, 1001))
    assert expected_read_noise(key, 1.8, path) == expected_read_noise(key, 1.8, None)
    assert expected_read_noise(key, 1.8, tmp_path / "none.fits") == expected_read_noise(key, 1.8, None)


def shares(last, quality=None, integrations=5, min_valid=3):
    science = np.ones(last.shape, bool)
    columns = [slice(start, start + 16) for start in (0, 16, 32, 48)]
    return {
        (check.name, check.where): check
        for check in measured_share(last, integrations, min_valid, quality, science, columns)
    }


def test_a_whole_dark_has_lost_nothing():
    checks = shares(np.full((64, 64), 5, np.uint16))
    assert len(checks) == 8
    assert all(check.passed and check.value == 0 for check in checks.values())
    assert all(check.on_failure == Acceptance.REJECTED for check in checks.values())


def test_one_dead_output_of_four_is_not_made_up_for_by_the_others():
    last = np.full((64, 64), 5, np.uint16)
    last[:, 16:32] = 0
    failed = {place: check.value for place, check in shares(last).items() if not check.passed}
    assert failed == {
        ("unreliable pixels", "amplifier 2"): 100.0,
        ("lost measurements", "amplifier 2"): 100.0,
    }


def test_the_share_of_reliable_pixels_is_that_of_dq_and_of_measurements():
    # Given 1 % with two measurements, and 12 % flagged for their noise, of each amplifier
    last = np.full((100, 64), 5, np.uint16)
    last[0] = 2
    quality = np.zeros(last.shape, np.uint32)
    quality[1:13] = PixelFlag.UNRELIABLE_DARK
    checks = shares(last, quality)
    assert checks["unreliable pixels", "amplifier 1"].value == pytest.approx(13.0)
    assert not checks["unreliable pixels", "amplifier 1"].passed
    assert checks["lost measurements", "amplifier 1"].value == pytest.approx(0.6)


@pytest.mark.parametrize(("hits", "passes"), [(0.07, {4: True, 3: False}), (0.005, {4: True, 3: True})])
def test_how_many_integrations_are_enough_follows_from_the_hits(hits, passes):
    # Given integrations that lose this share of their pixels to hits before the last group
    rng = np.random.default_rng(3)
    for integrations, passed in passes.items():
        last = (rng.random((integrations, 256, 64)) >= hits).sum(axis=0).astype(np.uint16)
        checks = shares(last, integrations=integrations)
        assert all(c.passed is passed for (name, _), c in checks.items() if name == "unreliable pixels")
        lost = 1 - (1 - hits) ** 3 if integrations == 3 else 4 * hits**3 * (1 - hits) + hits**4
        lost += 6 * hits**2 * (1 - hits) ** 2 if integrations == 4 else 0
        share = checks["unreliable pixels", "amplifier 1"].value / 100
        assert share == pytest.approx(lost, abs=5 * math.sqrt(lost / 4096) + 1e-3)
