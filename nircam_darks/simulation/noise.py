"""Read noise of an H2RG: white noise, and 1/f noise along the stream of pixels.

Part of the 1/f noise is common to all outputs, part independent in each. Its power spectrum A / f is drawn
in two bands: within a frame along the time in which pixels are read (line overheads included), and below the
frame rate as one offset per frame. An exposure of any length thus needs the memory of one frame.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from shared.nircam.detectors import FULL_FRAME, Channel, Detector
from shared.nircam.subarrays import LINE_OVERHEAD


@dataclass(frozen=True)
class OneOverFNoise:
    """Power A of the 1/f noise (e-^2 per e-fold of frequency): common to all outputs, and in each output."""

    common: float
    each: float


#: Chosen so that within a full frame the common part has an rms of 2.8 e- (SW) and 2.0 e- (LW), and that of
#: each amplifier half of it, as NIRCam's ground tests show before reference pixel correction.
ONE_OVER_F: dict[Channel, OneOverFNoise] = {"SW": OneOverFNoise(0.59, 0.15), "LW": OneOverFNoise(0.30, 0.075)}


@dataclass(frozen=True)
class Clocking:
    """Readout of a frame: shape (rows, columns), outputs, and the signs of FASTAXIS and SLOWAXIS."""

    rows: int
    columns: int
    noutputs: int
    fastaxis: int
    slowaxis: int

    @property
    def line(self) -> int:
        """Duration of a line in pixel times."""
        return self.columns // self.noutputs + LINE_OVERHEAD

    @property
    def samples(self) -> int:
        """Pixel times drawn for a frame: more than it has, so that its end does not join onto its start."""
        length: int = fft.next_fast_len(int(1.1 * self.rows * self.line), real=True)
        return length


def band_power(samples: int) -> float:
    """Return the variance of `samples` of 1/f noise with A = 1: the sum of 1/k over its frequencies."""
    return float(np.sum(1 / np.arange(1, samples // 2)))


def one_over_f_noise(samples: int, power: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw 1/f noise of zero mean and variance ``power * band_power(samples)``, shape (samples,)."""
    count = samples // 2 + 1
    spectrum = np.zeros(count, np.complex64)
    amplitude = _amplitude(samples, power)
    size = amplitude.size
    drawn = rng.standard_normal((2, size), dtype=np.float32)
    np.multiply(drawn[0], amplitude, out=spectrum[1 : size + 1].real)
    np.multiply(drawn[1], amplitude, out=spectrum[1 : size + 1].imag)
    noise: NDArray[np.float32] = fft.irfft(spectrum, samples, norm="forward", overwrite_x=True)
    return noise


@functools.lru_cache(maxsize=8)
def _amplitude(samples: int, power: float) -> NDArray[np.float32]:
    # Five times a frame in a full frame of four outputs, and always the same.
    amplitude = np.sqrt(power / np.arange(1, samples // 2), dtype=np.float32)
    amplitude /= 2
    return amplitude


def one_over_f_cds_variance(clocking: Clocking, power: float) -> float:
    """Return the variance (e-^2) of the difference of two frames that 1/f noise of power A gives.

    The band within a frame is independent from frame to frame. For the slower band, the variance of the
    difference of neighbouring offsets is the integral of (A/f) 4 sin^2(pi f t) up to 1/(2t), which is 3.30 A.
    """
    x = (np.arange(20000) + 0.5) / 20000 * 0.5
    slow = float(np.mean(4 * np.sin(math.pi * x) ** 2 / x) * 0.5)
    return power * (2 * band_power(clocking.samples) + slow)


def expected_white_noise(detector: Detector) -> float:
    """Return the white read noise of one frame (e-) with which CDS noise has its expected value.

    It is what remains of the expected CDS noise after the 1/f noise of a full frame and the rounding of the
    converter (gain^2 / 12 per read).
    """
    one_over_f = ONE_OVER_F[detector.channel]
    full = Clocking(FULL_FRAME, FULL_FRAME, 4, 1, 1)
    left = detector.expected.cds_noise.value**2 - one_over_f_cds_variance(
        full, one_over_f.common + one_over_f.each
    )
    return math.sqrt(left / 2 - detector.gain**2 / 12)


class ReadNoise:
    """The read noise of the frames of an exposure, one after another.

    Parameters
    ----------
    clocking : Clocking
    white : ndarray of float32, 2D (rows, columns)
        White noise of one frame (e-).
    one_over_f : OneOverFNoise
    frames : int
        Duration of the exposure in frame times, resets and gaps included.
    rng : numpy.random.Generator
    """

    def __init__(
        self,
        clocking: Clocking,
        white: NDArray[np.float32],
        one_over_f: OneOverFNoise,
        frames: int,
        rng: np.random.Generator,
    ) -> None:
        self._clocking = clocking
        self._white = white
        self._one_over_f = one_over_f
        self._rng = rng
        length = max(8, fft.next_fast_len(int(1.1 * frames) + 1, real=True))
        common = one_over_f_noise(length, one_over_f.common, rng)
        self._offsets = np.stack(
            [common + one_over_f_noise(length, one_over_f.each, rng) for _ in range(clocking.noutputs)]
        )

    def frame(self, number: int) -> NDArray[np.float32]:
        """Draw the noise of frame `number` (0-based) in e-, 2D (rows, columns)."""
        clocking = self._clocking
        noise = self._rng.standard_normal((clocking.rows, clocking.columns), dtype=np.float32)
        noise *= self._white
        common = one_over_f_noise(clocking.samples, self._one_over_f.common, self._rng)
        width = clocking.columns // clocking.noutputs
        # In order of time, the first output lies where the fast axis begins.
        stripes = list(range(clocking.noutputs))[:: 1 if clocking.fastaxis > 0 else -1]
        for output, stripe in enumerate(stripes):
            stream = common + one_over_f_noise(clocking.samples, self._one_over_f.each, self._rng)
            stream += self._offsets[output, number]
            lines = stream[: clocking.rows * clocking.line].reshape(clocking.rows, clocking.line)[:, :width]
            # Neighbouring outputs of an H2RG are read in opposite directions.
            forward = (clocking.fastaxis > 0) == (output % 2 == 0)
            lines = lines[:: 1 if clocking.slowaxis > 0 else -1, :: 1 if forward else -1]
            noise[:, stripe * width : (stripe + 1) * width] += lines
        return noise
