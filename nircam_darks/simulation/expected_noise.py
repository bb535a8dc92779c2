"""The noise that a configuration should show, measured on simulated ramps of read noise alone.

The 1/f noise that jwst's reference pixel correction leaves has no closed form. It is therefore measured on
noise-only ramps that go through that correction; Poisson noise and the rounding of the converter are
added in closed form. The statistics are robust ones over science pixels (median and 1.4826 MAD), taken
before rounding, because the MAD of whole numbers is a whole number.

Spatial effective noise is the width of a sum: each pixel's own rate, with its hot, warm and dead tails, and
noise that depends on the pixel. MADs of such parts do not add in quadrature (1 per cent of pixels far off
widens the MAD of the sum by 1.2 per cent, and that of a part by as much of that part alone), so the parts of
each pixel are drawn and added before the width is taken.
"""

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jwst.refpix.reference_pixels import correct_model
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels import RampModel

from nircam_darks.simulation.detector import SimulatedPixels
from nircam_darks.simulation.exposure import clocking_of, frames_per_integration
from nircam_darks.simulation.noise import ONE_OVER_F, ReadNoise
from nircam_darks.simulation.plan import SimulationPlan
from shared.nircam.dq import PixelFlag
from shared.statistics.robust import MAD_ERROR, MEDIAN_ERROR, median_and_sigma
from shared.statistics.verdicts import Value

#: Number of pixels x groups to draw, and minimum and maximum number of ramps. Reference pixel correction
#: takes much longer than drawing, so fewer ramps go through it; of a full frame, one.
_SAMPLES, _FEWEST, _MOST, _MOST_CORRECTED = 8_000_000, 4, 32, 8
_PLENTY = 1_000_000
#: Relative scatter of the variance that a single ramp shows, for lack of others to compare it with.
_SINGLE = 0.02


@dataclass(frozen=True)
class ExpectedNoise:
    """Noise of a configuration (e-); errors are the 1-sigma scatter with which one set of ramps shows it.

    Attributes
    ----------
    cds : Value
        Noise of the difference of neighbouring groups, per pixel in time, from all sources.
    cds_median_removed : Value
        The same after the median over science pixels has been subtracted from each difference.
    spatial, temporal : Value
        Effective noise with all groups: over the pixels of a ramp, and of a pixel over ramps.
    one_over_f_cds_variance : float
        Part of the square of `cds` that is due neither to white noise nor to rounding (e-^2).
    """

    cds: Value
    cds_median_removed: Value
    spatial: Value
    temporal: Value
    one_over_f_cds_variance: float


def expected_noise(
    plan: SimulationPlan, pixels: SimulatedPixels, ramps: int, rng: np.random.Generator
) -> ExpectedNoise:
    """Predict the noise of a set of `ramps` ramps of the plan's configuration.

    Effective noise is sigma(slope) (n-1) t_g with n = NGROUPS. Its Poisson part, f T 6(n^2+1)/(5n(n+1)),
    is Rauscher et al. 2007 (PASP 119, 768), equation 1.
    """
    n = plan.ngroups
    rounding = pixels.gain**2 / 12
    rounded_slope = rounding * 12 * (n - 1) / (n * (n + 1))
    seconds = plan.tgroup * (n - 1)
    slope_seconds = seconds * 6 * (n**2 + 1) / (5 * n * (n + 1))
    signal = _Signal(
        rise=pixels.rate * np.float32(seconds),
        noise=np.sqrt(pixels.rate * np.float32(slope_seconds) + np.float32(rounded_slope)),
        rng=rng.spawn(1)[0],
    )
    differences, slopes, spreads = _measure_ramps(plan, pixels, signal, rng)
    poisson_cds = pixels.bulk_rate * plan.tgroup
    poisson_slope = pixels.bulk_rate * slope_seconds

    drift, within = differences[:, 0] ** 2, differences[:, 1] ** 2
    slope_drift, slope_within = slopes[:, 0] ** 2, slopes[:, 1] ** 2
    count = ramps * (n - 1)
    white = float(np.median(pixels.white_noise[pixels.science])) ** 2 / plan.nframes
    return ExpectedNoise(
        cds=_root(drift + within, 2 * rounding + poisson_cds, count),
        cds_median_removed=_root(within, 2 * rounding + poisson_cds, count),
        spatial=_spatial(spreads, slope_within, int(pixels.science.sum()), ramps),
        temporal=_root(slope_drift + slope_within, rounded_slope + poisson_slope, ramps),
        one_over_f_cds_variance=max(float(np.mean(drift + within)) - 2 * white, 0.0),
    )


@dataclass(frozen=True)
class _Signal:
    """What the rise of each pixel holds besides read noise (e-): dark current, its noise and rounding."""

    rise: NDArray[np.float32]
    noise: NDArray[np.float32]
    rng: np.random.Generator

    def added_to(self, slope: NDArray[np.float32]) -> NDArray[np.float32]:
        drawn = self.rng.standard_normal(slope.shape, dtype=np.float32)
        return slope + self.rise + self.noise * drawn


def _measure_ramps(
    plan: SimulationPlan, pixels: SimulatedPixels, signal: _Signal, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Measure ramps of read noise (e-).

    Returns
    -------
    differences, slopes : ndarray, 2D (any, 2)
        Median and robust sigma of every group difference, and of every ramp's effective slope.
    spreads : ndarray, 1D (ramps,)
        Robust sigma of every ramp's effective slope with the signal added.
    """
    corrected = not pixels.science.all()
    model = _model(plan, pixels) if corrected else None
    at = np.arange(plan.ngroups) - (plan.ngroups - 1) / 2
    # Least squares slope per group times the (n - 1) groups that it spans.
    weights = at / np.sum(at**2) * (plan.ngroups - 1)
    differences, slopes, spreads = [], [], []
    for _ in range(_ramps(plan, corrected)):
        previous: NDArray[np.float32] | None = None
        slope = np.zeros(plan.shape, np.float32)
        # The reset noise cancels in differences, but not in a median over reference pixels, which then is the
        # noise of the one or two pixels in the middle.
        reset = np.float32(pixels.ktc) * rng.standard_normal(plan.shape, dtype=np.float32)
        for weight, group in zip(weights, _groups(plan, pixels, rng), strict=True):
            if model is not None:
                group = _corrected(model, group + reset)
            slope += np.float32(weight) * group
            if previous is not None:
                differences.append(_spread((group - previous)[pixels.science]))
            previous = group
        slopes.append(_spread(slope[pixels.science]))
        # Of all pixels: the rates of a detector are what they are, so a sample of them would be in error.
        with_signal = signal.added_to(slope)[pixels.science & ~pixels.dead]
        spreads.append(median_and_sigma(with_signal, dtype=np.float32)[1])
    return np.array(differences), np.array(slopes), np.array(spreads)


def _ramps(plan: SimulationPlan, corrected: bool) -> int:
    if plan.geometry.name == "FULL":
        return 1
    rows, columns = plan.shape
    enough = math.ceil(_SAMPLES / (plan.ngroups * rows * columns))
    return min(max(enough, _FEWEST), _MOST_CORRECTED if corrected else _MOST)


def _groups(
    plan: SimulationPlan, pixels: SimulatedPixels, rng: np.random.Generator
) -> Iterator[NDArray[np.float32]]:
    noise = ReadNoise(
        clocking_of(plan),
        pixels.white_noise,
        ONE_OVER_F[plan.device.channel],
        plan.nints * frames_per_integration(plan),
        rng,
    )
    clock = 1
    for _ in range(plan.ngroups):
        total = np.zeros(plan.shape, np.float32)
        for _ in range(plan.nframes):
            total += noise.frame(clock)
            clock += 1
        clock += plan.groupgap
        yield total / np.float32(plan.nframes)


def _model(plan: SimulationPlan, pixels: SimulatedPixels) -> RampModel:
    model = RampModel((1, 1, *plan.shape))
    geometry = plan.geometry
    model.meta.instrument.name = "NIRCAM"
    model.meta.instrument.detector = plan.detector
    model.meta.subarray.name = plan.subarray
    model.meta.subarray.xstart = geometry.substrt1
    model.meta.subarray.ystart = geometry.substrt2
    model.meta.subarray.xsize = geometry.subsize1
    model.meta.subarray.ysize = geometry.subsize2
    model.meta.subarray.fastaxis = plan.device.fastaxis
    model.meta.subarray.slowaxis = plan.device.slowaxis
    model.meta.exposure.noutputs = plan.outputs
    model.pixeldq = np.where(pixels.science, 0, PixelFlag.REFERENCE_PIXEL.mask).astype(np.uint32)
    return model


def _corrected(model: RampModel, group: NDArray[np.float32]) -> NDArray[np.float32]:
    model.data = group[None, None].copy()
    with errors_only("jwst"):
        # The defaults of RefPixStep; the step itself would need CRDS.
        correct_model(
            model,
            odd_even_columns=True,
            use_side_ref_pixels=True,
            side_smoothing_length=11,
            side_gain=1.0,
            odd_even_rows=True,
            conv_kernel_params={
                "refpix_algorithm": "median",
                "sirs_kernel_model": None,
                "sigreject": 4.0,
                "gaussmooth": 1.0,
                "halfwidth": 30,
            },
            siglimit=3.0,
        )
    corrected: NDArray[np.float32] = np.array(model.data[0, 0])
    return corrected


@contextlib.contextmanager
def errors_only(name: str) -> Iterator[None]:
    """Silence the logger `name`, except for errors."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _spread(values: NDArray[np.float32]) -> tuple[float, float]:
    # A prime stride, so that no column or row is favoured; half a million pixels are enough.
    values = np.ascontiguousarray(values[:: 7 if values.size > _PLENTY else 1])
    return median_and_sigma(values, dtype=np.float32)


def _spatial(
    spreads: NDArray[np.float64], read_noise: NDArray[np.float64], science: int, ramps: int
) -> Value:
    """Return the mean spread; the scatter is that of the median of `ramps` ramps and of the prediction.

    Parameters
    ----------
    spreads : ndarray, 1D
        Robust sigma of each ramp that was drawn (e-).
    read_noise : ndarray, 1D
        Variance of the part of it that is read noise (e-^2).
    science : int
        Number of pixels.
    """
    value = float(np.sqrt(np.mean(spreads**2)))
    if spreads.size > 1:
        scatter = float(np.std(spreads, ddof=1))
    else:
        drawn = value * MAD_ERROR / math.sqrt(science)
        scatter = math.hypot(drawn, _SINGLE * float(read_noise[0]) / (2 * value))
    return Value(value, scatter * math.sqrt(MEDIAN_ERROR**2 / ramps + 1 / spreads.size))


def _root(variances: NDArray[np.float64], added: float, count: int) -> Value:
    """Return sqrt(mean + added); the scatter is that of a set of `count` and that of the prediction."""
    variance = float(np.mean(variances)) + added
    scatter = float(np.std(variances, ddof=1)) if variances.size > 1 else float(variances[0]) * _SINGLE
    sigma_variance = scatter * math.sqrt(1 / count + 1 / variances.size)
    value = math.sqrt(variance)
    return Value(value, sigma_variance / (2 * value))
