"""The products of the noise service, as their manifests carry them.

``exposure-noise`` holds the jumps and levels of one exposure, ``set-noise`` the noise of a complete set.
Field names are keys of stored manifests, so they stay as they are.
"""

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator

from shared.nircam.configuration import ConfigurationKey
from shared.products.jumps import JumpEvents
from shared.products.reference import LeftOutExposure
from shared.statistics.verdicts import Measured, Verdict


def _nan_where_null(value: Any) -> Any:
    return math.nan if value is None else value


#: A point of a curve or a series; NaN where it could not be measured (null in JSON).
Point = Annotated[float, BeforeValidator(_nan_where_null)]


class Transient(BaseModel):
    """How far the first groups or integrations after a reset deviate from the rest of a set.

    Attributes
    ----------
    what, unit : str
        Such as ``first group`` and ``DN``.
    value, error : float or None
        Mean deviation over integrations or exposures, positive above the rest, and its 1-sigma error; None
        where it could not be measured.
    sigmas : float or None
        Absolute deviation over its error.
    said : str
        The same as a sentence, or why it could not be measured.
    """

    what: str
    unit: str
    value: float | None = None
    error: float | None = None
    sigmas: float | None = None
    said: str


class TheoryFit(BaseModel):
    """The theory curve fitted to the spatial effective noise, with read noise and dark current fixed.

    Attributes
    ----------
    p0_squared, p0_squared_error, p1, p1_error : float or None
        e-^2, 1 sigma; None where the fit is refused.
    p0, p0_error : float or None
        e-; None also where `p0_squared` is negative.
    usual_p0, usual_p1, held_read_noise_e, held_dark_e_per_s : float
        The usual values of the channel: of the two terms, and of what is fixed.
    curve : list of float or None
        The fitted curve at the groups of `EffectiveNoiseCurve`, e-.
    scatter : float or None
        Relative rms of the points about the curve.
    said : str
        The same as a sentence, or why the fit is refused.
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
    """One-sided power spectra of the noise of one group in the order of readout, e-^2/Hz.

    Attributes
    ----------
    pixel_seconds, line_overhead, line_seconds : float, int, float
        Time per pixel, overhead pixels after each line, and the time per line with them.
    frames : int
        Differences of groups that the spectra are from; halved, since each has the noise of two groups.
    frequencies_hz, modes : list
        Geometric mean of each bin, and the number of independent frequencies of a frame in it.
    amplifiers : list of list of float
        Spectrum of each amplifier.
    common : list of float or None
        Spectrum common to all amplifiers, from their cross spectra; may be negative. None with one amplifier.
    fitted_amplifiers, fitted_common
        White noise plus A/f^exponent, fitted to them.
    common_power_e2, own_power_e2, white_e2 and their errors
        Mean power in e-^2 per e-fold of frequency over the band, common and of each amplifier alone; the
        variance of white noise.
    common_exponent, own_exponent and their errors : float or None
        None with one amplifier, and in products of earlier versions, where it was taken to be 1.
    common_chi2, own_chi2 : float or None
        Reduced chi-square of the fits to `common`, and to what amplifiers have of their own.
    column_noise_e, column_noise_error_e : float or None
        Noise that columns have beside white and 1/f noise, rms of one group, e-.
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
    common_exponent: float | None = None
    common_exponent_error: float | None = None
    own_exponent: float | None = None
    own_exponent_error: float | None = None
    common_chi2: float | None = None
    own_chi2: float | None = None
    column_noise_e: float | None = None
    column_noise_error_e: float | None = None


#: Object of ``exposure-noise``: a list of `PixelRamp`, first the nine of the 3x3 grid, row by row, then those
#: of the chosen pixels (without any, the pixel at the centre of the grid).
PIXEL_RAMPS = "pixel_ramps.json"
#: Object of ``set-noise``: CDS noise per pixel, e-, float32 FITS image "CDSNOISE".
CDS_MAP = "cds_noise.fits"
#: Object of ``set-noise``: a `NoiseSpectrum`; absent where no spectrum could be taken.
NOISE_SPECTRUM = "noise_spectrum.json"


class PixelRamp(BaseModel):
    """The ramp of one pixel in one integration. `x` and `y` are 0-based; `jumps` are the flagged groups.

    `slope` (DN/group) and `intercept` (DN) are those of the least-squares line through the groups before the
    first jump; None with fewer than two such groups.
    """

    x: int
    y: int
    integration: int
    signal_dn: list[float]
    jumps: list[int]
    slope: float | None
    intercept: float | None


class ExposureNoiseResults(BaseModel):
    """Jumps (GROUPDQ & JUMP_DET), levels and CDS noise of one exposure: the product ``exposure-noise``.

    Every error is 1 sigma. Those of jumps count events, not flags, because a hit flags several pixels.

    Attributes
    ----------
    jump_flags : int
        Flags over all integrations, groups and pixels.
    jump_pixels, jump_pixel_percent : int, float
        Pixels hit at least once in any integration; the percentage is of all ysize * xsize pixels. The
        notebook's, of integration 0, is the figure `jump_pixel_percent_integration_0`.
    science_jump_flags, science_jump_pixels, science_jump_pixel_percent
        The same for science pixels only.
    jump_events : int
        Sets of 8-connected flags; a set that continues in the next group counts once.
    flags_per_group, science_flags_per_group : list of int
        Summed over integrations.
    expected_false_positive_percent, expected_false_positive_flags : float
        Percentage of pixels that noise alone flags at the threshold of the jump step (4 sigma; 6 with 3
        groups, 5 with 4), and the number of such flags over all pixels.
    live_seconds : float
        Time during which a hit is detectable: first to last group of every integration, s.
    jump_pixels_judged : Measured
        Percentage of science pixels hit, compared with 5 to 10 % per 1000 s of live time in flight.
    median_dn : list of list of float
        Median over science pixels per (integration, group), DN.
    amplifier_median_dn : list of list of list of float
        The same per (integration, group, amplifier).
    cds_noise_e : list of float
        CDS noise of each integration, e-.
    integration_mjd : list of float
        Start of each integration, MJD UTC.
    seconds_per_integration : float
        From the first to the last group.
    events : JumpEvents or None
        Cosmic-ray hits; None where the jump step could not run, and in products of earlier versions.
    figures : dict of str to Measured
        Figures without a field of their own, by their names in `shared.products.figures`.
    lost_integrations : list of int
        Integrations, 0-based, that were left out because ingest marks them DO_NOT_USE throughout. What is per
        integration is of the others.
    """

    configuration: str
    exposure_id: str
    jump_flags: int
    jump_flags_error: float
    jump_pixels: int
    jump_pixel_percent: float
    jump_pixel_percent_error: float
    science_jump_flags: int
    science_jump_flags_error: float
    science_jump_pixels: int
    science_jump_pixel_percent: float
    science_jump_pixel_percent_error: float
    jump_events: int
    flags_per_group: list[int]
    science_flags_per_group: list[int]
    expected_false_positive_percent: float
    expected_false_positive_flags: float
    live_seconds: float
    jump_pixels_judged: Measured
    median_dn: list[list[Point]]
    amplifier_median_dn: list[list[list[Point]]]
    cds_noise_e: list[Point]
    integration_mjd: list[float]
    seconds_per_integration: float
    simulated: bool
    events: JumpEvents | None = None
    figures: dict[str, Measured] = {}
    lost_integrations: list[int] = []


class Trend(BaseModel):
    """A straight line against time: its slope with 1-sigma error, and the scatter of the points about it.

    `visible` is the smallest slope that would be significant at 3 sigma, by Student's t; None in products of
    earlier versions.
    """

    slope: float
    slope_error: float
    scatter: float
    visible: float | None = None


class Stability(BaseModel):
    """The integrations of a set in time order: levels, dark rate, noise, and their drifts.

    Attributes
    ----------
    integration_mjd : list of float
        Start of each integration, MJD UTC.
    exposure_ids : list of str
        Exposure that each integration belongs to.
    median_dn : list of list of float
        Median over science pixels per (integration, group), DN.
    amplifier_median_dn : list of list of list of float
        The same per (integration, group, amplifier).
    dark_rate_e_per_ks, dark_rate_error_e_per_ks : list of float
        Median slope of each integration, e- per 1000 s, mean over amplifiers. The error is that of
        independent pixels and of the 1/f noise that moves whole amplifiers; NaN where nothing shows the
        latter. In products of versions before 4 it is that of independent pixels alone.
    cds_noise_e : list of float
        Robust standard deviation over pixels, e-.
    dark_rate_per_hour, cds_noise_per_hour : Trend or None
        None with fewer than three integrations.
    amplifier_pedestal_per_hour : list of Trend or None
        Median of group 0 of each amplifier against time, DN per hour.
    amplifier_ramp_per_second : list of Trend or None
        Median of each amplifier, averaged over integrations, from group to group, DN/s; its scatter shows
        the transient after the reset.
    transients : list of Transient
        First groups and integrations compared with the rest; empty in products of earlier versions.
    patterns : list of Transient
        A level that cycles over integrations, and amplifiers of which odd and even columns differ; only what
        is significant.
    """

    integration_mjd: list[float]
    exposure_ids: list[str]
    median_dn: list[list[Point]]
    amplifier_median_dn: list[list[list[Point]]]
    dark_rate_e_per_ks: list[Point]
    dark_rate_error_e_per_ks: list[Point]
    cds_noise_e: list[Point]
    dark_rate_per_hour: Trend | None
    cds_noise_per_hour: Trend | None
    amplifier_pedestal_per_hour: list[Trend | None]
    amplifier_ramp_per_second: list[Trend | None]
    transients: list[Transient] = []
    patterns: list[Transient] = []


class EffectiveNoiseCurve(BaseModel):
    """Effective noise against the number of groups, e-; every list is as long as `groups`.

    `spatial_by_amplifier` and `temporal_by_amplifier` hold one such list per amplifier. With fewer than 10
    ramps the temporal ones are None, and `temporal_refusal` gives the reason.
    """

    groups: list[int]
    seconds: list[float]
    theory: list[float]
    spatial: list[Point]
    spatial_by_amplifier: list[list[Point]]
    reference_pixels: list[Point] | None
    temporal: list[Point] | None
    temporal_by_amplifier: list[list[Point]] | None
    temporal_refusal: str | None


class SetNoiseResults(BaseModel):
    """Noise of a complete set: the product ``set-noise``.

    Attributes
    ----------
    ramps : int
        Integrations of all exposures that are in use.
    gain : float
        e-/DN. Its own error is not included in the errors of the figures.
    cds_noise : Measured
        e-; standard deviation in time over pairs of groups of all ramps.
    cds_noise_median_removed : Measured
        e-; the same after the median over the amplifier is subtracted from each pair.
    cds_noise_by_amplifier_e, cds_noise_median_removed_by_amplifier_e : list of float
    spatial_effective_noise, temporal_effective_noise : Measured
        e-; at all groups.
    jump_flags, jump_flags_error : int, float
        Flags in GROUPDQ over all pixels, summed over the exposures of the set.
    jump_pixel_percent : Measured
        Percentage of the ysize * xsize pixels hit at least once in any integration; mean over exposures. The
        notebook's, of integration 0, is the figure `jump_pixel_percent_integration_0`.
    science_jump_flags, science_jump_flags_error, science_jump_pixel_percent
        The same over science pixels only.
    expected_false_positive_percent, expected_false_positive_flags : float
        The part of `jump_pixel_percent` and of `jump_flags` expected from noise alone.
    notes : list of str
        How the figures were measured, in sentences.
    ktc_noise : Measured or None
        Reset noise of a pixel, e-. This and all fields below are None in products of earlier versions.
    ktc_noise_by_amplifier_e : list of float
    correlated_noise, uncorrelated_noise : Measured or None
        1/f noise of one group within a frame, rms, e-: the part common to all amplifiers, and that of each
        amplifier alone (with one amplifier, the whole).
    uncorrelated_noise_by_amplifier_e : list of float
    white_noise : Measured or None
        CDS noise of the typical pixel less 1/f noise, dark current and digitization noise, for one group, e-.
    reference_cds_noise : Measured or None
        CDS noise of reference pixels, e-.
    theory_fit : TheoryFit or None
    hits_per_cm2_s : Measured or None
        Hits of all exposures together, see `JumpEvents`; None also where no hit was detectable.
    figures : dict of str to Measured
        Figures without a field of their own, by their names in `shared.products.figures`.
    verdicts : dict of str to Verdict
        What `verdict` says in one line, by the names that it uses; empty in products of earlier versions.
    left_out_exposures : list of LeftOutExposure
        Exposures and integrations that were left out because they were never read, and those that stand
        apart, which are left out unless they are more than a fifth of the set.
    """

    configuration: str
    key: ConfigurationKey
    set_id: str
    exposures: list[str]
    ramps: int
    gain: float
    simulated: bool
    cds_noise: Measured
    cds_noise_by_amplifier_e: list[Point]
    cds_noise_median_removed: Measured
    cds_noise_median_removed_by_amplifier_e: list[Point]
    spatial_effective_noise: Measured
    temporal_effective_noise: Measured
    jump_flags: int
    jump_flags_error: float
    jump_pixel_percent: Measured
    science_jump_flags: int
    science_jump_flags_error: float
    science_jump_pixel_percent: Measured
    expected_false_positive_percent: float
    expected_false_positive_flags: float
    curve: EffectiveNoiseCurve
    stability: Stability
    notes: list[str]
    verdict: str
    ktc_noise: Measured | None = None
    ktc_noise_by_amplifier_e: list[Point] = []
    correlated_noise: Measured | None = None
    uncorrelated_noise: Measured | None = None
    uncorrelated_noise_by_amplifier_e: list[Point] = []
    white_noise: Measured | None = None
    reference_cds_noise: Measured | None = None
    theory_fit: TheoryFit | None = None
    hits_per_cm2_s: Measured | None = None

    figures: dict[str, Measured] = {}
    verdicts: dict[str, Verdict] = {}
    left_out_exposures: list[LeftOutExposure] = []


#: Object of ``set-noise``: a list of `EmulatedPattern`; only where patterns were asked for.
EMULATED_NOISE = "emulated_noise.json"


class EmulatedPattern(BaseModel):
    """Effective noise of a set's ramps in another readout pattern, emulated from RAPID.

    Frames are averaged after calibration, in floating point. The instrument averages raw frames and keeps
    whole numbers, and there the jump step has fewer groups in which to find hits.

    Attributes
    ----------
    pattern : str
    nframes, groupgap : int
        Frames averaged into a group, and frames dropped between two groups.
    refusal : str or None
        Why the pattern could not be emulated; then there is no curve.
    groups, seconds, spatial, theory : list
        Numbers of groups, the time from the first to the last of them (s), the spatial effective noise, and
        Rauscher's theory for as many frames per group (e-).
    error : float or None
        1-sigma error of the last point of `spatial`, e-.
    """

    pattern: str
    nframes: int
    groupgap: int
    refusal: str | None = None
    groups: list[int] = []
    seconds: list[float] = []
    spatial: list[Point] = []
    theory: list[float] = []
    error: float | None = None
