"""1/f noise: what all outputs have in common, what each has of its own, and the white noise beside it.

Power spectra are taken of differences of two groups, which have twice the power of one group. Two terms are
fitted to them: white noise, and noise with power A per e-fold of frequency that falls as 1/f^exponent. H2RG
detectors have exponents near 1, which is the prior where the spectra cannot tell. At a given exponent the fit
is linear: the figure of a set is the mean over its frames, and its error follows from their scatter and from
how well the exponent is known. Where the spectra scatter about the fit by more than their noise (chi-square),
all errors are widened by it.

The fit takes the lower half of the band. In the upper half lies alternating column noise, as excess over
the fit (`services.noise.read_noise.column_noise`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.noise.planes import ExposurePixels, Plane
from services.noise.read_noise.column_noise import ColumnOffsets, alternating_variance
from services.noise.read_noise.spectrum import FrameSpectra, Readout, SpectrumMaker
from shared.statistics.robust import median_and_sigma
from shared.statistics.verdicts import Value

#: Samples of a set whose spectra are taken, and frames at least: 12 pairs of a full frame, 120 of SUB640.
#: They determine 1/f noise to 2 per cent or better; more would take longer than all other figures.
_SAMPLES = 50_000_000
_FEWEST_FRAMES = 12
#: A pixel this many robust sigmas from the median is hot, or was hit without a flag. Of Gaussian noise, 1e-5
#: of the variance lies beyond.
_CLIP = 5.0
#: Lowest frequency of the fit, in periods per frame: noise slower than a frame leaks into those below.
_FIRST_PERIODS = 8
#: Smallest fraction of the pixels of an output that a spectrum is taken from.
_LEAST_KNOWN = 0.25
#: Number of fits, each weighted by the spectrum that the last one gave.
_ROUNDS = 12
#: What is known of the exponent before a set is measured: the generator of NIRCam's noise in ground tests has
#: exactly 1 (Rauscher 2015, PASP 127, 1144), and H2RG detectors are seen with 0.8 to 1.3.
_USUAL_EXPONENT = Value(1.0, 0.5)
_EXPONENT_LIMITS = (0.3, 2.2)
_EXPONENT_STEP = 0.02


@dataclass(frozen=True)
class OneOverF:
    """1/f and white noise of one group, in the square of the unit of the planes.

    Attributes
    ----------
    frames : int
        Number of differences of groups that were measured.
    correlated : Value or None
        Power per e-fold of frequency that all outputs have in common, mean over the band; None with one
        output.
    correlated_exponent : Value or None
        Of the same.
    uncorrelated : list of Value
        Power per e-fold that each output has of its own; with one output, all of it.
    uncorrelated_exponent : Value
        Of their mean.
    uncorrelated_mean : Value
        Mean over outputs.
    white : list of Value
        Variance of the white noise of each output, mean over its pixels.
    chi2, correlated_chi2 : float
        Reduced chi-square of the fits to the mean spectrum that outputs have of their own, and to the one
        that they have in common (NaN with one output).
    column_noise : Value or None
        Variance of the noise that the pixels of a column share, or that changes sign from column to column;
        mean over outputs. None with a single frame.
    e_folds : float
        Number of e-folds of frequency from one period per frame to half the pixel clock.
    frequencies : ndarray, 1D (bins)
        Hz.
    modes : ndarray of int, 1D (bins)
        Number of independent frequencies in each bin.
    auto : ndarray, 2D (outputs, bins)
        Measured power spectrum of each output, per hertz.
    cross : ndarray, 1D (bins), or None
        Measured cross spectrum, of what all outputs have in common; None with one output.
    fitted_auto, fitted_cross : ndarray
        The spectra that were fitted to them.
    """

    frames: int
    correlated: Value | None
    correlated_exponent: Value | None
    uncorrelated: list[Value]
    uncorrelated_mean: Value
    uncorrelated_exponent: Value
    white: list[Value]
    chi2: float
    correlated_chi2: float
    column_noise: Value | None
    e_folds: float
    frequencies: NDArray[np.float64]
    modes: NDArray[np.int64]
    auto: NDArray[np.float64]
    cross: NDArray[np.float64] | None
    fitted_auto: NDArray[np.float64]
    fitted_cross: NDArray[np.float64] | None

    def rms(self, power: Value) -> Value:
        """Return the rms of noise of this power, from one period per frame to half the pixel clock.

        Within a frame, slower noise cannot be distinguished from an offset. See `rms_of`.
        """
        return rms_of(power.times(self.e_folds))


def rms_of(variance: Value) -> Value:
    """Return the root of a variance that may come out negative.

    Where it is not above 0, the rms is 0, and its error that of a variance of 0: the square root of its
    1-sigma error.
    """
    rms, error = math.sqrt(max(variance.value, 0.0)), variance.error
    return Value(rms, min(error / (2 * rms), math.sqrt(error)) if rms else math.sqrt(error))


class SpectrumPairs:
    """Spectra of pairs of groups (0, 1), (2, 3), .., collected one plane at a time.

    Of a large set, some of the pairs are taken, evenly spread over it.

    Parameters
    ----------
    readout : Readout
    pairs : int
        Number of pairs of the whole set.
    """

    def __init__(self, readout: Readout, pairs: int) -> None:
        self._maker = SpectrumMaker(readout)
        frame = readout.samples * len(readout.outputs)
        self._wanted = min(max(_SAMPLES // frame, _FEWEST_FRAMES), pairs)
        self._pairs = pairs
        self._pair = 0
        self._spectra: list[FrameSpectra] = []
        self._columns = ColumnOffsets()

    def add(self, plane: Plane, pixels: ExposurePixels) -> None:
        """Add the next plane, in ascending order of integration and group."""
        if plane.group % 2 == 0:
            self._first = plane.signal
            return
        number = self._pair
        self._pair += 1
        # Evenly spread over the set, whatever the number of pairs in a ramp.
        if (number + 1) * self._wanted // self._pairs == number * self._wanted // self._pairs:
            return
        known = plane.alive & pixels.active
        difference = plane.signal - self._first
        difference[~known] = 0
        # Amplifier by amplifier, in memory that is released again: the transforms need it next.
        for columns in pixels.amplifiers:
            part = difference[:, columns][known[:, columns]]
            if part.size < _LEAST_KNOWN * difference[:, columns].size:
                return
            centre, sigma = median_and_sigma(part)
            del part
            stripe = difference[:, columns]
            stripe -= stripe.dtype.type(centre)
            # Whole numbers have sigma 0 where most of them are equal.
            known[:, columns] &= np.abs(stripe) <= _CLIP * max(sigma, 1.0)
        self._columns.add(difference, known, pixels.amplifiers)
        self._spectra.append(self._maker.spectra(difference, known))

    @property
    def maker(self) -> SpectrumMaker:
        """Makes the spectra, and knows the shapes that are fitted to them."""
        return self._maker

    def fit(self) -> OneOverF | None:
        """Return the noise of one group; None if no frame has enough unflagged pixels."""
        return fit_one_over_f(self._maker, self._spectra, self._columns) if self._spectra else None


def fit_one_over_f(
    maker: SpectrumMaker, frames: Sequence[FrameSpectra], columns: ColumnOffsets | None = None
) -> OneOverF:
    """Fit white and 1/f noise to the spectra of differences of two groups.

    Weighted least squares, in which the variance of a bin is S^2 over its number of modes, with the fitted
    spectrum S. Errors are from the scatter over frames, and at least those that the weights give.

    Parameters
    ----------
    maker : SpectrumMaker
        The one that made `frames`.
    frames : sequence of FrameSpectra
        At least one.
    columns : ColumnOffsets, optional
        Of the same frames.
    """
    autos = np.array([frame.auto for frame in frames]) / 2
    outputs = autos.shape[1]
    own, crosses = autos, None
    if all(frame.cross is not None for frame in frames):
        crosses = np.array([frame.cross for frame in frames]) / 2
        own = autos - crosses[:, None]
    use = (maker.first >= _FIRST_PERIODS) & (maker.last <= maker.last[-1] // 2)
    modes = maker.modes[use] * len(frames)
    # The outputs' own part is their scatter about their mean, whatever they have in common.
    own_fit = _Fit(maker, use, modes * max(outputs - 1, 1), has_white=True)
    own_fit.fit(own.mean(axis=1))
    shared_fit = None
    if crosses is not None:
        # Variance of the mean over all pairs of outputs, from what they have in common and what not.
        pairs = outputs * (outputs - 1)
        shared_fit = _Fit(maker, use, modes, has_white=False)
        noise = own_fit.spectrum
        shared_fit.fit(crosses, lambda s: np.sqrt(s**2 + 2 * s * noise / outputs + noise**2 / pairs))
    fits = [own_fit] if shared_fit is None else [own_fit, shared_fit]
    background = own_fit.spectrum if shared_fit is None else own_fit.spectrum + shared_fit.spectrum
    each = [own_fit.at_exponent(own[:, n], modes / background**2) for n in range(outputs)]
    mean = own_fit.at_exponent(own.mean(axis=1))
    curves = [white.value + power.value * own_fit.shape for white, power in each]
    shared_curve = None if shared_fit is None else shared_fit.powers[-1] * shared_fit.shape
    # White noise has the same power up to the highest frequency, half the pixel clock.
    to_variance = maker.resolution * (maker.modes.sum() + 0.5)
    return OneOverF(
        frames=len(frames),
        correlated=None if shared_fit is None or crosses is None else shared_fit.at_exponent(crosses)[-1],
        correlated_exponent=None if shared_fit is None else shared_fit.exponent,
        uncorrelated=[power for _, power in each],
        uncorrelated_mean=mean[1],
        uncorrelated_exponent=own_fit.exponent,
        white=[white.times(to_variance) for white, _ in each],
        chi2=own_fit.chi2,
        correlated_chi2=math.nan if shared_fit is None else shared_fit.chi2,
        column_noise=_column_noise(maker, frames, columns, fits),
        e_folds=maker.e_folds,
        frequencies=maker.frequencies,
        modes=maker.modes,
        auto=autos.mean(axis=0),
        cross=None if crosses is None else crosses.mean(axis=0),
        fitted_auto=np.array(curves) if shared_curve is None else np.array(curves) + shared_curve,
        fitted_cross=shared_curve,
    )


class _Fit:
    """White and 1/f^exponent noise, fitted to the mean of spectra over frames.

    Parameters
    ----------
    maker : SpectrumMaker
    use : ndarray of bool, 1D (bins)
        Bins that are fitted.
    modes : ndarray, 1D (bins in use)
        Number of independent values that the mean of each bin is from.
    has_white : bool
        False for what outputs have in common, in which white noise has no part.

    Attributes
    ----------
    exponent : Value
    powers : ndarray, 1D
        White noise per hertz (if there is any), and power per e-fold.
    shape : ndarray, 1D (bins)
        Spectrum of 1/f noise with power 1 per e-fold.
    spectrum : ndarray, 1D (bins in use)
        The fit, without 1/f noise where its power is below 0.
    chi2 : float
        Reduced chi-square.
    """

    def __init__(
        self, maker: SpectrumMaker, use: NDArray[np.bool_], modes: NDArray[np.float64], has_white: bool
    ) -> None:
        self._maker, self._use, self._modes, self._has_white = maker, use, modes, has_white
        self.exponent = _USUAL_EXPONENT
        self.chi2 = math.nan

    def fit(
        self,
        frames: NDArray[np.float64],
        noise: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda spectrum: spectrum,
    ) -> None:
        """Fit spectra, 2D (frames, bins); `noise` gives the 1-sigma noise of a mode from the fit in use."""
        mean = frames.mean(axis=0)[self._use]
        exponent = _USUAL_EXPONENT.value
        # The first weights are those of white noise.
        self.spectrum = np.full(
            mean.shape, max(float(np.median(mean)) * self._has_white, np.finfo(float).tiny)
        )
        prior = 1 / _USUAL_EXPONENT.error**2
        for _ in range(_ROUNDS):
            self._weights = self._modes / noise(self.spectrum) ** 2
            self._take(exponent)
            self.powers = _estimator(self._design, self._weights)[0] @ mean
            self.spectrum = self._design @ np.maximum(self.powers, self._least_powers)
            design = np.column_stack([self._design, max(self.powers[-1], 0.0) * self._steeper])
            normal = design.T @ (self._weights[:, None] * design)
            normal[-1, -1] += prior
            pull = design.T @ (self._weights * (mean - self._design @ self.powers))
            pull[-1] += (_USUAL_EXPONENT.value - exponent) * prior
            inverse = np.linalg.inv(normal)
            step = float(inverse[-1] @ pull)
            exponent = float(np.clip(exponent + np.clip(step, -0.3, 0.3), *_EXPONENT_LIMITS))
        freedom = max(len(mean) - len(self.powers) - 1, 1)
        self.chi2 = float(np.sum(self._weights * (mean - self._design @ self.powers) ** 2)) / freedom
        # How far each frame alone would move the exponent.
        moved = (frames[:, self._use] - mean) @ (self._weights[:, None] * design) @ inverse[-1]
        error = _mean(moved, math.sqrt(inverse[-1, -1])).error * self._widening
        self.exponent = Value(exponent, min(error, _USUAL_EXPONENT.error))

    def at_exponent(
        self, frames: NDArray[np.float64], weights: NDArray[np.float64] | None = None
    ) -> list[Value]:
        """Return the powers of spectra, 2D (frames, bins), at the exponent of the fit.

        Their errors include that of the exponent, and are widened where chi-square is above 1.
        """
        weights = self._weights if weights is None else weights
        data = frames[:, self._use]
        solve, covariance = _estimator(self._design, weights)
        found = data @ solve.T
        least = np.sqrt(np.diag(covariance))
        moved = []
        for sign in (1, -1):
            shape = self._maker.power_law(self.exponent.value + sign * _EXPONENT_STEP)[self._use]
            moved.append(_estimator(self._columns_of(shape), weights)[0] @ data.mean(axis=0))
        by_exponent = np.abs(moved[0] - moved[1]) / (2 * _EXPONENT_STEP) * self.exponent.error
        values = [_mean(found[:, n], least[n]) for n in range(len(least))]
        return [
            Value(value.value, math.hypot(value.error * self._widening, by_exponent[n]))
            for n, value in enumerate(values)
        ]

    def beyond(self, periods: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the fit at any frequency, in periods per frame."""
        white = self.powers[0] if self._has_white else 0.0
        power: NDArray[np.float64] = white + max(self.powers[-1], 0.0) * self._maker.power_law_at(
            periods, self.exponent.value
        )
        return power

    @property
    def _widening(self) -> float:
        return math.sqrt(max(self.chi2, 1.0))

    @property
    def _least_powers(self) -> list[float]:
        return [np.finfo(float).tiny, 0.0] if self._has_white else [0.0]

    def _take(self, exponent: float) -> None:
        self.shape = self._maker.power_law(exponent)
        up, down = (self._maker.power_law(exponent + sign * _EXPONENT_STEP) for sign in (1, -1))
        self._design = self._columns_of(self.shape[self._use])
        self._steeper = (up - down)[self._use] / (2 * _EXPONENT_STEP)

    def _columns_of(self, shape: NDArray[np.float64]) -> NDArray[np.float64]:
        columns = [np.ones_like(shape), shape] if self._has_white else [shape]
        return np.stack(columns, axis=1)


def _column_noise(
    maker: SpectrumMaker, frames: Sequence[FrameSpectra], columns: ColumnOffsets | None, fits: Sequence[_Fit]
) -> Value | None:
    if columns is None or columns.frames < 2:
        return None

    def spectrum(periods: NDArray[np.float64]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = np.sum([fit.beyond(periods) for fit in fits], axis=0)
        return total

    alternating = np.array([frame.alternating for frame in frames]) / 2
    parts = alternating_variance(maker, alternating, spectrum), columns.variance(maker, spectrum)
    return Value(sum(part.value for part in parts), math.hypot(*(part.error for part in parts)))


def _estimator(
    design: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrix from data to weighted least-squares parameters, and the covariance of these."""
    inverse = np.linalg.inv(design.T @ (weights[:, None] * design))
    covariance: NDArray[np.float64] = np.asarray(inverse, np.float64)
    return covariance @ design.T * weights, covariance


def _mean(values: NDArray[np.float64], least: float) -> Value:
    count = len(values)
    scatter = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    return Value(float(values.mean()), max(scatter, float(least)))
