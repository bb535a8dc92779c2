"""The truth file: what was put into simulated exposures, and what a correct measurement should find."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.nircam.configuration import ConfigurationKey


class _Truth(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Expectation(_Truth):
    """A value, and the 1-sigma scatter with which a set like this one shows it."""

    value: float
    sigma: float


class ExposureTruth(_Truth):
    """One simulated exposure.

    Attributes
    ----------
    id : str
        File name without ``_uncal.fits``.
    hits : int
        Cosmic rays that entered a collecting pixel, before the first group included.
    jump_flags : Expectation
        GROUPDQ & JUMP_DET that jwst's jump step should set, over science pixels.
    jump_pixels : Expectation
        (integration, pixel)s flagged at least once, over science pixels.
    false_positive_flags : float
        The part of `jump_flags` that noise alone makes.
    pixels_above_4_sigma : int
        (integration, pixel)s whose deposited charge in one group difference exceeds 4 sigma.
    saturated_pixels : int
        (integration, pixel)s saturated, or beside one that is, at the last group.
    """

    file: str
    id: str
    start: str
    integrations: int
    hits: int
    snowballs: int
    jump_flags: Expectation
    jump_pixels: Expectation
    false_positive_flags: float
    pixels_above_4_sigma: int
    saturated_pixels: int


class ConfigurationTruth(_Truth):
    """One configuration: all its exposures together.

    Attributes
    ----------
    configuration : str
        `ConfigurationKey.slug`.
    dark_current_e_per_ks : float
        Median rate of the science pixels that are neither dead, warm nor hot, as drawn.
    dark_current_sigma_e_per_ks : float
        By how much an estimator over all pixels that are not evidently hot may differ: half of what the
        warm pixels add to the mean, which are too faint to be told from noise in a short set.
    read_noise_e : float
        White noise of one frame, median pixel.
    cds_noise_e : Expectation
        Of the difference of neighbouring groups, per pixel in time: white noise, the 1/f noise that
        survives reference pixel correction, Poisson noise and rounding.
    cds_noise_median_removed_e : Expectation
        The same after each difference's median over science pixels was taken away.
    spatial_effective_noise_e, temporal_effective_noise_e : Expectation
        sigma(slope) (n-1) t_g at all groups.
    hits_per_cm2_s : float
        Realised, over science pixels, resets left out.
    hit_rate_asked : float
    jump_flags_per_ramp, jump_pixel_percent : Expectation
        Over science pixels, per integration.
    threshold_sigma : float
        Two-sided threshold that the number of groups implies.
    """

    configuration: str
    key: ConfigurationKey
    ramps: int
    group_time: float
    gain: float
    ktc_e: float
    amplifiers: int
    science_pixels: int
    dead_pixels: int
    hot_pixels: int
    warm_pixels: int
    dark_current_e_per_ks: float
    dark_current_sigma_e_per_ks: float
    read_noise_e: float
    cds_noise_e: Expectation
    cds_noise_median_removed_e: Expectation
    spatial_effective_noise_e: Expectation
    temporal_effective_noise_e: Expectation
    scene: str
    hits: int
    hits_per_cm2_s: float
    hit_rate_asked: float
    jump_flags_per_ramp: Expectation
    jump_pixel_percent: Expectation
    false_positive_flags_per_ramp: float
    threshold_sigma: float
    exposures: list[ExposureTruth]


class Truth(_Truth):
    """Content of ``truth.json``."""

    pedigree: Literal["SIMULATION"] = "SIMULATION"
    method: str = Field(
        default=(
            "Dark rate, counts and hits: as drawn. Noise: robust statistics of noise-only ramps from the "
            "same generator, taken through jwst's reference pixel correction, plus closed forms for Poisson "
            "noise and rounding; for the spatial effective noise each pixel's own rate and noise are drawn "
            "and added before the width is taken. Jumps: probability of each deposited charge to pass the "
            "jump step's threshold, its neighbour rule, and false positives counted by running stcal's jump "
            "detection on white noise. Every sigma is 1 sigma."
        )
    )
    version: str = Field(default="", description="Of the simulation's method; empty before it was recorded")
    plans: list[dict[str, Any]] = Field(default=[], description="What was asked for, by configuration")
    configurations: list[ConfigurationTruth]
