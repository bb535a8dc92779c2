"""Parts of the facts of set-noise, and what stands beside them."""

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator


def _nan_where_null(value: Any) -> Any:
    return math.nan if value is None else value


#: A point of a curve or a series; NaN where nothing could be measured, which is null in JSON.
Point = Annotated[float, BeforeValidator(_nan_where_null)]


class Transient(BaseModel):
    """How far what follows a reset lies off the rest of a set.

    Attributes
    ----------
    what, unit : str
        Such as ``first group`` and ``DN``.
    value, error : float or None
        Mean over integrations or exposures, positive where it lies above, and its 1-sigma error; None
        where it is not known.
    sigmas : float or None
        Size over error.
    said : str
        The same in one sentence, or why it is not known.
    """

    what: str
    unit: str
    value: float | None = None
    error: float | None = None
    sigmas: float | None = None
    said: str


class TheoryFit(BaseModel):
    """The theory curve fitted to the spatial effective noise, read noise and dark current held.

    Attributes
    ----------
    p0_squared, p0_squared_error, p1, p1_error : float or None
        e-^2, 1 sigma; None where the fit is refused.
    p0, p0_error : float or None
        e-; None too where `p0_squared` came out below 0.
    usual_p0, usual_p1, held_read_noise_e, held_dark_e_per_s : float
        The channel's usual values: of the terms, and of what is held.
    curve : list of float or None
        The fitted curve at the groups of `EffectiveNoiseCurve`, e-.
    scatter : float or None
        Root mean square of the points about the curve, relative.
    said : str
        The same in one sentence, or why it is refused.
    """

    p0_squared: float | None = None
    p0_squared_error: float | None = None
    p0: float | None = None
    p0_error: float | None = None
    p1: float | None = None
    p1_error: float | None = None
    usual_p0: float
    usual_p1: float
    held_read_noise_e: float
    held_dark_e_per_s: float
    curve: list[Point] | None = None
    scatter: float | None = None
    said: str


class NoiseSpectrum(BaseModel):
    """Power spectra of the noise of one group, one-sided, e-^2/Hz, along the time of the readout.

    Attributes
    ----------
    pixel_seconds, line_overhead, line_seconds : float, int, float
        Pixel clock, its overhead pixels after each line, and what a line takes with them.
    frames : int
        Differences of groups that the spectra are from; halved, since they hold the noise of two.
    frequencies_hz, modes : list
        Geometric mean of each bin, and how many independent frequencies of a frame are in it.
    amplifiers : list of list of float
        Of each amplifier.
    common : list of float or None
        Of what all amplifiers share, from their cross spectra; may be below 0. None with one amplifier.
    fitted_amplifiers, fitted_common
        White noise and A/f fitted to them.
    common_power_e2, own_power_e2, white_e2 and their errors
        A, e-^2 per e-fold of frequency, shared and of each amplifier's own; variance of white noise.
    """

    pixel_seconds: float
    line_overhead: int
    line_seconds: float
    frames: int
    frequencies_hz: list[float]
    modes: list[int]
    amplifiers: list[list[Point]]
    common: list[Point] | None
    fitted_amplifiers: list[list[Point]]
    fitted_common: list[Point] | None
    common_power_e2: float | None
    common_power_e2_error: float | None
    own_power_e2: list[float]
    own_power_e2_error: list[float]
    white_e2: list[float]
    white_e2_error: list[float]
