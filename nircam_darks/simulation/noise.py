"""Read noise of an H2RG: white, and 1/f along the stream of pixels, common to the outputs and not.

The 1/f part has one power spectrum, A / f, in two bands: within a frame it is drawn along the time in
which pixels are read (line overheads included), and slower than a frame as one offset a frame. So an
exposure of any length needs the memory of one frame.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from services.simulation.plan import LINE_OVERHEAD
from shared.detectors import FULL_FRAME, Channel, Detector


@dataclass(frozen=True)
class PinkNoise:
    """Power A of the 1/f noise, e-^2 per e-fold of frequency: common to all outputs, and of each."""

    common: float
    each: float


#: Chosen so that within a full frame the common part has 2.8 e- (SW) and 2.0 e- (LW) rms, and that of
#: each amplifier half of it: the size that NIRCam's ground tests show before reference pixel correction.
PINK: dict[Channel, PinkNoise] = {"SW": PinkNoise(0.59, 0.15), "LW": PinkNoise(0.30, 0.075)}


@dataclass(frozen=True)
class Clocking:
    """How a frame is read: shape (rows, columns), outputs, and the signs of FASTAXIS and SLOWAXIS."""

    rows: int
    columns: int
    noutputs: int
    fastaxis: int
    slowaxis: int

    @property
    def line(self) -> int:
        """Pixel times that a line takes."""
        return self.columns // self.noutputs + LINE_OVERHEAD

    @property
    def samples(self) -> int:
        """Pixel times drawn for a frame: more than it has, so that its end does not join its start."""
        length: int = fft.next_fast_len(int(1.1 * self.rows * self.line), real=True)
        return length


def band_power(samples: int) -> float:
    """Return the variance of `samples` of 1/f noise with A = 1: the sum of 1/k over its frequencies."""
    return float(np.sum(1 / np.arange(1, samples // 2)))


def pink_noise(samples: int, power: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw 1/f noise of zero mean and variance ``power * band_power(samples)``, shape (samples,)."""
    count = samples // 2 + 1
    spectrum = np.zeros(count, np.complex64)
    k = np.arange(1, samples // 2)
    amplitude = np.sqrt(power / k, dtype=np.float32) / 2
    drawn = rng.standard_normal((2, k.size), dtype=np.float32)
    spectrum[1 : k.size + 1].real = drawn[0] * amplitude
    spectrum[1 : k.size + 1].imag = drawn[1] * amplitude
    noise: NDArray[np.float32] = fft.irfft(spectrum, samples, norm="forward", overwrite_x=True)
    return noise


def cds_pink_variance(clocking: Clocking, power: float) -> float:
    """Return the variance (e-^2) of the difference of two frames that 1/f noise of power A gives.

    The band within a frame is independent from frame to frame; of the slower one, neighbouring offsets
    differ by the integral of (A/f) 4 sin^2(pi f t) up to 1/(2t), which is 3.30 A.
    """
    x = (np.arange(20000) + 0.5) / 20000 * 0.5
    slow = float(np.mean(4 * np.sin(math.pi * x) ** 2 / x) * 0.5)
    return power * (2 * band_power(clocking.samples) + slow)


def expected_white_noise(detector: Detector) -> float:
    """Return the white read noise of one frame, e-, that lands CDS noise on the expected table.

    What the full frame's 1/f noise and the rounding of the converter (gain^2 / 12 a read) leave of the
    expected CDS noise.
    """
    pink = PINK[detector.channel]
    full = Clocking(FULL_FRAME, FULL_FRAME, 4, 1, 1)
    left = detector.expected.cds_noise.value**2 - cds_pink_variance(full, pink.common + pink.each)
    return math.sqrt(left / 2 - detector.gain**2 / 12)


class ReadNoise:
    """The read noise of the frames of an exposure, one after another.

    Parameters
    ----------
    clocking : Clocking
    white : ndarray of float32, 2D (rows, columns)
        White noise of one frame, e-.
    pink : PinkNoise
    frames : int
        Frame times that the exposure lasts, resets and gaps included.
    rng : numpy.random.Generator
    """

    def __init__(
        self,
        clocking: Clocking,
        white: NDArray[np.float32],
        pink: PinkNoise,
        frames: int,
        rng: np.random.Generator,
    ) -> None:
        self._clocking = clocking
        self._white = white
        self._pink = pink
        self._rng = rng
        length = max(8, fft.next_fast_len(int(1.1 * frames) + 1, real=True))
        common = pink_noise(length, pink.common, rng)
        self._offsets = np.stack(
            [common + pink_noise(length, pink.each, rng) for _ in range(clocking.noutputs)]
        )

    def frame(self, number: int) -> NDArray[np.float32]:
        """Draw the noise of frame time `number` (0-based), e-, 2D (rows, columns)."""
        clocking = self._clocking
        noise = self._rng.standard_normal((clocking.rows, clocking.columns), dtype=np.float32)
        noise *= self._white
        common = pink_noise(clocking.samples, self._pink.common, self._rng)
        width = clocking.columns // clocking.noutputs
        # In time order the first output lies where the fast axis begins.
        stripes = list(range(clocking.noutputs))[:: 1 if clocking.fastaxis > 0 else -1]
        for output, stripe in enumerate(stripes):
            stream = common + pink_noise(clocking.samples, self._pink.each, self._rng)
            stream += self._offsets[output, number]
            lines = stream[: clocking.rows * clocking.line].reshape(clocking.rows, clocking.line)[:, :width]
            # Neighbouring outputs of an H2RG are read in opposite directions.
            forward = (clocking.fastaxis > 0) == (output % 2 == 0)
            lines = lines[:: 1 if clocking.slowaxis > 0 else -1, :: 1 if forward else -1]
            noise[:, stripe * width : (stripe + 1) * width] += lines
        return noise
