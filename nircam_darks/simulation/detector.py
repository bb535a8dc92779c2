"""The pixels of a simulated detector and their properties, before any exposure."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nircam_darks.simulation.cosmic_rays import COUPLING
from nircam_darks.simulation.noise import expected_white_noise
from shared.nircam.detectors import FULL_FRAME, REFERENCE_BORDER, Detector

#: Fractions of science pixels that are dead, hot, warm, and noisy.
DEAD, HOT, WARM, NOISY = 0.0004, 0.0010, 0.0050, 0.0005
#: Dark rate of hot pixels (e-/s), and of warm pixels in units of the bulk; log-uniform in these ranges.
HOT_RATE = (0.5, 50.0)
WARM_FACTOR = (3.0, 20.0)
#: Relative pixel-to-pixel scatter of the bulk dark rate and of the read noise.
RATE_SCATTER, NOISE_SCATTER = 0.20, 0.03
#: Read noise of reference pixels relative to that of science pixels.
#: Source: Rauscher 2015 (PASP 127, 1144), nghxrg.
REFERENCE_NOISE = 0.8
#: Bias (DN): level, and scatter between amplifiers, between columns and between pixels.
BIAS, BIAS_AMPLIFIER, BIAS_COLUMN, BIAS_PIXEL = 11000.0, 150.0, 15.0, 120.0
#: Raw level (DN) that the saturation reference names, its scatter, and how far above it the well is full.
SATURATION, SATURATION_SCATTER, WELL_MARGIN = 58000.0, 800.0, 1000.0
#: Coefficient c (1/DN) of true = measured + c measured^2: 4 % at 40000 DN.
NONLINEARITY, NONLINEARITY_SCATTER = 1.0e-6, 0.05


@dataclass(frozen=True)
class SimulatedPixels:
    """A window of a detector. All maps are 2D (rows, columns).

    Attributes
    ----------
    science : ndarray of bool
        False on reference pixels.
    rate : ndarray of float32
        Dark rate, e-/s; 0 where nothing is collected.
    dead, hot, warm : ndarray of bool
    white_noise : ndarray of float32
        Read noise of one frame without its 1/f part, e-.
    superbias : ndarray of float32
        DN.
    nonlinearity : ndarray of float32
        1/DN; 0 on reference pixels.
    saturation : ndarray of float32
        Raw DN at which the reference calls the pixel saturated.
    gain : float
        e-/DN, one for the detector as CRDS has it.
    ktc : float
        Reset noise, e-.
    bulk_rate : float
        Median dark rate of the pixels that are neither dead, warm nor hot, e-/s, as drawn.
    """

    science: NDArray[np.bool_]
    rate: NDArray[np.float32]
    dead: NDArray[np.bool_]
    hot: NDArray[np.bool_]
    warm: NDArray[np.bool_]
    white_noise: NDArray[np.float32]
    superbias: NDArray[np.float32]
    nonlinearity: NDArray[np.float32]
    saturation: NDArray[np.float32]
    gain: float
    ktc: float
    bulk_rate: float


def draw_pixels(
    detector: Detector,
    rows: slice,
    columns: slice,
    seed: int,
    dead_map: NDArray[np.bool_] | None = None,
    noise_map: NDArray[np.float32] | None = None,
) -> SimulatedPixels:
    """Draw a window of a detector; windows of one detector and seed agree where they overlap.

    The bulk dark rate is NRC-09's expected value for the channel.

    Parameters
    ----------
    rows, columns : slice
        0-based, with start and stop, on the full frame.
    seed : int
        Of the detector.
    dead_map, noise_map : ndarray, 2D (2048, 2048), optional
        Real dead pixels in place of drawn ones; real read noise, in any unit, of which only the pattern
        (relative to its median) is used.
    """
    name = zlib.crc32(detector.name.encode())
    uniform, normal = _draws(seed, name, rows, columns)
    science = _science(rows, columns)
    whole = np.random.default_rng([seed, name])
    amplifiers = np.repeat(whole.normal(0, BIAS_AMPLIFIER, 4), FULL_FRAME // 4)
    column_bias = whole.normal(0, BIAS_COLUMN, FULL_FRAME) + np.tile(
        whole.normal(0, BIAS_AMPLIFIER, 2), FULL_FRAME // 2
    )

    kind = uniform[0]
    dead = science & ((kind < DEAD) if dead_map is None else dead_map[rows, columns])
    hot = science & ~dead & (kind >= DEAD) & (kind < DEAD + HOT)
    warm = science & ~dead & (kind >= DEAD + HOT) & (kind < DEAD + HOT + WARM)
    expected = detector.expected.dark_current_nrc09.value / 1000
    rate = expected * np.clip(1 + RATE_SCATTER * normal[0], 0.05, None)
    bulk = science & ~dead & ~hot & ~warm
    bulk_rate = float(np.median(rate[bulk]))
    rate = np.where(warm, expected * _log_uniform(WARM_FACTOR, uniform[1]), rate)
    rate = np.where(hot, _log_uniform(HOT_RATE, uniform[1]), rate)
    rate = np.where(science & ~dead, _couple(rate), 0.0)

    noise = np.clip(1 + NOISE_SCATTER * normal[1], 0.5, None)
    noise = np.where(uniform[2] < NOISY, 2 + 2 * uniform[1], noise)
    if noise_map is not None:
        typical = np.median(noise_map[np.isfinite(noise_map) & (noise_map > 0)])
        noise = np.clip(np.nan_to_num(noise_map[rows, columns] / typical, nan=1.0), 0.5, 5.0)
    noise = np.where(science, noise, REFERENCE_NOISE * noise)
    bias = BIAS + amplifiers[columns] + column_bias[columns] + BIAS_PIXEL * normal[2]
    return SimulatedPixels(
        science=science,
        rate=rate.astype(np.float32),
        dead=dead,
        hot=hot,
        warm=warm,
        white_noise=(expected_white_noise(detector) * noise).astype(np.float32),
        superbias=bias.astype(np.float32),
        nonlinearity=np.where(science, NONLINEARITY * (1 + NONLINEARITY_SCATTER * normal[3]), 0.0).astype(
            np.float32
        ),
        saturation=(SATURATION + SATURATION_SCATTER * normal[4]).astype(np.float32),
        gain=detector.gain,
        ktc=detector.ktc_dn * detector.gain,
        bulk_rate=bulk_rate,
    )


def _draws(
    seed: int, name: int, rows: slice, columns: slice
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    # Every row of the detector has its own generator, so that only the rows of a subarray are drawn, and
    # still are those of the full frame.
    height, width = rows.stop - rows.start, columns.stop - columns.start
    uniform = np.empty((3, height, width), np.float32)
    normal = np.empty((5, height, width), np.float32)
    for place, row in enumerate(range(rows.start, rows.stop)):
        rng = np.random.default_rng([seed, name, row])
        uniform[:, place] = rng.random((3, FULL_FRAME), dtype=np.float32)[:, columns]
        normal[:, place] = rng.standard_normal((5, FULL_FRAME), dtype=np.float32)[:, columns]
    return uniform, normal


def _science(rows: slice, columns: slice) -> NDArray[np.bool_]:
    edge = np.arange(FULL_FRAME)
    inside = (edge >= REFERENCE_BORDER) & (edge < FULL_FRAME - REFERENCE_BORDER)
    return inside[rows, None] & inside[None, columns]


def _log_uniform(limits: tuple[float, float], uniform: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.log(limits)
    values: NDArray[np.float32] = np.exp(low + (high - low) * uniform)
    return values


def _couple(rate: NDArray[np.float64]) -> NDArray[np.float64]:
    kernel = np.array([[0, COUPLING, 0], [COUPLING, 1 - 4 * COUPLING, COUPLING], [0, COUPLING, 0]])
    coupled: NDArray[np.float64] = ndimage.convolve(rate, kernel, mode="nearest")
    return coupled
