"""Power spectra along the readout, and white and 1/f noise told apart, against what was drawn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import fft, signal

from nircam_darks.simulation.noise import Clocking, OneOverFNoise, ReadNoise
from services.noise.planes import Plane, exposure_pixels
from services.noise.read_noise.one_over_f import SpectrumPairs, fit_one_over_f
from services.noise.read_noise.spectrum import (
    LINE_OVERHEAD,
    PIXEL_SECONDS,
    FrameSpectra,
    SpectrumMaker,
    readout_of,
)
from shared.nircam.detectors import detectors
from shared.nircam.subarrays import frame_time
from shared.statistics.verdicts import Value
from support.configurations import configuration
from support.independent_detector import Scene
from support.independent_ramps import output_noise

WHITE, COMMON, EACH = 9.0, 0.30, 0.075


def drawn(key, frames, seed, white=WHITE, common=COMMON, each=EACH):
    """Frames of the simulator's read noise, e-."""
    device = detectors()[key.detector]
    clocking = Clocking(key.subsize2, key.subsize1, key.noutputs, device.fastaxis, device.slowaxis)
    shape = (key.subsize2, key.subsize1)
    noise = ReadNoise(
        clocking,
        np.full(shape, white, np.float32),
        OneOverFNoise(common, each),
        frames,
        np.random.default_rng(seed),
    )
    return np.array([noise.frame(n) for n in range(frames)])


def measured(key, frames, hit=0.0, seed=0):
    """What SpectrumPairs makes of a ramp of these frames, a part of whose pixels is flagged."""
    pixels = exposure_pixels(key, np.zeros(frames[0].shape, np.uint32), "x")
    pairs = SpectrumPairs(readout_of(key), len(frames) // 2)
    rng = np.random.default_rng(seed)
    for group, frame in enumerate(frames):
        alive = rng.random(frame.shape) >= hit
        wild = np.where(alive, frame, 1e6).astype(np.float32)
        pairs.add(Plane(0, group, wild, np.uint8(~alive), ~alive, alive), pixels)
    return pairs.fit()


@pytest.mark.parametrize(("columns", "outputs"), [(2048, 4), (640, 1), (64, 1)])
def test_clock_and_overheads_make_the_frame_time(columns, outputs):
    # Given the readout of a square frame
    readout = readout_of(configuration(columns, columns, noutputs=outputs))
    # Then its lines, and one more (two with one output), take the simulator's and the archive's TFRAME
    lines = columns + (1 if outputs > 1 else 2)
    seconds = readout.line * lines * PIXEL_SECONDS
    assert seconds == pytest.approx(frame_time(columns, columns, outputs), abs=1.1 * PIXEL_SECONDS)
    if columns == 2048:
        assert seconds == pytest.approx(10.73677, abs=1.1 * PIXEL_SECONDS)
    if columns == 640:
        assert seconds == pytest.approx(4.18584, abs=1e-9)


@pytest.mark.parametrize("detector", ["NRCA1", "NRCA2", "NRCALONG", "NRCBLONG"])
@pytest.mark.parametrize("outputs", [1, 4])
def test_streams_are_those_the_simulator_read(detector, outputs):
    # Given a frame of the simulator without white noise, whose outputs share all of their 1/f noise
    key = configuration(16, 64, detector=detector, noutputs=outputs)
    [frame] = drawn(key, 1, seed=3, white=0.0, each=0.0)
    # When it is put back into the order of time
    readout = readout_of(key)
    streams = np.array([readout.stream(frame, n) for n in range(outputs)])
    # Then all outputs are the same at the same time, and neighbours in time are alike
    np.testing.assert_allclose(streams, np.broadcast_to(streams[:1], streams.shape), atol=1e-5)
    lines = streams[0].reshape(16, -1)[:, : 64 // outputs]
    across_lines = lines[1:, 0] - lines[:-1, -1]
    assert across_lines.std() < 0.5 * (lines[1:, 0] - lines[:-1, 0][::-1]).std() + lines.std()


def test_spectrum_without_gaps_is_the_periodogram():
    # Given streams with no gap: a line whose overhead is filled
    key = configuration(20, 40)
    maker = SpectrumMaker(readout_of(key))
    count = maker._lags
    values = np.random.default_rng(1).normal(size=count)
    covariance = np.correlate(values, values, "full")[count - 1 :] / (count - np.arange(count))
    # Then the spectrum of its covariance is scipy's periodogram, bin by bin
    result = maker._binned(maker._transformed(covariance))
    _, power = signal.periodogram(values, 1 / PIXEL_SECONDS, detrend=False)
    power = power[: count // 2]
    wanted = [power[a:b].mean() for a, b in zip(maker._edges[:-1], maker._edges[1:], strict=True)]
    np.testing.assert_allclose(result, wanted, rtol=1e-6)


def test_gaps_do_not_change_the_covariance_of_what_is_there():
    # Given a plane with a fifth of its pixels missing
    key = configuration(12, 30)
    readout = readout_of(key)
    maker = SpectrumMaker(readout)
    rng = np.random.default_rng(2)
    plane = rng.normal(size=(12, 30)).astype(np.float32)
    known = rng.random((12, 30)) > 0.2
    # When its covariance is taken lag by lag
    x, m = readout.stream(np.where(known, plane, 0), 0), readout.stream(known, 0)
    lags = range(maker._lags)
    wanted = [np.sum(x[: x.size - n] * x[n:]) / max(np.sum(m[: m.size - n] & m[n:]), 1) for n in lags]
    # Then it is what the spectrum comes from
    np.testing.assert_allclose(
        maker.spectra(plane, known).auto[0], maker._binned(maker._transformed(np.array(wanted))), rtol=2e-4
    )


def test_cross_spectrum_is_the_mean_over_every_two_outputs():
    key = configuration(8, 64, noutputs=4)
    maker = SpectrumMaker(readout_of(key))
    plane = np.random.default_rng(4).normal(size=(8, 64)).astype(np.float32)
    known = np.ones(plane.shape, bool)
    streams = [maker.readout.stream(plane, n).astype(float) for n in range(4)]
    there = maker.readout.stream(known, 0).astype(float)

    def covariance(a, b):
        both = np.correlate(a, b, "full")
        return (both + both[::-1])[a.size - 1 :][: maker._lags] / 2

    pairs = [(a, b) for a in range(4) for b in range(a)]
    products = np.mean([covariance(streams[a], streams[b]) for a, b in pairs], axis=0)
    counts = covariance(there, there)
    wanted = np.where(counts > 0.5, products / np.maximum(counts, 0.5), 0)
    np.testing.assert_allclose(
        maker.spectra(plane, known).cross,
        maker._binned(maker._transformed(wanted)),
        rtol=1e-3,
        atol=1e-3 * 2 * PIXEL_SECONDS,
    )


@pytest.mark.parametrize(
    ("key", "hit"),
    [
        (configuration(64, 1024, noutputs=4), 0.0),
        (configuration(64, 1024, detector="NRCA2", noutputs=4), 0.1),
    ],
)
def test_shared_and_own_parts_come_back_as_drawn(key, hit):
    measurement = measured(key, drawn(key, 60, seed=11), hit)
    assert measurement.frames == 30
    for power, truth in [(measurement.correlated, COMMON), (measurement.uncorrelated_mean, EACH)]:
        assert abs(power.value - truth) < 3 * power.error
        assert power.error < 0.15 * truth
    for white in measurement.white:
        assert abs(white.value - WHITE**2) < 3.5 * white.error
        assert white.error < 0.01 * WHITE**2
    assert len(measurement.uncorrelated) == 4


def test_one_output_has_no_shared_part_and_all_of_the_noise():
    key = configuration(64, 64, detector="NRCA1")
    measurement = measured(key, drawn(key, 120, seed=5), 0.05)
    assert measurement.correlated is None
    assert measurement.cross is None
    power = measurement.uncorrelated_mean
    assert abs(power.value - COMMON - EACH) < 3 * power.error
    # And within a frame it has the variance of what was drawn without white noise, about its mean
    pink = drawn(key, 400, seed=6, white=0.0)
    variance = np.mean(pink.var(axis=(1, 2)))
    # (whose lowest frequency is a tenth below one period a frame)
    within, _ = SpectrumMaker(readout_of(key)).within_frame(1.0)
    assert within * (COMMON + EACH) == pytest.approx(variance, rel=0.06)


def test_variance_within_a_frame_lies_between_what_slower_noise_may_make_of_it():
    # Given 1/f noise of power 1 in 512 samples, down to a period in a thousand frames
    samples, frames = 512, 1024
    rng = np.random.default_rng(12)
    k = np.arange(1, samples * frames // 2)
    slow = np.zeros(samples * frames // 2 + 1, complex)
    slow[1:-1] = rng.standard_normal((2, k.size)).T.copy().view(complex)[:, 0] / np.sqrt(k) / 2
    stream = fft.irfft(slow, samples * frames, norm="forward").reshape(frames, samples)
    # And the same without what is slower than a period a frame
    fast = 1 / np.arange(1, samples // 2)
    # When its variance within a frame is held against the closed form
    maker = SpectrumMaker(readout_of(configuration(8, 64 - LINE_OVERHEAD)))
    assert maker.readout.samples == samples
    # Then they are the upper and the lower limit
    middle, unknown = maker.within_frame(1.0)
    upper, lower = middle + unknown, middle - unknown
    in_closed_form = math.log(256) + np.euler_gamma
    assert lower == pytest.approx(in_closed_form, abs=2e-3)
    assert upper == pytest.approx(in_closed_form + math.log(2 * math.pi) - 1.5, abs=2e-3)
    assert lower == pytest.approx(fast.sum(), abs=0.01)
    assert upper == pytest.approx(stream.var(axis=1).mean(), rel=0.03)


def test_rms_is_that_of_the_band_from_a_period_a_frame_to_half_the_clock():
    # Given power 1 an e-fold
    maker = SpectrumMaker(readout_of(configuration(32, 64)))
    # Then its variance is the integral of 1/f over the band
    lowest, highest = 1 / (maker.readout.samples * PIXEL_SECONDS), 0.5 / PIXEL_SECONDS
    assert maker.e_folds == pytest.approx(math.log(highest / lowest))


def test_errors_are_those_of_the_scatter_between_sets():
    # Given forty sets of small frames
    key = configuration(32, 256, noutputs=4)
    off = []
    for seed in range(40):
        measurement = measured(key, drawn(key, 24, seed=100 + seed))
        pulls = [
            (measurement.correlated, COMMON),
            (measurement.uncorrelated_mean, EACH),
            (measurement.white[1], WHITE**2),
        ]
        off.append([(figure.value - truth) / figure.error for figure, truth in pulls])
    # Then as many figures lie within one and three errors as should
    size = np.abs(off)
    assert np.mean(size < 1) > 0.58
    assert np.mean(size < 3) > 0.96
    assert np.all(np.abs(np.mean(off, axis=0)) < 0.6)


def test_white_noise_has_no_one_over_f_part_and_an_rms_of_nothing_is_zero():
    key = configuration(32, 64)
    rng = np.random.default_rng(8)
    measurement = measured(key, rng.normal(0, 5, (40, 32, 64)).astype(np.float32))
    assert abs(measurement.uncorrelated_mean.value) < 3 * measurement.uncorrelated_mean.error
    assert measurement.rms(Value(-1.0, 0.5)).value == 0


def test_hot_pixels_and_an_empty_amplifier_take_no_part():
    # Given white noise, and hot pixels that rise by the same in every pair
    key = configuration(32, 128, noutputs=4)
    rng = np.random.default_rng(9)
    frames = rng.normal(0, 5, (24, 32, 128)).astype(np.float32)
    hot = rng.random((32, 128)) < 0.01
    plain = measured(key, frames)
    with_hot = measured(key, frames + hot * 500.0 * np.arange(24, dtype=np.float32)[:, None, None])
    for one, other in zip(plain.white, with_hot.white, strict=True):
        assert other.value == pytest.approx(one.value, rel=0.02)
    # And a set of which an amplifier is all masked has no spectrum
    mask = np.zeros((32, 128), np.uint32)
    mask[:, :32] = 1
    pixels = exposure_pixels(key, mask, "x")
    pairs = SpectrumPairs(readout_of(key), 1)
    alive = np.ones((32, 128), bool)
    for group in range(2):
        pairs.add(Plane(0, group, frames[group], np.uint8(~alive), ~alive, alive), pixels)
    assert pairs.fit() is None


@given(scale=st.floats(0.1, 30), frames=st.integers(1, 5))
def test_powers_go_with_the_square_of_the_unit(scale, frames):
    key = configuration(16, 64, noutputs=4)
    maker = SpectrumMaker(readout_of(key))
    rng = np.random.default_rng(3)
    made = [
        maker.spectra(rng.normal(size=(16, 64)).astype(np.float32), np.ones((16, 64), bool))
        for _ in range(frames)
    ]
    scaled = [
        FrameSpectra(each.auto * scale**2, each.cross * scale**2, each.alternating * scale**2)
        for each in made
    ]
    first, second = fit_one_over_f(maker, made), fit_one_over_f(maker, scaled)
    assert second.uncorrelated_mean.value == pytest.approx(first.uncorrelated_mean.value * scale**2, rel=1e-6)
    assert second.uncorrelated_mean.error == pytest.approx(first.uncorrelated_mean.error * scale**2, rel=1e-6)
    assert second.white[0].value == pytest.approx(first.white[0].value * scale**2, rel=1e-6)


def test_pairs_are_chosen_evenly_over_the_set(monkeypatch):
    monkeypatch.setattr("services.noise.read_noise.one_over_f._SAMPLES", 0)
    key = configuration(8, 8)
    pixels = exposure_pixels(key, np.zeros((8, 8), np.uint32), "x")
    pairs = SpectrumPairs(readout_of(key), 50)
    taken = []
    monkeypatch.setattr(pairs._maker, "spectra", lambda *_: taken.append(pairs._pair - 1))
    alive = np.ones((8, 8), bool)
    frame = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    for pair in range(50):
        for group in (2 * pair, 2 * pair + 1):
            pairs.add(Plane(0, group, frame * group, np.uint8(~alive), ~alive, alive), pixels)
    assert len(taken) == 12
    assert set(np.diff(taken)) <= {4, 5}


def power_law_stream(samples, exponent, rms, period, rng):
    """One long stretch of 1/f^exponent noise; `rms` is that above one period per `period` samples."""
    length = 2 ** math.ceil(math.log2(samples))
    frequencies = np.arange(length // 2 + 1) / length
    low, high = 1 / period, 0.5
    if exponent == 1:
        band = math.log(high / low)
    else:
        band = (high ** (1 - exponent) - low ** (1 - exponent)) / (1 - exponent)
    amplitude = np.zeros(frequencies.size)
    amplitude[1:] = np.sqrt(frequencies[1:] ** -exponent / band / length) / 2
    spectrum = amplitude * rng.standard_normal((2, frequencies.size)).T.copy().view(complex)[:, 0]
    return rms * fft.irfft(spectrum, length, norm="forward")[:samples]


def continuous(key, count, exponent, shared, own, white, seed):
    """Frames of one stretch of noise that goes on between them, as other authors draw it."""
    rng = np.random.default_rng(seed)
    readout = readout_of(key)
    duration = readout.samples + readout.line
    common = power_law_stream(count * duration, exponent, shared, readout.samples, rng)
    frames = rng.normal(0, white, (count, key.subsize2, key.subsize1)).astype(np.float32)
    for columns, forward in zip(readout.outputs, readout.forward, strict=True):
        stream = common + power_law_stream(count * duration, exponent, own, readout.samples, rng)
        lines = stream.reshape(count, duration)[:, : readout.samples].reshape(count, readout.rows, -1)
        lines = lines[:, :: 1 if readout.upward else -1, : columns.stop - columns.start]
        frames[:, :, columns] += lines[:, :, :: 1 if forward else -1]
    return frames


@pytest.mark.parametrize("exponent", [0.8, 1.0, 1.2])
def test_exponent_and_rms_come_back_whatever_the_exponent(exponent):
    # Given noise of 3 e- that outputs share, and 1.5 e- of their own, with another exponent than 1
    key = configuration(128, 512, noutputs=4)
    pulls = []
    for seed in range(3):
        measurement = measured(key, continuous(key, 40, exponent, 3.0, 1.5, 9.0, seed))
        shared = measurement.rms(measurement.correlated)
        own = measurement.rms(measurement.uncorrelated_mean)
        # Then a set says so, to a few per cent
        assert shared.error < 0.1
        assert own.error < 0.15
        assert measurement.correlated_exponent.error < 0.04
        figures = [
            (shared, 3.0),
            (own, 1.5),
            (measurement.white[0], 81.0),
            (measurement.correlated_exponent, exponent),
            (measurement.uncorrelated_exponent, exponent),
        ]
        pulls += [(figure.value - truth) / figure.error for figure, truth in figures]
        # And the spectra scatter about the fit as their noise makes them
        assert 0.5 < measurement.chi2 < 2
        assert 0.5 < measurement.correlated_chi2 < 2.5
    assert max(np.abs(pulls)) < 3.5
    assert np.mean(np.abs(pulls)) < 1.5


def test_chi_square_widens_errors_where_the_spectrum_is_something_else():
    # Given spectra, and the same with a wiggle that is no power law
    key = configuration(64, 512, noutputs=4)
    maker = SpectrumMaker(readout_of(key))
    rng = np.random.default_rng(2)
    known = np.ones((64, 512), bool)
    frames = [maker.spectra(rng.normal(0, 9, (64, 512)).astype(np.float32), known) for _ in range(12)]
    wiggle = 1 + 0.3 * np.sin(np.arange(maker.first.size))
    odd = [FrameSpectra(each.auto * wiggle, each.cross * wiggle, each.alternating) for each in frames]
    plain, wiggled = fit_one_over_f(maker, frames), fit_one_over_f(maker, odd)
    assert plain.chi2 < 2 < wiggled.chi2
    assert wiggled.white[0].error > 2 * plain.white[0].error


def test_exponent_that_cannot_be_measured_is_the_usual_one():
    # Given white noise alone
    key = configuration(32, 64)
    rng = np.random.default_rng(8)
    measurement = measured(key, rng.normal(0, 5, (40, 32, 64)).astype(np.float32))
    # Then its exponent is unknown, and that adds nothing to the error of a power near 0
    assert abs(measurement.uncorrelated_exponent.value - 1) < 0.75
    assert measurement.uncorrelated_exponent.error > 0.2


@pytest.mark.parametrize("kind", ["none", "frame", "row", "pixel", "column"])
def test_column_noise_is_measured_and_stays_out_of_the_one_over_f_figures(kind):
    # Given 1.5 e- by which columns alternate (the same for a frame, a row, or as 1/f noise), or differ
    key = configuration(128, 512, noutputs=4)
    count, rms = 40, 1.5
    frames = continuous(key, count, 1.0, 3.0, 1.5, 9.0, seed=5)
    rng = np.random.default_rng(6)
    sign = (-1.0) ** np.arange(512)
    match kind:
        case "frame":
            added = rng.normal(0, rms, (count, 1, 4)).repeat(128, axis=2) * sign
        case "row":
            added = rng.normal(0, rms, (count, 128, 4)).repeat(128, axis=2) * sign
        case "pixel":
            added = continuous(key, count, 1.0, 0.0, rms, 0.0, seed=7) * sign
        case "column":
            added = rng.normal(0, rms, (count, 1, 512))
        case _:
            added = np.zeros((count, 1, 1))
    measurement = measured(key, frames + added.astype(np.float32))
    # Then it is found beside 1/f noise, which is what it was without it
    differences = added[1::2] - added[::2]
    expected = float(np.mean(np.var(differences, axis=(1, 2)))) / 2
    columns = measurement.column_noise
    assert abs(columns.value - expected) < 3 * columns.error
    assert columns.error < 0.5
    if kind != "none":
        assert columns.value > 3 * columns.error
    for power, truth in [(measurement.correlated, 3.0), (measurement.uncorrelated_mean, 1.5)]:
        figure = measurement.rms(power)
        assert abs(figure.value - truth) < 3 * figure.error


@pytest.mark.parametrize(
    ("shared_exponent", "own_exponent", "column_noise"), [(1.2, 0.8, 0.0), (0.8, 1.2, 0.0), (1.0, 1.0, 2.0)]
)
def test_noise_of_the_independent_generator_comes_back(shared_exponent, own_exponent, column_noise):
    # Given three ramps of the generator that knows nothing of the simulator
    scene = Scene(
        rows=128,
        columns=512,
        outputs=4,
        ngroups=16,
        shared_pink=3.0,
        own_pink=2.0,
        shared_exponent=shared_exponent,
        own_exponent=own_exponent,
        column_noise=column_noise,
    )
    rng = np.random.default_rng(12)
    frames = np.concatenate([output_noise(scene, rng) for _ in range(3)])
    frames += rng.normal(0, 9.0, frames.shape).astype(np.float32)
    key = configuration(128, 512, detector="NRCA2" if scene.fast_towards_plus_x else "NRCA1", noutputs=4)
    measurement = measured(key, frames)
    # Then what outputs share, and what each has of its own, have their rms and exponents
    shared = measurement.rms(measurement.correlated)
    own = measurement.rms(measurement.uncorrelated_mean)
    assert abs(shared.value - 3.0) < 3.5 * shared.error
    # Odd and even columns have noise of their own there: half of its variance alternates, the other half is
    # common to all columns of an output, and 1/f noise like any other
    assert abs(own.value - math.hypot(2.0, column_noise / math.sqrt(2))) < 3.5 * own.error
    assert (
        abs(measurement.correlated_exponent.value - shared_exponent)
        < 3.5 * measurement.correlated_exponent.error
    )
    if not column_noise:
        exponent = measurement.uncorrelated_exponent
        assert abs(exponent.value - own_exponent) < 3.5 * exponent.error
    columns = measurement.column_noise
    assert abs(columns.value - column_noise**2 / 2) < 3.5 * columns.error


def test_one_frame_does_not_show_how_columns_vary():
    key = configuration(32, 128, noutputs=4)
    assert measured(key, drawn(key, 2, seed=1)).column_noise is None
    assert measured(key, drawn(key, 4, seed=1)).column_noise is not None


def test_overhead_is_in_the_line():
    assert readout_of(configuration(2048, 2048)).line == 512 + LINE_OVERHEAD
    assert fft.prev_fast_len(2048 * 524, real=True) > 0.98 * 2048 * 524
