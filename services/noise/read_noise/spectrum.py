"""Power spectra of read noise, along the time in which pixels are read.

A plane is put back into the order of its readout: all outputs read their stripes at the same time, line by
line, and after every line comes an overhead in which nothing is read. Gaps (overheads, hits, reference
pixels) are not filled: the covariance at each lag is the mean of the products that exist, and the spectrum is
its Fourier transform (Blackman and Tukey 1958, Bell System Technical Journal 37, 185).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from shared.nircam.configuration import ConfigurationKey
from shared.nircam.detectors import detectors
from shared.nircam.geometry import amplifiers

#: Time to read one pixel, s (100 kHz), and overhead of a line, in pixels (JWST user documentation, "NIRCam
#: Detector Subarrays"). With one additional line (two with one output) they give TFRAME.
PIXEL_SECONDS = 10e-6
LINE_OVERHEAD = 12
_BINS_PER_DECADE = 8
#: Exponents for which the shape of power-law noise is computed; in between, its logarithm is interpolated.
_EXPONENTS = (0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Readout:
    """The order in which the pixels of a frame are read.

    Attributes
    ----------
    rows : int
        Number of lines.
    outputs : tuple of slice
        Columns of each output.
    forward : tuple of bool
        Whether each output reads towards higher columns.
    upward : bool
        Whether lines are read towards higher rows.
    """

    rows: int
    outputs: tuple[slice, ...]
    forward: tuple[bool, ...]
    upward: bool

    @property
    def line(self) -> int:
        """Duration of a line with its overhead, in pixel times."""
        widest: int = max(columns.stop - columns.start for columns in self.outputs)
        return widest + LINE_OVERHEAD

    @property
    def samples(self) -> int:
        """Duration of all lines, in pixel times."""
        return self.rows * self.line

    def stream(self, plane: NDArray[Any], output: int) -> NDArray[Any]:
        """Return the pixels of an output in order of time, 1D (samples); 0 or False in overheads."""
        columns = self.outputs[output]
        stripe = plane[:: 1 if self.upward else -1, columns][:, :: 1 if self.forward[output] else -1]
        lines = np.zeros((self.rows, self.line), plane.dtype)
        lines[:, : stripe.shape[1]] = stripe
        return lines.ravel()


def readout_of(key: ConfigurationKey) -> Readout:
    """Return how the frames of a configuration are read.

    Neighbouring outputs of an H2RG are read in opposite directions; in science orientation the first of the
    four reads towards higher columns in every NIRCam detector. A single output reads as FASTAXIS says.
    """
    device = detectors()[key.detector]
    outputs = tuple(amplifiers(key))
    if len(outputs) == 1:
        forward: tuple[bool, ...] = (device.fastaxis > 0,)
    else:
        forward = tuple(n % 2 == 0 for n in range(len(outputs)))
    return Readout(key.subsize2, outputs, forward, device.slowaxis > 0)


@dataclass(frozen=True)
class FrameSpectra:
    """One-sided power spectra of one plane, in its unit squared per hertz.

    Attributes
    ----------
    auto : ndarray, 2D (outputs, bins)
        Power spectrum of each output.
    cross : ndarray, 1D (bins), or None
        Mean of the (real) cross spectra of all pairs of outputs: the power that they have in common. None
        with one output.
    alternating : ndarray, 1D (mirrored bins)
        Mean over outputs of their power spectra near half the pixel clock, where noise that changes its sign
        from column to column appears; see `SpectrumMaker.distances`.
    """

    auto: NDArray[np.float64]
    cross: NDArray[np.float64] | None
    alternating: NDArray[np.float64]


class SpectrumMaker:
    """Makes spectra of planes with one order of readout.

    Attributes
    ----------
    readout : Readout
    frequencies : ndarray, 1D (bins)
        Geometric mean of the frequencies of each bin, Hz. Bins are equally wide in the logarithm.
    modes : ndarray of int, 1D (bins)
        Number of independent frequencies in each bin; its inverse is the relative variance of the bin.
    first, last : ndarray of int, 1D (bins)
        Lowest and highest frequency of each bin, in periods per frame.
    distances, distant_modes : ndarray of int, 1D (mirrored bins)
        A second set of bins covers the upper half of the band, counted down from half the pixel clock: the
        smallest distance of each bin from it, in periods per frame, and the number of frequencies in it.
    """

    def __init__(self, readout: Readout) -> None:
        self.readout = readout
        # Number of lags: with a fast transform, and even, so that half the pixel clock is a frequency.
        self._lags = 2 * fft.prev_fast_len(readout.samples // 2, real=True)
        self._padded = fft.next_fast_len(readout.samples + self._lags, real=True)
        highest = self._lags // 2
        count = max(math.ceil(_BINS_PER_DECADE * math.log10(highest)), 1)
        edges = np.unique(np.round(np.geomspace(1, highest, count + 1)).astype(int))
        self.first, self.last = edges[:-1], edges[1:] - 1
        self.modes = np.diff(edges)
        self._edges = edges
        self._mirrored_edges = np.append(edges[edges < highest // 2], highest // 2)
        self.distances, self.distant_modes = self._mirrored_edges[:-1], np.diff(self._mirrored_edges)
        periods = np.sqrt(edges[:-1] * (edges[1:] - 1.0))
        self.frequencies = periods * self.resolution

    @property
    def resolution(self) -> float:
        """Distance between frequencies, Hz: about one over the duration of a frame."""
        hertz: float = 1 / (self._lags * PIXEL_SECONDS)
        return hertz

    def spectra(self, plane: NDArray[np.float32], known: NDArray[np.bool_]) -> FrameSpectra:
        """Return the spectra of a plane.

        Parameters
        ----------
        plane : ndarray of float32, 2D (y, x)
            In any unit, with a level near 0, since transforms are in single precision.
        known : ndarray of bool, 2D (y, x)
            Pixels that take part; some of each output.
        """
        count = len(self.readout.outputs)
        auto, alternating = [], []
        total, total_known = _SumOfOutputs(count > 1), _SumOfOutputs(count > 1)
        for output in range(count):
            mask = self.readout.stream(known, output)
            values = self.readout.stream(plane, output)
            values[~mask] = 0
            products = self._products(total.add(fft.rfft(values, self._padded)))
            del values
            pairs = self._products(total_known.add(fft.rfft(mask.astype(np.float32), self._padded)))
            power = self._transformed(_quotient(products, pairs))
            auto.append(self._binned(power))
            alternating.append(self._mirrored(power))
        cross = None
        if count > 1:
            products = self._products(total.cross())
            cross = self._binned(self._transformed(_quotient(products, self._products(total_known.cross()))))
        return FrameSpectra(np.array(auto), cross, np.mean(alternating, axis=0))

    def power_law(self, exponent: float) -> NDArray[np.float64]:
        """Return the spectrum of 1/f^exponent noise, 1D (bins), 1/Hz.

        Its power is 1 per e-fold of frequency on the average over the band from one period per frame to half
        the pixel clock, whatever the exponent. It is not quite a power law, because the ends of a frame do
        not meet. Noise slower than three quarters of a period per frame is an offset of the frame, which no
        bin contains.
        """
        shapes = np.log(self._anchors)
        logarithm = np.zeros(len(self.first))
        for n, anchor in enumerate(_EXPONENTS):
            others = [other for other in _EXPONENTS if other != anchor]
            weight = math.prod((exponent - other) / (anchor - other) for other in others)
            logarithm += weight * shapes[n]
        spectrum: NDArray[np.float64] = np.exp(logarithm) * self.e_folds / self._band_integral(exponent)
        return spectrum

    def power_law_at(self, periods: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
        """Return the same at any frequency, in periods per frame, without what the ends of a frame do."""
        scale = self.e_folds / self._band_integral(exponent) / self.resolution
        power: NDArray[np.float64] = scale * periods**-exponent
        return power

    def within_frame(self, exponent: float) -> tuple[float, float]:
        """Return the variance within a frame, about its mean, of 1/f^exponent noise of power 1 per e-fold.

        Frequencies below one period per frame add to it as much as the mean of a frame does not take away: a
        fraction 1 - sinc(k)^2 of their power at k periods per frame. How far down the noise goes on cannot
        be measured within a frame. With exponent 1 the variance is ln(N/2) + 0.577 without them, and
        ln(N/2) + 0.577 + ln(2 pi) - 3/2 if the noise goes on down to 0.

        Parameters
        ----------
        exponent : float
            As in `power_law`.

        Returns
        -------
        middle, unknown : float
            The middle between the two limits, and half of their difference.
        """
        least, most = _within_frame_limits(exponent, self.readout.samples // 2)
        scale = self.e_folds / self._band_integral(exponent)
        return scale * (least + most) / 2, scale * (most - least) / 2

    @property
    def e_folds(self) -> float:
        """Number of e-folds of frequency from one period per frame to half the pixel clock.

        It is the variance of noise with power 1 per e-fold in this band, which a frame shows completely.
        """
        return math.log(self.readout.samples / 2)

    def _band_integral(self, exponent: float) -> float:
        """Return the integral of k^-exponent from 1 period per frame to half the pixel clock."""
        steepness = (1 - exponent) * self.e_folds
        return self.e_folds * (math.expm1(steepness) / steepness if abs(steepness) > 1e-9 else 1.0)

    @cached_property
    def _anchors(self) -> NDArray[np.float64]:
        """Spectra of k^-exponent, 2D (`_EXPONENTS`, bins)."""
        return np.array(list(self._anchor_spectra()))

    def _anchor_spectra(self) -> Iterator[NDArray[np.float64]]:
        # In steps of a quarter of a period per frame: a transform of four times the number of lags.
        periods = np.arange(3, 2 * self._lags + 1) / 4
        for exponent in _EXPONENTS:
            spectrum = np.zeros(2 * self._lags + 1)
            spectrum[3:] = periods**-exponent / 8
            covariance: NDArray[np.float64] = fft.irfft(
                spectrum, 4 * self._lags, norm="forward", overwrite_x=True
            )
            yield self._binned(self._transformed(covariance[: self._lags]))

    @cached_property
    def _taper(self) -> NDArray[np.float32]:
        taper: NDArray[np.float32] = (1 - np.arange(self._lags) / self._lags).astype(np.float32)
        return taper

    def _products(self, power: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sum of products at every lag."""
        products: NDArray[np.float32] = fft.irfft(power, self._padded)[: self._lags].copy()
        return products

    def _transformed(self, covariance: NDArray[Any]) -> NDArray[Any]:
        """Return the spectrum of a covariance (lags), with the taper of a stream without gaps."""
        tapered = covariance * self._taper.astype(covariance.dtype, copy=False)
        # Negative lags equal positive ones; a transform of whole periods folds them onto each other.
        tapered[1:] += tapered[:0:-1].copy()
        spectrum: NDArray[Any] = fft.rfft(tapered).real
        return spectrum

    def _binned(self, spectrum: NDArray[Any]) -> NDArray[np.float64]:
        """Return the means of a spectrum over the bins, 1/Hz."""
        sums = np.add.reduceat(spectrum[: self._lags // 2], self._edges[:-1], dtype=np.float64)
        binned: NDArray[np.float64] = 2 * PIXEL_SECONDS * sums / self.modes
        return binned

    def _mirrored(self, spectrum: NDArray[Any]) -> NDArray[np.float64]:
        """Return the means of a spectrum over the mirrored bins, 1/Hz."""
        down = spectrum[::-1][: self._mirrored_edges[-1]]
        sums = np.add.reduceat(down, self._mirrored_edges[:-1], dtype=np.float64)
        binned: NDArray[np.float64] = 2 * PIXEL_SECONDS * sums / self.distant_modes
        return binned


@lru_cache
def _within_frame_limits(exponent: float, highest: int) -> tuple[float, float]:
    """Return the variance about its mean of k^-exponent noise from 1, and from 0, to `highest` periods."""
    least = float(np.sum(np.arange(1, highest + 1, dtype=float) ** -exponent))
    edges = np.geomspace(1e-6, highest, 20_001)
    periods = np.sqrt(edges[1:] * edges[:-1])
    shown = 1 - np.sinc(periods) ** 2
    # From 0 to the first edge, 1 - sinc(k)^2 is (pi k)^2 / 3, which adds nothing.
    most = float(np.sum(shown * periods ** (1 - exponent)) * math.log(edges[1] / edges[0]))
    return least, most


class _SumOfOutputs:
    """Sum of the transforms of all outputs: its power exceeds the sum of their powers by the cross power."""

    def __init__(self, several: bool) -> None:
        self._several = several
        self._total: NDArray[np.complex64] | None = None
        self._power: NDArray[np.float32] | None = None

    def add(self, amplitude: NDArray[np.complex64]) -> NDArray[np.float32]:
        """Add the transform of an output and return its power; the transform is overwritten later."""
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
        """Return the sum of the real cross powers of all pairs of outputs, and release the memory."""
        if self._total is None or self._power is None:
            raise ValueError("cross power needs two outputs or more, and one was added")
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
    # Numbers of pairs are whole, except for the rounding of the transform.
    some = pairs > 0.5
    np.divide(products, pairs, out=products, where=some)
    products[~some] = 0
    return products
