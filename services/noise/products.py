"""The facts of noise's products, as their manifests carry them."""

from pydantic import BaseModel

from services.noise.jump_products import JumpEvents
from services.noise.set_products import Point, TheoryFit, Transient
from shared.configuration import ConfigurationKey

#: Object of ``exposure-noise``: a list of `PixelRamp`, first the nine of the 3x3 grid, row by row, then
#: those of the single pixels (one, in the middle of the grid, unless pixels were listed).
PIXEL_RAMPS = "pixel_ramps.json"
#: Object of ``set-noise``: CDS noise per pixel, e-, float32 FITS image "CDSNOISE".
CDS_MAP = "cds_noise.fits"
#: Object of ``set-noise``: `NoiseSpectrum`; only where a spectrum could be taken.
NOISE_SPECTRUM = "noise_spectrum.json"


class PixelRamp(BaseModel):
    """One pixel's ramp in one integration. `x`, `y` 0-based; `jumps` are the flagged groups.

    `slope` (DN/group) and `intercept` (DN) are the least-squares line over the groups before the
    first jump; None with fewer than two of them.
    """

    x: int
    y: int
    integration: int
    signal_dn: list[float]
    jumps: list[int]
    slope: float | None
    intercept: float | None


class Measured(BaseModel):
    """A figure with its 1-sigma error, what is expected, and the verdict in words."""

    value: float | None
    error: float | None
    expected: float | None = None
    expected_sigma: float | None = None
    verdict: str


class ExposureNoiseFacts(BaseModel):
    """Jump statistics of one exposure (product ``exposure-noise``), GROUPDQ & JUMP_DET.

    Every error is 1 sigma and counts independent events, not flags: neighbours are flagged together.

    Attributes
    ----------
    jump_flags : int
        Flags over all integrations, groups and pixels.
    jump_pixels, jump_pixel_percent : int, float
        Pixels hit at least once, as the notebook counts them: over ysize * xsize.
    science_jump_flags, science_jump_pixels, science_jump_pixel_percent
        The same over science pixels only.
    jump_events : int
        Groups of 8-connected flags; what carries on into the next group is one event.
    flags_per_group, science_flags_per_group : list of int
        Summed over integrations.
    expected_false_positive_percent, expected_false_positive_flags : float
        Percentage of pixels flagged by noise alone at the jump step's threshold (4 sigma; 6 for 3 groups
        and 5 for 4), and the number of flags over all pixels.
    live_seconds : float
        For how long a hit could be seen: first to last group of every integration, s.
    jump_pixels_judged : Measured
        Science pixels hit, per cent, against 5 to 10 per 1000 s in flight, over the live time.
    median_dn : list of list of float
        Median over science pixels per (integration, group), DN.
    amplifier_median_dn : list of list of list of float
        The same per (integration, group, amplifier).
    cds_noise_e : list of float
        CDS noise per integration, e-, for stability against time.
    integration_mjd : list of float
        Start of each integration, MJD UTC.
    seconds_per_integration : float
        From the first to the last group.
    events : JumpEvents or None
        What hit the detector; None where the jump step could not run, and in products of earlier versions.
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


class Trend(BaseModel):
    """A straight line against time: its slope, the 1-sigma error of that, and the scatter about it."""

    slope: float
    slope_error: float
    scatter: float


class Stability(BaseModel):
    """What changes from integration to integration of a set, in time order.

    Attributes
    ----------
    integration_mjd : list of float
        Start of each integration, MJD UTC.
    exposure_ids : list of str
        Exposure of each.
    median_dn : list of list of float
        Median over science pixels per (integration, group), DN.
    amplifier_median_dn : list of list of list of float
        The same per (integration, group, amplifier).
    dark_rate_e_per_ks, dark_rate_error_e_per_ks : list of float
        Median slope of each integration, e- per 1000 s. The error counts independent pixels only; what
        amplifiers drift as a whole is in the scatter.
    cds_noise_e : list of float
        Robust, over pixels; e-.
    dark_rate_per_hour, cds_noise_per_hour : Trend or None
        None with fewer than three integrations.
    amplifier_pedestal_per_hour : list of Trend or None
        An amplifier's median of group 0 against time, DN per hour.
    amplifier_ramp_per_second : list of Trend or None
        An amplifier's median, averaged over integrations, from group to group, DN/s; its scatter shows
        the reset's transient.
    transients : list of Transient
        First groups and first integrations against the rest; empty in products of earlier versions.
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


class EffectiveNoiseCurve(BaseModel):
    """Effective noise against the number of groups, e-; every list is as long as `groups`.

    `spatial_by_amplifier` and `temporal_by_amplifier` hold one such list an amplifier; the temporal
    ones are None below 10 ramps, and `temporal_refusal` then says so.
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


class SetNoiseFacts(BaseModel):
    """Noise of a complete set (product ``set-noise``).

    Attributes
    ----------
    ramps : int
        Integrations of all exposures.
    gain : float
        e-/DN; its own error is in no figure's error.
    cds_noise : Measured
        e-; temporal, over pairs of groups of all ramps, in total.
    cds_noise_median_removed : Measured
        e-; after each pair's median over the amplifier was taken away.
    cds_noise_by_amplifier_e, cds_noise_median_removed_by_amplifier_e : list of float
    spatial_effective_noise, temporal_effective_noise : Measured
        e-; at all groups.
    jump_flags, jump_flags_error : int, float
        Flags over all pixels, as GROUPDQ has them, summed over the set's exposures.
    jump_pixel_percent : Measured
        Pixels hit at least once over ysize * xsize, per cent, mean over exposures; as in the notebook.
    science_jump_flags, science_jump_flags_error, science_jump_pixel_percent
        The same over science pixels only.
    expected_false_positive_percent, expected_false_positive_flags : float
        Part of `jump_pixel_percent` and of `jump_flags` that noise alone is expected to make.
    notes : list of str
        How the figures were made, for a person.
    ktc_noise : Measured or None
        Reset noise of a pixel, e-; None, as all that follows, in products of earlier versions.
    ktc_noise_by_amplifier_e : list of float
    correlated_noise, uncorrelated_noise : Measured or None
        1/f noise of one group within a frame, rms, e-: what all amplifiers share, and what each has of
        its own (with one amplifier, all there is).
    uncorrelated_noise_by_amplifier_e : list of float
    white_noise : Measured or None
        What of the CDS noise neither 1/f noise nor dark current nor the converter's rounding makes, for
        one group of the typical pixel, e-.
    reference_cds_noise : Measured or None
        CDS noise of reference pixels, e-.
    theory_fit : TheoryFit or None
    hits_per_cm2_s : Measured or None
        Of all exposures together, see `JumpEvents`; None also where none could be seen.
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
