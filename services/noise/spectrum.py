"""Power spectra of read noise against frequency, along the time in which pixels are read.

A plane is put back into the order of its readout: every output reads its stripe line by line, all
outputs at the same time, and every line is followed by an overhead in which nothing is read. What is
missing (the overhead, hits, reference pixels) is left out and not filled: the covariance at each lag is
the mean of the products that are there, and the spectrum is its Fourier transform (Blackman and Tukey).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from shared.configuration import ConfigurationKey
from shared.detectors import detectors
from shared.geometry import amplifiers

#: Time to read one pixel, s (100 kHz), and overhead of a line in pixels. Source: JWST user documentation,
#: "NIRCam Detector Subarrays"; with one line more (two with one output) they give TFRAME.
PIXEL_SECONDS = 10e-6
LINE_OVERHEAD = 12
_BINS_PER_DECADE = 8
#: Half of what 1/f noise slower than a period a frame adds to the variance within a frame, if it goes on to
#: zero, for a power of 1 an e-fold: see `SpectrumMaker.within_frame`.
WITHIN_FRAME_UNKNOWN = (math.log(2 * math.pi) - 1.5) / 2


@dataclass(frozen=True)
class Readout:
    """The order in which the pixels of a frame are read.

    Attributes
    ----------
    rows : int
    outputs : tuple of slice
        Columns of each.
    forward : tuple of bool
        Whether an output reads towards higher columns.
    upward : bool
        Whether lines are read towards higher rows.
    """

    rows: int
    outputs: tuple[slice, ...]
    forward: tuple[bool, ...]
    upward: bool

    @property
    def line(self) -> int:
        """Pixel times of a line, its overhead included."""
        widest: int = max(one.stop - one.start for one in self.outputs)
        return widest + LINE_OVERHEAD

    @property
    def samples(self) -> int:
        """Pixel times of all lines."""
        return self.rows * self.line

    def stream(self, plane: NDArray[Any], output: int) -> NDArray[Any]:
        """Return an output's pixels in the order of time, 1D (samples); 0 or False in overheads."""
        columns = self.outputs[output]
        stripe = plane[:: 1 if self.upward else -1, columns][:, :: 1 if self.forward[output] else -1]
        lines = np.zeros((self.rows, self.line), plane.dtype)
        lines[:, : stripe.shape[1]] = stripe
        return lines.ravel()


def readout_of(key: ConfigurationKey) -> Readout:
    """Return how the frames of a configuration are read.

    Neighbouring outputs of an H2RG are read in opposite directions; in science orientation the first
    of NIRCam's four goes towards higher columns in every detector. One output goes as FASTAXIS says.
    """
    device = detectors()[key.detector]
    outputs = tuple(amplifiers(key))
    one = len(outputs) == 1
    forward = tuple(device.fastaxis > 0 if one else n % 2 == 0 for n in range(len(outputs)))
    return Readout(key.subsize2, outputs, forward, device.slowaxis > 0)


@dataclass(frozen=True)
class FrameSpectra:
    """Power spectra of one plane, one-sided, in the plane's unit squared per hertz, per bin.

    Attributes
    ----------
    auto : ndarray, 2D (outputs, bins)
        Of each output.
    cross : ndarray, 1D (bins), or None
        Of what all outputs share: the mean of the (real) cross spectra of every two of them, in which
        noise of their own has no part. None with one output.
    """

    auto: NDArray[np.float64]
    cross: NDArray[np.float64] | None


class SpectrumMaker:
    """Makes the spectra of planes of one readout.

    Attributes
    ----------
    readout : Readout
    frequencies : ndarray, 1D (bins)
        Geometric mean of each bin's frequencies, Hz; bins grow with the frequency.
    modes : ndarray of int, 1D (bins)
        Independent frequencies in each: the relative variance of a bin is one over it.
    first : ndarray of int, 1D (bins)
        Periods in a frame of each bin's lowest frequency.
    """

    def __init__(self, readout: Readout) -> None:
        self.readout = readout
        # Lags that are looked at; a number that a fast transform has.
        self._lags = fft.prev_fast_len(readout.samples, real=True)
        self._padded = fft.next_fast_len(readout.samples + self._lags, real=True)
        highest = self._lags // 2
        count = max(math.ceil(_BINS_PER_DECADE * math.log10(highest)), 1)
        edges = np.unique(np.round(np.geomspace(1, highest, count + 1)).astype(int))
        self.first = edges[:-1]
        self.modes = np.diff(edges)
        self._edges = edges
        periods = np.sqrt(edges[:-1] * (edges[1:] - 1.0))
        self.frequencies = periods * self.resolution

    @property
    def resolution(self) -> float:
        """From one frequency to the next, Hz: about one over the time of a frame."""
        hertz: float = 1 / (self._lags * PIXEL_SECONDS)
        return hertz

    def of(self, plane: NDArray[np.float32], known: NDArray[np.bool_]) -> FrameSpectra:
        """Return the spectra of a plane.

        Parameters
        ----------
        plane : ndarray of float32, 2D (y, x)
            With a level near 0, for the sake of its digits.
        known : ndarray of bool, 2D (y, x)
            Pixels that take part. Each output needs some.
        """
        count = len(self.readout.outputs)
        auto = []
        # Of all outputs together and one by one: the difference is what comes of every two of them.
        together, together_known = _Together(count > 1), _Together(count > 1)
        for output in range(count):
            mask = self.readout.stream(known, output)
            values = self.readout.stream(plane, output)
            values[~mask] = 0
            products = self._products(together.add(fft.rfft(values, self._padded)))
            del values
            pairs = self._products(together_known.add(fft.rfft(mask.astype(np.float32), self._padded)))
            auto.append(self._binned(_quotient(products, pairs)))
        if count == 1:
            return FrameSpectra(np.array(auto), None)
        products = self._products(together.cross())
        return FrameSpectra(
            np.array(auto), self._binned(_quotient(products, self._products(together_known.cross())))
        )

    @cached_property
    def pink(self) -> NDArray[np.float64]:
        """What noise of power 1/f (1 per e-fold of frequency) comes out as, per bin, 1D, 1/Hz.

        From three quarters of a period a frame on; what is slower is an offset of the frame, which no bin
        holds. Not quite 1/f, because a frame's ends do not meet.
        """
        return self._binned(self._pink_covariance())

    @property
    def e_folds(self) -> float:
        """e-folds of frequency from one period a frame to half the pixel clock.

        The variance that 1/f noise of power 1 an e-fold has in this band; it needs nothing that a frame does
        not show.
        """
        return math.log(self.readout.samples / 2)

    @property
    def within_frame(self) -> float:
        """Variance within a frame, about its mean, of 1/f noise of power 1 per e-fold of frequency.

        With all frequencies down to zero it would be ln(N/2) + gamma + ln(2 pi) - 3/2 for N samples (the
        mean of -ln over every two of them), with none slower than a period a frame it is
        ln(N/2) + gamma, the sum of 1/k. What is slower cannot be measured in a frame: this is the middle, and
        `WITHIN_FRAME_UNKNOWN` half of the difference.
        """
        return self.e_folds + float(np.euler_gamma) + WITHIN_FRAME_UNKNOWN

    @cached_property
    def _taper(self) -> NDArray[np.float32]:
        taper: NDArray[np.float32] = (1 - np.arange(self._lags) / self._lags).astype(np.float32)
        return taper

    def _pink_covariance(self) -> NDArray[np.float64]:
        # A quarter of a period is the finest step: four times as long as the lags that are looked at.
        spectrum = np.zeros(2 * self._lags + 1)
        spectrum[3:] = 0.5 / np.arange(3, 2 * self._lags + 1)
        covariance: NDArray[np.float64] = fft.irfft(
            spectrum, 4 * self._lags, norm="forward", overwrite_x=True
        )
        return covariance[: self._lags]

    def _products(self, power: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sum of products at every lag."""
        products: NDArray[np.float32] = fft.irfft(power, self._padded)[: self._lags].copy()
        return products

    def _binned(self, covariance: NDArray[Any]) -> NDArray[np.float64]:
        """Return the spectrum of a covariance (lags), tapered as that of a stream without gaps is."""
        lags = self._lags
        tapered = covariance * self._taper.astype(covariance.dtype, copy=False)
        # Negative lags are the same as positive ones, and at whole periods fall on their places.
        tapered[1:] += tapered[:0:-1].copy()
        spectrum = fft.rfft(tapered).real[: lags // 2]
        sums = np.add.reduceat(spectrum, self._edges[:-1], dtype=np.float64)
        binned: NDArray[np.float64] = 2 * PIXEL_SECONDS * sums / self.modes
        return binned


class _Together:
    """Transforms of all outputs, added up: what their sum has beyond each of them comes of two of them."""

    def __init__(self, several: bool) -> None:
        self._several = several
        self._total: NDArray[np.complex64] | None = None
        self._power: NDArray[np.float32] | None = None

    def add(self, amplitude: NDArray[np.complex64]) -> NDArray[np.float32]:
        """Add an output's transform, which is not to be used any more; return its power."""
        power = _power(amplitude)
        if not self._several:
            return power
        if self._total is None or self._power is None:
            self._total, self._power = amplitude, power.copy()
        else:
            self._total += amplitude
            self._power += power
        return power

    def cross(self) -> NDArray[np.float32]:
        """Return the real cross power of every two outputs, added up; nothing is kept."""
        if self._total is None or self._power is None:
            raise ValueError("one output has no other")
        power = _power(self._total)
        power -= self._power
        self._total = self._power = None
        return power


def _power(amplitude: NDArray[np.complex64]) -> NDArray[np.float32]:
    power: NDArray[np.float32] = amplitude.real**2
    power += amplitude.imag**2
    return power


def _quotient(products: NDArray[np.float32], pairs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean product at each lag, 0 where there is none; overwrites `products`."""
    # Numbers of pairs are whole, but for the transform's rounding.
    some = pairs > 0.5
    np.divide(products, pairs, out=products, where=some)
    products[~some] = 0
    return products
