"""The facts of noise's products, as their manifests carry them."""

from pydantic import BaseModel

from shared.configuration import ConfigurationKey

#: Object of ``exposure-noise``: the ramps of chosen pixels, for the single-ramp plot and the 3x3 grid.
PIXEL_RAMPS = "pixel_ramps.json"
#: Object of ``set-noise``: CDS noise per pixel, e-, float32 FITS image "CDSNOISE".
CDS_MAP = "cds_noise.fits"


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


class ExposureNoiseFacts(BaseModel):
    """Jump statistics of one exposure (product ``exposure-noise``), GROUPDQ & JUMP_DET.

    Attributes
    ----------
    jump_flags : int
        Flags over all integrations, groups and pixels.
    jump_pixels, jump_pixel_percent : int, float
        Pixels hit at least once, as the notebook counts them: over ysize * xsize.
    science_jump_flags, science_jump_pixels, science_jump_pixel_percent
        The same over science pixels only.
    flags_per_group : list of int
        Summed over integrations.
    expected_false_positive_percent : float
        Percentage of pixels flagged by noise alone at 4 sigma.
    median_dn : list of list of float
        Median over science pixels per (integration, group), DN.
    cds_noise_e : list of float
        CDS noise per integration, e-, for stability against time.
    integration_mjd : list of float
        Start of each integration, MJD UTC.
    seconds_per_integration : float
        From the first to the last group.
    """

    configuration: str
    exposure_id: str
    jump_flags: int
    jump_pixels: int
    jump_pixel_percent: float
    science_jump_flags: int
    science_jump_pixels: int
    science_jump_pixel_percent: float
    flags_per_group: list[int]
    expected_false_positive_percent: float
    median_dn: list[list[float]]
    cds_noise_e: list[float]
    integration_mjd: list[float]
    seconds_per_integration: float
    simulated: bool


class Measured(BaseModel):
    """A figure with its 1-sigma error, what is expected, and the verdict in words."""

    value: float | None
    error: float | None
    expected: float | None = None
    expected_sigma: float | None = None
    verdict: str


class EffectiveNoiseCurve(BaseModel):
    """Effective noise against the number of groups, e-; every list is as long as `groups`.

    `spatial_by_amplifier` and `temporal_by_amplifier` hold one such list an amplifier; the temporal
    ones are None below 10 ramps, and `temporal_refusal` then says so.
    """

    groups: list[int]
    seconds: list[float]
    theory: list[float]
    spatial: list[float]
    spatial_by_amplifier: list[list[float]]
    reference_pixels: list[float] | None
    temporal: list[float] | None
    temporal_by_amplifier: list[list[float]] | None
    temporal_refusal: str | None


class SetNoiseFacts(BaseModel):
    """Noise of a complete set (product ``set-noise``).

    Attributes
    ----------
    ramps : int
        Integrations of all exposures.
    cds_noise_by_amplifier_e : list of float
    cds_noise, spatial_effective_noise, temporal_effective_noise, jump_pixel_percent : Measured
        e- (per cent for the last); effective noise at all groups.
    jump_flags : Measured
        Science-pixel flags per ramp, with Poisson error.
    """

    configuration: str
    key: ConfigurationKey
    set_id: str
    exposures: list[str]
    ramps: int
    gain: float
    simulated: bool
    cds_noise: Measured
    cds_noise_by_amplifier_e: list[float]
    spatial_effective_noise: Measured
    temporal_effective_noise: Measured
    jump_flags: int
    jump_flags_error: float
    jump_pixel_percent: Measured
    curve: EffectiveNoiseCurve
    verdict: str
