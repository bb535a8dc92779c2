"""Noise that the pixels of a column share, and noise that changes sign from column to column.

The even and the odd columns of an H2RG's output have amplifier chains that are not quite alike, and 1/f noise
of their difference appears as power near half the pixel clock ("alternating column noise", Rauscher 2015,
PASP 127, 1144). What is slower than a frame shifts whole columns. Both look like white noise to a single
pixel, and are neither white nor 1/f noise along the readout. Where odd and even columns have independent 1/f
noise, half of its variance alternates, and is measured here; the other half is common to all columns of the
output, and nothing tells it from the output's own 1/f noise.

- `alternating_variance`: the power near half the pixel clock that exceeds white and 1/f noise.
- `ColumnOffsets`: how the mean of a column varies from frame to frame, beyond what white and 1/f noise of so
  many pixels do.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from services.noise.read_noise.spectrum import PIXEL_SECONDS, SpectrumMaker
from shared.statistics.verdicts import Value

#: A power spectrum, per hertz, at frequencies in periods per frame.
Spectrum = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def alternating_variance(maker: SpectrumMaker, frames: NDArray[np.float64], spectrum: Spectrum) -> Value:
    """Return the variance of noise near half the pixel clock that exceeds a spectrum, and its 1-sigma error.

    Parameters
    ----------
    maker : SpectrumMaker
    frames : ndarray, 2D (frames, mirrored bins)
        `FrameSpectra.alternating`, of one group.
    spectrum : callable
        White and 1/f noise, fitted to the lower half of the band.
    """
    highest = 2 * (maker.distances[-1] + maker.distant_modes[-1])
    away = maker.distances + (maker.distant_modes - 1) / 2
    expected = spectrum(highest - away)
    widths = maker.distant_modes * maker.resolution
    variances = (frames - expected) @ widths
    # The fit's own white noise is from as many frequencies as lie in the upper half.
    of_modes = math.sqrt(2 / (len(frames) * maker.distant_modes.sum())) * float(expected @ widths)
    scatter = float(variances.std(ddof=1)) / math.sqrt(len(variances)) if len(variances) > 1 else 0.0
    return Value(float(variances.mean()), max(of_modes, scatter))


class ColumnOffsets:
    """Mean of each column in each frame, collected one frame at a time."""

    def __init__(self) -> None:
        self._means: list[NDArray[np.float64]] = []
        self._pixels: list[float] = []

    @property
    def frames(self) -> int:
        """Number of frames that were added."""
        return len(self._means)

    def add(
        self, difference: NDArray[np.float32], known: NDArray[np.bool_], amplifiers: Sequence[slice]
    ) -> None:
        """Add a difference of two groups.

        Parameters
        ----------
        difference : ndarray, 2D (y, x)
        known : ndarray of bool, 2D (y, x)
            Pixels that take part.
        amplifiers : sequence of slice
            Columns of each output.
        """
        count = np.count_nonzero(known, axis=0)
        total = np.sum(difference, axis=0, where=known, dtype=np.float64)
        # A column with few pixels would show their noise.
        full = count > difference.shape[0] / 2
        means = np.where(full, total / np.maximum(count, 1), np.nan) / math.sqrt(2)
        for columns in amplifiers:
            part = means[columns]
            part -= part[np.isfinite(part)].mean() if np.isfinite(part).any() else 0.0
        self._means.append(means)
        self._pixels.append(float(count[full].mean()) if full.any() else math.nan)

    def variance(self, maker: SpectrumMaker, spectrum: Spectrum) -> Value:
        """Return the variance of columns in one group beyond what a spectrum gives, and its 1-sigma error.

        It is from frame to frame: a column that is brighter than its neighbours in all frames adds nothing.

        Parameters
        ----------
        maker : SpectrumMaker
        spectrum : callable
            White and 1/f noise of one group.
        """
        means = np.array(self._means)
        means = means[:, np.isfinite(means).all(axis=0)]
        if len(means) < 2 or not means.size:
            return Value(math.nan, math.nan)
        readout = maker.readout
        width = min(columns.stop - columns.start for columns in readout.outputs)
        # An amplifier's mean was subtracted, which takes a degree of freedom from each.
        squares = (means - means.mean(axis=0)) ** 2 * len(means) / (len(means) - 1) / (1 - 1 / width)
        by_frame = squares.mean(axis=1)
        variance = float(by_frame.mean())
        # The mean of a column samples noise once per line: it sees the harmonics of the line rate.
        harmonics = np.arange(1, readout.line // 2 + 1, dtype=float) * readout.rows
        missing = readout.rows / float(np.mean(self._pixels))
        expected = float(np.sum(spectrum(harmonics))) / (readout.samples * PIXEL_SECONDS) * missing
        error = variance * math.sqrt(2 / ((len(means) - 1) * means.shape[1]))
        # Columns that alternate together are one sample per frame.
        scatter = float(by_frame.std(ddof=1)) / math.sqrt(len(by_frame))
        return Value(variance - expected, max(error, scatter))
