"""The simulated detector against closed forms."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, stats

from nircam_darks.simulation.cosmic_rays import (
    COUPLING,
    Deposit,
    charge_library,
    draw_deposit,
    merge,
    snowball,
)
from nircam_darks.simulation.detector import SATURATION, draw_pixels
from nircam_darks.simulation.exposure import _saturation_flags, clocking_of, expose
from nircam_darks.simulation.jumps import FalsePositives, JumpTally, false_positives
from nircam_darks.simulation.noise import (
    ONE_OVER_F,
    Clocking,
    OneOverFNoise,
    ReadNoise,
    band_power,
    expected_white_noise,
    one_over_f_cds_variance,
    one_over_f_noise,
)
from nircam_darks.simulation.plan import SimulationPlan
from shared.nircam.detectors import detectors

WINDOW = slice(1000, 1064)


def pixels_for(plan, **changes):
    pixels = draw_pixels(plan.device, WINDOW, WINDOW, plan.seed)
    shape = pixels.science.shape
    still = {
        "rate": np.zeros(shape, np.float32),
        "white_noise": np.zeros(shape, np.float32),
        "nonlinearity": np.zeros(shape, np.float32),
        # Levels between whole numbers, so that rounding favours none.
        "superbias": np.random.default_rng(9).uniform(9999, 10001, shape).astype(np.float32),
        "dead": np.zeros(shape, bool),
        "ktc": 0.0,
    }
    return replace(pixels, **(still | changes))


def ramp(plan, pixels, seed=0):
    """Groups in electrons above the bias, float64 (integrations, groups, rows, columns)."""
    groups = [group.data for group in expose(plan, pixels, np.random.default_rng(seed))]
    stack = np.array(groups, float).reshape(plan.nints, plan.ngroups, *plan.shape)
    return (stack - pixels.superbias) * pixels.gain


@pytest.fixture
def no_one_over_f(monkeypatch):
    silent = {"SW": OneOverFNoise(0.0, 0.0), "LW": OneOverFNoise(0.0, 0.0)}
    monkeypatch.setattr("nircam_darks.simulation.exposure.ONE_OVER_F", silent)


@pytest.mark.usefixtures("no_one_over_f")
def test_dark_current_is_poisson_and_accumulates_from_the_reset():
    # Given a detector without read noise, 40 e- a frame
    plan = SimulationPlan("NRCB1", "SUB64P", ngroups=6, nints=4, cosmic_ray_rate=0)
    pixels = pixels_for(plan, rate=np.full((64, 64), 40 / plan.tframe, np.float32))
    data = ramp(plan, pixels)
    # Then group g has 40 (g + 1) electrons, and as much variance, besides rounding
    rounding = pixels.gain**2 / 12
    for group in range(plan.ngroups):
        expected = 40 * (group + 1)
        values = data[:, group]
        assert values.mean() == pytest.approx(expected, abs=5 * math.sqrt(expected / values.size))
        assert values.var() == pytest.approx(expected + rounding, rel=5 * math.sqrt(2 / values.size))


@pytest.mark.usefixtures("no_one_over_f")
@pytest.mark.parametrize("readpatt", ["RAPID", "SHALLOW4"])
def test_read_noise_averages_over_frames_and_reset_noise_stays(readpatt):
    plan = SimulationPlan("NRCALONG", "SUB64P", readpatt, ngroups=8, nints=3, cosmic_ray_rate=0)
    pixels = pixels_for(plan, white_noise=np.full((64, 64), 20, np.float32), ktc=50.0)
    data = ramp(plan, pixels)
    rounding = pixels.gain**2 / 12
    differences = (data[:, 1:] - data[:, :-1])[:, ::2]
    cds = 2 * (400 / plan.nframes + rounding)
    assert differences.var() == pytest.approx(cds, rel=5 * math.sqrt(2 / differences.size))
    first = data[:, 0]
    assert first.var() == pytest.approx(2500 + cds / 2, rel=5 * math.sqrt(2 / first.size))
    # Each integration has its own reset
    between = np.corrcoef(data[0].mean(axis=0).ravel(), data[1].mean(axis=0).ravel())[0, 1]
    assert abs(between) < 5 / math.sqrt(64 * 64)


@pytest.mark.usefixtures("no_one_over_f")
def test_frames_averaged_and_dropped_take_their_time():
    # Given MEDIUM8: 8 frames averaged, 2 dropped
    plan = SimulationPlan("NRCALONG", "SUB64P", "MEDIUM8", ngroups=4, cosmic_ray_rate=0)
    pixels = pixels_for(plan, rate=np.full((64, 64), 100 / plan.tframe, np.float32))
    means = ramp(plan, pixels).mean(axis=(0, 2, 3))
    # Then the first group is the mean of 1..8 frames, and each group adds ten
    np.testing.assert_allclose(means, 450 + 1000 * np.arange(4), rtol=0.002)


def test_one_over_f_noise_has_the_spectrum_that_its_closed_forms_say():
    samples, power = 4096, 3.0
    rng = np.random.default_rng(1)
    draws = np.array([one_over_f_noise(samples, power, rng) for _ in range(400)])
    assert draws.var() == pytest.approx(power * band_power(samples), rel=0.05)
    spectrum = np.mean(np.abs(np.fft.rfft(draws, axis=1)) ** 2, axis=0) / samples**2
    k = np.arange(1, samples // 2)
    # Two-sided periodogram: half of A / k at each frequency
    np.testing.assert_allclose(spectrum[1 : samples // 2] * 2 * k / power, 1, atol=0.35)


@pytest.mark.parametrize("channel", ["SW", "LW"])
def test_cds_noise_lands_on_the_expected_table(channel):
    # Given a small array clocked as a full frame has it, the budget closes by itself
    detector = detectors()["NRCA1" if channel == "SW" else "NRCALONG"]
    one_over_f = ONE_OVER_F[channel]
    full = Clocking(2048, 2048, 4, 1, 1)
    total = 2 * expected_white_noise(detector) ** 2 + 2 * detector.gain**2 / 12
    total += one_over_f_cds_variance(full, one_over_f.common + one_over_f.each)
    assert math.sqrt(total) == pytest.approx(detector.expected.cds_noise.value, rel=1e-9)


def test_drawn_frames_have_the_cds_noise_of_the_closed_form():
    clocking = Clocking(64, 256, 4, -1, 2)
    one_over_f = OneOverFNoise(4.0, 2.0)
    differences = []
    for seed in range(60):
        noise = ReadNoise(
            clocking, np.full((64, 256), 3, np.float32), one_over_f, 10, np.random.default_rng(seed)
        )
        frames = [noise.frame(n) for n in range(3)]
        differences += [frames[1] - frames[0]]
    measured = np.mean(np.square(differences))
    assert measured == pytest.approx(2 * 9 + one_over_f_cds_variance(clocking, 6.0), rel=0.08)


def test_common_noise_is_common_and_mirrored_between_neighbouring_outputs():
    noise = ReadNoise(
        Clocking(32, 128, 4, 1, 2), np.zeros((32, 128), np.float32), OneOverFNoise(5.0, 0.0), 4,
        np.random.default_rng(3),
    ).frame(0)  # fmt: skip
    first, second, third, _ = np.split(noise, 4, axis=1)
    np.testing.assert_allclose(second, first[:, ::-1], atol=1e-4)
    np.testing.assert_allclose(third, first, atol=1e-4)


def test_slow_axis_turns_the_order_of_lines():
    def frame(slowaxis):
        clocking = Clocking(32, 16, 1, 1, slowaxis)
        return ReadNoise(
            clocking, np.zeros((32, 16), np.float32), OneOverFNoise(5.0, 1.0), 4, np.random.default_rng(3)
        ).frame(1)

    np.testing.assert_array_equal(frame(2), frame(-2)[::-1])


def test_windows_are_cut_outs_of_one_detector():
    detector = detectors()["NRCA3"]
    large = draw_pixels(detector, slice(100, 180), slice(0, 300), seed=5)
    small = draw_pixels(detector, slice(120, 160), slice(50, 90), seed=5)
    inner = (slice(20, 60), slice(50, 90))
    for name in ("superbias", "white_noise", "saturation", "hot", "dead"):
        np.testing.assert_array_equal(getattr(large, name)[inner], getattr(small, name))
    other = draw_pixels(detector, slice(120, 160), slice(50, 90), seed=6)
    assert not np.array_equal(other.superbias, small.superbias)


def test_populations_and_reference_pixels():
    pixels = draw_pixels(detectors()["NRCALONG"], slice(0, 400), slice(0, 2048), seed=1)
    science = pixels.science.sum()
    assert science == 396 * 2040
    for found, part in ((pixels.dead, 0.0004), (pixels.hot, 0.001), (pixels.warm, 0.005)):
        assert found.sum() == pytest.approx(part * science, abs=5 * math.sqrt(part * science))
    assert not pixels.rate[~pixels.science].any()
    assert not pixels.rate[pixels.dead].any()
    assert pixels.bulk_rate == pytest.approx(0.027, rel=0.01)


def test_hits_come_with_poisson_counts_and_the_librarys_charge():
    collecting = np.ones((200, 200), bool)
    rate, seconds = 5.0, 100.0
    expected = rate * seconds * 200**2 * 18e-4**2
    drawn = [draw_deposit(collecting, rate, seconds, "SUNMIN", np.random.default_rng(s)) for s in range(200)]
    counts = np.array([deposit.hits for deposit in drawn])
    assert counts.mean() == pytest.approx(expected, abs=4 * math.sqrt(expected / 200))
    assert stats.chi2(199).cdf(counts.var(ddof=1) * 199 / expected) == pytest.approx(0.5, abs=0.499)
    # The charge of a hit is that of the library: none is lost inside, none comes from nowhere
    scene = charge_library().scenes["SUNMIN"]
    library = charge_library().draw("SUNMIN", 100_000, np.random.default_rng(0))
    middle = np.interp(0.5, charge_library().probabilities, scene.quantiles)
    assert np.median(library) == pytest.approx(middle, rel=0.02)
    total = sum(float(deposit.charge.sum()) for deposit in drawn) / counts.sum()
    assert total == pytest.approx(library.mean(), rel=0.15)


def test_reference_pixels_collect_nothing_and_a_hit_couples_to_its_neighbours():
    collecting = np.ones((40, 40), bool)
    collecting[:, :4] = False
    deposits = [
        draw_deposit(collecting, 5e4, 1.0, "SUNMIN", np.random.default_rng(seed)) for seed in range(3)
    ]
    for deposit in deposits:
        assert collecting.ravel()[deposit.pixels].all()
        assert np.all(np.diff(deposit.pixels) > 0)
    assert 0 < COUPLING < 0.01
    both = merge(deposits[:2], [1.0, 0.5])
    total = deposits[0].charge.sum() + 0.5 * deposits[1].charge.sum()
    assert both.charge.sum() == pytest.approx(total, rel=1e-5)


@pytest.mark.usefixtures("no_one_over_f")
def test_a_hit_in_a_later_frame_of_a_group_is_split_between_two_differences():
    # Given many hits, averaged frames and no noise at all
    plan = SimulationPlan("NRCALONG", "SUB64P", "SHALLOW4", ngroups=5, cosmic_ray_rate=3e4)
    pixels = pixels_for(plan, saturation=np.full((64, 64), 6e4, np.float32))
    groups = list(expose(plan, pixels, np.random.default_rng(2)))
    assert sum(group.hits for group in groups) > 20
    for before, after in itertools.pairwise(groups):
        rise = (after.data.astype(float) - before.data).ravel() * pixels.gain
        output = np.zeros(64 * 64)
        output[after.deposit.pixels] = after.deposit.charge
        # Then each difference is what the deposit says, to the rounding, where no well is full
        far = output < 5000
        far[groups[-1].saturated] = False
        assert (output[far] > 100).sum() > 10
        np.testing.assert_allclose(rise[far], output[far], atol=1.05 * pixels.gain)


def test_charge_beyond_the_well_saturates_and_stays():
    plan = SimulationPlan("NRCB1", "SUB64P", ngroups=8, snowballs=1, cosmic_ray_rate=0)
    pixels = draw_pixels(plan.device, WINDOW, WINDOW, plan.seed)
    groups = list(expose(plan, pixels, np.random.default_rng(4)))
    flagged = [set(group.saturated.tolist()) for group in groups]
    assert not flagged[0]
    assert len(flagged[-1]) > 12
    assert all(before <= after for before, after in itertools.pairwise(flagged))
    assert groups[-1].data.max() < SATURATION + 10_000
    ball = snowball(np.ones((64, 64), bool), np.random.default_rng(1))
    assert ball.charge.max() > 2e5


@pytest.mark.parametrize("ngroups", [12, 20])
def test_false_positives_are_those_of_the_two_point_difference(ngroups):
    # Given the method written out by hand on white noise
    sigma = 15.7
    rng = np.random.default_rng(77)
    reads = rng.normal(0, sigma / math.sqrt(2), (200_000, ngroups))
    differences = np.diff(reads, axis=1)
    middle = np.median(differences, axis=1, keepdims=True)
    flagged = np.abs(differences - middle) > 4 * np.sqrt(np.abs(middle) + sigma**2)
    # When stcal counts them, then it finds as many
    false = false_positives(ngroups, 1, sigma)
    both = math.hypot(false.relative_error, 1 / math.sqrt(flagged.sum()))
    assert false.per_difference == pytest.approx(flagged.mean(), rel=4 * both)
    assert false.per_pixel == pytest.approx(flagged.any(axis=1).mean(), rel=4 * both)


def test_a_strong_jump_counts_with_its_four_neighbours_and_a_huge_one_alone():
    science = np.ones((9, 9), bool)
    sigma = np.full((9, 9), 10.0, np.float32)

    def expected(charge, saturated=()):
        tally = JumpTally(science, sigma, 20, 1, FalsePositives(0.0, 0.0, 0.0))
        tally.add(3, Deposit(np.array([40]), np.array([charge], np.float32), 1), np.array(saturated, int))
        tally.close()
        return tally.totals

    assert expected(500.0).flags == pytest.approx(5, abs=1e-3)
    assert expected(70.0).flags == pytest.approx(1, abs=0.01)
    assert expected(20000.0).flags == pytest.approx(1, abs=1e-3)
    assert expected(500.0, saturated=[40]).flags == pytest.approx(0, abs=1e-3)
    assert expected(500.0).above_threshold == 1
    assert 0.4 < expected(41.0).flags < 0.7


def test_clocking_follows_the_detector():
    clocking = clocking_of(SimulationPlan("NRCA2", "FULL"))
    assert (clocking.fastaxis, clocking.slowaxis, clocking.noutputs) == (1, -2, 4)
    assert clocking.line == 524


@pytest.mark.parametrize("share", [0.0, 0.001, 0.2])
def test_saturation_reaches_the_eight_neighbours_and_no_pixel_outside_of_the_frame(share):
    above = np.random.default_rng(5).random((40, 70)) < share
    above[0, 0] = above[-1, -1] = above[0, -1] = share > 0
    expected = np.flatnonzero(ndimage.binary_dilation(above, np.ones((3, 3), bool)))
    np.testing.assert_array_equal(_saturation_flags(above), expected)
