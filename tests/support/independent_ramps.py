"""The independent generator of raw dark ramps: it reads a `support.independent_detector` out.

In the order of nature: the reset leaves kTC noise; charge arrives (dark current, settling, telegraph noise,
cosmic rays, persistence) and couples to neighbours by IPC; the response bends; the output adds white noise,
1/f noise and alternating column noise; frames are averaged; the converter rounds to whole DN. An exposure
depends on the scene, its seed and the exposure's own number alone.

Simplifications, none of which a dark reference should depend on: 1/f noise runs on through the frames that
are kept, as if the clocks between them (dropped frames, the rest of a frame of which a cut-out is read) did
not exist; a hit arrives as a whole between two reads; the circle of a snowball has a sharp edge.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from support.independent_detector import IndependentDetector, Scene

#: Pixel times between two lines of an output.
LINE_OVERHEAD = 12
PIXEL_CM2 = 18e-4**2
#: Thickness of the HgCdTe, and radius of the cloud that diffuses, um.
_DEPTH_UM, _DIFFUSION_UM, _PITCH_UM = 5.0, 4.0, 18.0
#: Moyal's approximation of the Landau distribution of ionisation: e- per um of path.
_MOST_PROBABLE, _LANDAU_WIDTH = 350.0, 60.0
_TRACK_STEPS = 12


@dataclass(frozen=True)
class Hits:
    """Cosmic rays of an exposure, one row a hit.

    Attributes
    ----------
    integration, group : ndarray of int
        First group that has the charge.
    y, x : ndarray of int
        Where it enters.
    charge : ndarray
        e-, all pixels together.
    """

    integration: NDArray[np.int64]
    group: NDArray[np.int64]
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    charge: NDArray[np.float64]


@dataclass(frozen=True)
class RampTruth:
    """What was planted in one exposure.

    Attributes
    ----------
    hits : Hits
    deposits : ndarray of float32, 4-D (integrations, groups, rows, columns)
        Charge of cosmic rays that arrived since the group before, after IPC, e-.
    telegraph : ndarray of float32, 4-D
        Level of telegraph noise of each group, e-.
    bistable_rate : ndarray of float32, 3-D (integrations, rows, columns)
        What bistable pixels add to the dark current, before IPC, e-/s.
    white : ndarray
        White noise of a read, e-.
    pink_cds_variance : float
        CDS variance of all 1/f and column noise together, e-^2.
    """

    hits: Hits
    deposits: NDArray[np.float32]
    telegraph: NDArray[np.float32]
    bistable_rate: NDArray[np.float32]
    white: NDArray[np.float64]
    pink_cds_variance: float


@dataclass(frozen=True)
class IndependentExposure:
    """A raw exposure.

    Attributes
    ----------
    raw : ndarray of uint16, 4-D (integrations, groups, rows, columns)
        DN.
    believed_noise : float
        READNOISE over the true noise, for those who calibrate with a wrong reference.
    """

    detector: IndependentDetector
    number: int
    raw: NDArray[np.uint16]
    truth: RampTruth
    believed_noise: float = 1.0


def expose_set(scene: Scene) -> list[IndependentExposure]:
    """Take all exposures of a scene."""
    detector = IndependentDetector(scene)
    return [expose_independent(detector, number) for number in range(scene.exposures)]


def expose_independent(detector: IndependentDetector, number: int) -> IndependentExposure:
    """Take one exposure; `number` counts from 0 within the scene's set."""
    scene = detector.scene
    rng = np.random.default_rng([scene.seed, 2, number])
    shape = (scene.nints, scene.ngroups, *scene.shape)
    deposits, telegraph = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    bistable = np.zeros((scene.nints, *scene.shape), np.float32)
    raw = np.empty(shape, np.uint16)
    white, variance = _noise_budget(detector)
    hits, by_read = _cosmic_rays(scene, rng)
    level = scene.level + scene.level_scatter * rng.standard_normal(scene.nints)
    state = rng.random(int(detector.telegraph.sum())) < 0.5
    frames = (scene.ngroups, scene.frames[0], *scene.shape)
    sigma, gain = white.astype(np.float32), detector.gain.astype(np.float32)
    ktc = scene.own.ktc if scene.ktc is None else scene.ktc
    for integration in range(scene.nints):
        bistable[integration][detector.bistable] = (
            detector.hot_in[number * scene.nints + integration] * scene.bistable_rate
        )
        steps, state = _telegraph_levels(detector, state, rng)
        arriving = _dark_charge(detector, number, bistable[integration], rng)
        _add_levels(detector, arriving, steps)
        struck = _shared_deposits(detector, *by_read[integration])
        signal = detector.neighbours_share(arriving) + struck
        np.cumsum(signal, axis=0, out=signal)
        signal /= gain
        if detector.bend:
            signal -= np.float32(detector.bend) * signal**2
        np.minimum(signal, np.float32(scene.saturation), out=signal)
        noise = rng.standard_normal(signal.shape, dtype=np.float32) * sigma
        noise += output_noise(scene, rng)
        signal += noise / np.float32(scene.own.gain)
        amplifier = scene.amplifier_scatter * rng.standard_normal(scene.outputs)[detector.output]
        reset = detector.superbias + level[integration] + amplifier + ktc * rng.standard_normal(scene.shape)
        signal += reset.astype(np.float32)
        groups = signal.reshape(frames).mean(axis=1) if scene.frames[0] > 1 else signal
        raw[integration] = np.clip(np.rint(groups), 0, 65535)
        deposits[integration] = struck.reshape(frames).sum(axis=1)
        mean_steps = steps.reshape(scene.ngroups, scene.frames[0], steps.shape[1]).mean(axis=1)
        telegraph[integration][:, detector.telegraph] = mean_steps
    truth = RampTruth(hits, deposits, telegraph, bistable, white, variance)
    return IndependentExposure(detector, number, raw, truth)


@lru_cache(maxsize=8)
def pink_variances(length: int, frame: int, exponent: float, rms: float) -> NDArray[np.float64]:
    """Return the variance of each frequency of 1/f noise, e-^2.

    Parameters
    ----------
    length : int
        Samples of the series.
    frame : int
        Samples of a frame: the frequencies from one cycle a frame on add up to `rms` squared, so that the
        noise of a frame does not depend on the length of the exposure.
    exponent, rms : float

    Returns
    -------
    ndarray, 1-D
        At 0, 1, ... cycles in `length` samples, as of `numpy.fft.rfft`; 0 at frequency 0.
    """
    cycles = np.arange(length // 2 + 1)
    power = np.zeros(cycles.size)
    power[1:] = cycles[1:] ** -float(exponent)
    within = power[cycles * frame >= length].sum()
    return power * (rms**2 / within)


def cds_variance(variances: NDArray[np.float64], length: int, lag: int) -> float:
    """Return the variance of the difference of two samples `lag` apart, e-^2."""
    angle = 2 * np.pi * np.arange(variances.size) * lag / length
    return float((2 * variances * (1 - np.cos(angle))).sum())


def pink_series(variances: NDArray[np.float64], length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a series with these variances of its frequencies, 1-D float32, e-."""
    amplitude = (length / 2 * np.sqrt(variances)).astype(np.float32)
    drawn = rng.standard_normal(2 * amplitude.size, dtype=np.float32).view(np.complex64) * amplitude
    drawn[0] = 0
    return np.fft.irfft(drawn, length).astype(np.float32, copy=False)


def output_noise(scene: Scene, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw 1/f and column noise of one integration: 3-D (reads, rows, columns), e-.

    The first of four outputs reads towards higher columns, its neighbours the other way; a single output as
    FASTAXIS says.
    """
    reads, (rows, columns), width, line = _clocking(scene)
    frame, length = rows * line, reads * rows * line
    result = np.zeros((reads, rows, columns), np.float32)
    series = []
    alone = scene.outputs == 1
    shared, own, exponents = scene.shared_pink, scene.own_pink, (scene.shared_exponent, scene.own_exponent)
    if alone and exponents[0] == exponents[1]:
        # A single output cannot tell them apart: one series has the noise of both
        shared, own = float(np.hypot(shared, own)), 0.0
    if shared:
        variances = pink_variances(length, frame, exponents[0], shared)
        series.append((range(scene.outputs), pink_series(variances, length, rng)))
    for output in range(scene.outputs):
        if own:
            variances = pink_variances(length, frame, exponents[1], own)
            series.append((range(output, output + 1), pink_series(variances, length, rng)))
        if scene.column_noise:
            half = pink_variances(length // 2, frame // 2, 1.0, scene.column_noise)
            drawn = np.stack([pink_series(half, length // 2, rng) for _ in range(2)], axis=1)
            series.append((range(output, output + 1), drawn.ravel()))
    for outputs, values in series:
        lines = values.reshape(reads, rows, line)[..., :width]
        for output in outputs:
            forward = scene.fast_towards_plus_x if alone else output % 2 == 0
            columns_of = slice(output * width, (output + 1) * width)
            result[..., columns_of] += lines if forward else lines[..., ::-1]
    # FASTAXIS +1 goes with SLOWAXIS -2: such detectors are read from the top row down
    return result[:, ::-1] if scene.fast_towards_plus_x else result


def _clocking(scene: Scene) -> tuple[int, tuple[int, int], int, int]:
    width = scene.columns // scene.outputs
    line = width + LINE_OVERHEAD
    # An even number of samples a line lets odd and even columns alternate alike in all lines
    return scene.read_times.size, scene.shape, width, line + line % 2


def _noise_budget(detector: IndependentDetector) -> tuple[NDArray[np.float64], float]:
    """Return the white noise of a read (e-), and the CDS variance of what else the output adds (e-^2)."""
    scene = detector.scene
    reads, (rows, _), _, line = _clocking(scene)
    frame, length = rows * line, reads * rows * line
    variance = 0.0
    if reads > 1:
        for rms, exponent in (
            (scene.shared_pink, scene.shared_exponent),
            (scene.own_pink, scene.own_exponent),
        ):
            if rms:
                variance += cds_variance(pink_variances(length, frame, exponent, rms), length, frame)
        if scene.column_noise:
            half = pink_variances(length // 2, frame // 2, 1.0, scene.column_noise)
            variance += cds_variance(half, length // 2, frame // 2)
    return detector.white(variance), variance


def _dark_charge(
    detector: IndependentDetector, number: int, bistable: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw the electrons of dark current and persistence that arrive between reads; 3-D, before IPC."""
    scene = detector.scene
    times = scene.read_times.ravel()
    passed = np.diff(times, prepend=0.0)[:, None, None]
    expected = (detector.rate + bistable) * passed
    if scene.persistence and number == 0:
        rows = np.random.default_rng([scene.seed, 3]).random(scene.shape) < scene.persistence
        left = scene.persistence_charge * np.exp(-np.append(0.0, times) / scene.persistence_time)
        expected = expected + (rows & detector.light) * -np.diff(left)[:, None, None]
    return rng.poisson(expected).astype(np.float32)


def _add_levels(
    detector: IndependentDetector, arriving: NDArray[np.float32], steps: NDArray[np.float32]
) -> None:
    """Add what is a level to the charge that arrives: settling, fast RC pixels, telegraph noise."""
    times = detector.scene.read_times.ravel()
    rising = np.ones_like(detector.light) if detector.scene.settling else detector.fast_rc
    levels = detector.steady_transients(times[:, None], rising).astype(np.float32)
    arriving[:, rising] += np.diff(levels, axis=0, prepend=np.float32(0))
    arriving[:, detector.telegraph] += np.diff(steps, axis=0, prepend=np.float32(0))


def _shared_deposits(
    detector: IndependentDetector, index: NDArray[np.int64], charge: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the charge of cosmic rays between reads, after IPC: 3-D (reads, rows, columns), e-."""
    scene = detector.scene
    rows, columns = scene.shape
    result = np.zeros((scene.read_times.size, rows, columns), np.float32)
    caught = detector.light.ravel()[index % (rows * columns)]
    read, y, x = np.unravel_index(index[caught], result.shape)
    for (dy, dx), part in np.ndenumerate(detector.kernel):
        if part:
            there = (y + dy - 1 >= 0) & (y + dy - 1 < rows) & (x + dx - 1 >= 0) & (x + dx - 1 < columns)
            at = (read[there], (y + dy - 1)[there], (x + dx - 1)[there])
            np.add.at(result, at, np.float32(part) * charge[caught][there])
    result *= detector.light
    return result


def _telegraph_levels(
    detector: IndependentDetector, state: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the level of each telegraph pixel at every read, 2-D (reads, pixels), e-, and the last state.

    A process of two states with the same mean dwell: it has changed after t with probability
    (1 - exp(-2 t / dwell)) / 2.
    """
    scene = detector.scene
    passed = np.diff(scene.read_times.ravel(), prepend=0.0)
    change = (1 - np.exp(-2 * passed / scene.telegraph_dwell)) / 2
    flips = rng.random((passed.size, state.size)) < change[:, None]
    states = state ^ (np.cumsum(flips, axis=0) % 2 == 1)
    levels = states * detector.step[detector.telegraph]
    return levels.astype(np.float32), states[-1] if passed.size else state


def _cosmic_rays(
    scene: Scene, rng: np.random.Generator
) -> tuple[Hits, list[tuple[NDArray[np.int64], NDArray[np.float32]]]]:
    """Draw the hits, and for each integration (flat index into (reads, rows, columns), charge in e-).

    Isotropic tracks through a layer: the cosine of incidence is the root of a uniform number, the charge is
    the path times a Moyal variate, spread along the track and by diffusion.
    """
    times = scene.read_times.ravel()
    rows, columns = scene.shape
    count = rng.poisson(scene.hits * PIXEL_CM2 * rows * columns * times[-1] * scene.nints)
    integration = rng.integers(0, scene.nints, count)
    read = np.searchsorted(times, rng.uniform(0, times[-1], count))
    y, x = rng.uniform(0, rows, count), rng.uniform(0, columns, count)
    cosine = np.sqrt(rng.uniform(2e-3, 1, count))
    path = _DEPTH_UM / cosine
    charge = path * np.maximum(
        _MOST_PROBABLE - 2 * _LANDAU_WIDTH * np.log(np.abs(rng.standard_normal(count))), 50
    )
    along = np.sqrt(path**2 - _DEPTH_UM**2) / _PITCH_UM
    azimuth = rng.uniform(0, 2 * np.pi, count)
    where = (np.arange(_TRACK_STEPS) + 0.5) / _TRACK_STEPS
    blur = rng.normal(0, _DIFFUSION_UM / _PITCH_UM, (2, count, _TRACK_STEPS))
    ys = np.floor(y[:, None] + where * (along * np.sin(azimuth))[:, None] + blur[0]).astype(np.int64)
    xs = np.floor(x[:, None] + where * (along * np.cos(azimuth))[:, None] + blur[1]).astype(np.int64)
    inside = (ys >= 0) & (ys < rows) & (xs >= 0) & (xs < columns)
    parts = np.broadcast_to(np.rint(charge / _TRACK_STEPS)[:, None], ys.shape)
    result = []
    for each in range(scene.nints):
        mine = inside & (integration == each)[:, None]
        reads = np.broadcast_to(read[:, None], ys.shape)[mine]
        index = (reads * rows + ys[mine]) * columns + xs[mine]
        balls, ball_charge = _snowballs(scene, times.size, rng)
        result.append(
            (
                np.concatenate([index, balls]),
                np.concatenate([parts[mine], ball_charge]).astype(np.float32),
            )
        )
    group = read // scene.read_times.shape[1]
    hits = Hits(integration, group, y.astype(np.int64), x.astype(np.int64), charge)
    return hits, result


def _snowballs(
    scene: Scene, reads: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw the snowballs of an integration: a core that saturates, and a halo that falls off outwards."""
    rows, columns = scene.shape
    index, charge = [np.empty(0, np.int64)], [np.empty(0)]
    for _ in range(rng.poisson(scene.snowballs / scene.nints)):
        read, radius = rng.integers(1, reads), rng.uniform(3, 8)
        y, x = np.mgrid[:rows, :columns]
        distance = np.hypot(y - rng.uniform(0, rows), x - rng.uniform(0, columns))
        core, halo = distance < radius, (distance >= radius) & (distance < 2.5 * radius)
        ball = np.where(core, 2 * scene.saturation * scene.own.gain, 0.0)
        ball[halo] = np.rint(2000 * np.exp(-(distance[halo] - radius) / 2))
        (at,) = np.nonzero(ball.ravel())
        index.append(read * rows * columns + at)
        charge.append(ball.ravel()[at])
    return np.concatenate(index), np.concatenate(charge)
