"""Noise of power 1/f: what all outputs share, what each has of its own, and the white noise beside it.

From differences of two groups, whose spectrum is twice that of one. Fitted are, with noise of power A an
e-fold of frequency, white noise and A/f; as lines of known shape, so that a set's figure is the mean of its
frames' and its error their scatter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.noise.pixels import Pixels, Plane
from services.noise.spectrum import FrameSpectra, Readout, SpectrumMaker
from shared.medians import median_and_sigma

#: Samples whose spectra are taken of a set, and frames at least: of a full frame 12 pairs, of SUB640 120.
#: Then 1/f noise is known to 2 per cent and better, and more would take longer than all the rest.
_SAMPLES = 50_000_000
_FEWEST_FRAMES = 12
#: Pixels so many robust sigmas off are hot or were hit unnoticed; 1e-5 of a Gaussian's variance is there.
_CLIP = 5.0
#: Periods in a frame from which on 1/f is fitted: below, what is slower than a frame leaks in.
_FIRST_PERIODS = 3
#: Least part of an output's pixels that a frame's spectrum is taken from.
_LEAST_KNOWN = 0.25
#: Fits, each weighted by the one before; the third changes nothing.
_ROUNDS = 4


@dataclass(frozen=True)
class Fitted:
    """A fitted figure and its 1-sigma error."""

    value: float
    error: float


@dataclass(frozen=True)
class OneOverF:
    """Noise of one group, in the square of the planes' unit.

    Attributes
    ----------
    frames : int
        Differences of groups that the figures are from.
    correlated : Fitted or None
        Power per e-fold of frequency that all outputs share; None with one output.
    uncorrelated : list of Fitted
        That each output has of its own; with one output, all there is.
    uncorrelated_mean : Fitted
        Mean over outputs.
    white : list of Fitted
        Variance of white noise of each output, mean over its pixels.
    e_folds : float
        Of frequency, from one period a frame to half the pixel clock.
    within_frame : float
        Variance within a frame, about its mean, of noise with power 1 per e-fold.
    frequencies : ndarray, 1D (bins)
        Hz.
    modes : ndarray of int, 1D (bins)
    auto : ndarray, 2D (outputs, bins)
        Measured power spectrum of each output, per hertz.
    cross : ndarray, 1D (bins), or None
        The same of what all share.
    fitted_auto, fitted_cross : ndarray
        What was fitted to them.
    """

    frames: int
    correlated: Fitted | None
    uncorrelated: list[Fitted]
    uncorrelated_mean: Fitted
    white: list[Fitted]
    e_folds: float
    within_frame: float
    frequencies: NDArray[np.float64]
    modes: NDArray[np.int64]
    auto: NDArray[np.float64]
    cross: NDArray[np.float64] | None
    fitted_auto: NDArray[np.float64]
    fitted_cross: NDArray[np.float64] | None

    def rms(self, power: Fitted) -> Fitted:
        """Return the rms of noise of this power, from one period a frame to half the pixel clock.

        What is slower is an offset of the frame, or nearly, and cannot be told from one in it. 0 where the
        power came out below 0; its error is then that of a power of zero: the root of what 1 sigma would be.
        """
        variance, error = power.value * self.e_folds, power.error * self.e_folds
        rms = math.sqrt(max(variance, 0.0))
        return Fitted(rms, min(error / (2 * rms), math.sqrt(error)) if rms else math.sqrt(error))


class SpectrumPairs:
    """Spectra of some of a set's pairs of groups (0, 1), (2, 3), .., evenly chosen, one plane at a time.

    Parameters
    ----------
    readout : Readout
    pairs : int
        Of the whole set.
    """

    def __init__(self, readout: Readout, pairs: int) -> None:
        self._maker = SpectrumMaker(readout)
        frame = readout.samples * len(readout.outputs)
        self._wanted = min(max(_SAMPLES // frame, _FEWEST_FRAMES), pairs)
        self._pairs = pairs
        self._pair = 0
        self._found: list[FrameSpectra] = []

    def add(self, plane: Plane, pixels: Pixels) -> None:
        """Add the next plane, groups and integrations ascending."""
        if plane.group % 2 == 0:
            self._first = plane.signal
            return
        number = self._pair
        self._pair += 1
        # Evenly over the set, whatever the number of pairs in a ramp.
        if (number + 1) * self._wanted // self._pairs == number * self._wanted // self._pairs:
            return
        known = plane.alive & pixels.active
        difference = plane.signal - self._first
        difference[~known] = 0
        # Amplifier by amplifier, in memory that is given back: the transforms need it next.
        for columns in pixels.amplifiers:
            part = difference[:, columns][known[:, columns]]
            if part.size < _LEAST_KNOWN * difference[:, columns].size:
                return
            centre, sigma = median_and_sigma(part)
            del part
            stripe = difference[:, columns]
            stripe -= stripe.dtype.type(centre)
            # Whole numbers have a MAD of 0 where most are the same.
            known[:, columns] &= np.abs(stripe) <= _CLIP * max(sigma, 1.0)
        self._found.append(self._maker.of(difference, known))

    def fit(self) -> OneOverF | None:
        """Return the noise of one group; None where no frame has pixels enough."""
        return fit_one_over_f(self._maker, self._found) if self._found else None


def fit_one_over_f(maker: SpectrumMaker, frames: Sequence[FrameSpectra]) -> OneOverF:
    """Fit white and 1/f noise to the spectra of differences of two groups.

    Weighted least squares; a bin's variance is S^2 over its number of modes with the S that is fitted.
    Errors are the frames' scatter, and never less than those weights give.

    Parameters
    ----------
    maker : SpectrumMaker
        That made `frames`.
    frames : sequence of FrameSpectra
        At least one.
    """
    autos = np.array([frame.auto for frame in frames]) / 2
    crosses = None
    if all(frame.cross is not None for frame in frames):
        crosses = np.array([frame.cross for frame in frames]) / 2
    outputs = autos.shape[1]
    own = autos if crosses is None else autos - crosses[:, None]
    use = maker.first >= _FIRST_PERIODS
    design = np.stack([np.ones(use.sum()), maker.pink[use]], axis=1)
    shared_design = design[:, 1:]
    modes = maker.modes[use] * len(frames)

    # To begin with, as if all were white.
    mean_own = own.mean(axis=(0, 1))[use]
    fitted_own = np.full(mean_own.shape, max(float(np.median(mean_own)), np.finfo(float).tiny))
    fitted_cross = np.zeros_like(fitted_own)
    for _ in range(_ROUNDS):
        own_weights = modes / (fitted_own + fitted_cross) ** 2
        # Variance of the mean over every two outputs, for what is shared and what is not.
        pairs = max(outputs * (outputs - 1), 1)
        cross_variance = fitted_cross**2 + 2 * fitted_cross * fitted_own / outputs + fitted_own**2 / pairs
        cross_weights = modes / cross_variance
        fitted_own = _positive(design, _estimator(design, own_weights)[0] @ mean_own)
        if crosses is not None:
            estimate = _estimator(shared_design, cross_weights)[0] @ crosses.mean(axis=0)[use]
            fitted_cross = shared_design @ np.maximum(estimate, 0.0)

    solve, covariance = _estimator(design, own_weights)
    found = np.einsum("pb,fob->fop", solve, own[..., use])
    least = np.sqrt(np.diag(covariance))
    correlated = None
    shared_curve = None
    if crosses is not None:
        shared_solve, shared_covariance = _estimator(shared_design, cross_weights)
        powers = crosses[:, use] @ shared_solve[0]
        correlated = _mean(powers, math.sqrt(shared_covariance[0, 0]))
        shared_curve = correlated.value * maker.pink
    curves = found.mean(axis=0) @ np.stack([np.ones_like(maker.pink), maker.pink])
    # White noise has one power up to the highest frequency, half the clock's.
    to_variance = maker.resolution * (maker.modes.sum() + 0.5)
    return OneOverF(
        frames=len(frames),
        correlated=correlated,
        uncorrelated=[_mean(found[:, n, 1], least[1]) for n in range(outputs)],
        uncorrelated_mean=_mean(found[:, :, 1].mean(axis=1), least[1] / math.sqrt(outputs)),
        white=[_mean(found[:, n, 0] * to_variance, least[0] * to_variance) for n in range(outputs)],
        e_folds=maker.e_folds,
        within_frame=maker.within_frame,
        frequencies=maker.frequencies,
        modes=maker.modes,
        auto=autos.mean(axis=0),
        cross=None if crosses is None else crosses.mean(axis=0),
        fitted_auto=curves if shared_curve is None else curves + shared_curve,
        fitted_cross=shared_curve,
    )


def _estimator(
    design: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrix that takes data to the weighted least-squares parameters, and their covariance."""
    inverse = np.linalg.inv(design.T @ (weights[:, None] * design))
    covariance: NDArray[np.float64] = np.asarray(inverse, np.float64)
    return covariance @ design.T * weights, covariance


def _positive(design: NDArray[np.float64], parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a fitted spectrum to weight by: 1/f noise that came out below 0 has no part in it."""
    fitted: NDArray[np.float64] = design @ np.maximum(parameters, [np.finfo(float).tiny, 0.0])
    return fitted


def _mean(values: NDArray[np.float64], least: float) -> Fitted:
    count = len(values)
    scatter = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    return Fitted(float(values.mean()), max(scatter, float(least)))
