"""The facts of darkref's product ``reference``, as its manifest carries them."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from services.darkref.verification_products import Verification
from shared.configuration import ConfigurationKey

#: Object beside the reference: N of measurements used per (group, y, x), uint16 FITS image "NMEAS".
CONTRIBUTIONS = "contributions.fits"
#: Dark current of every pixel, e- per 1000 s: float32 FITS image "DARKCURR" (y, x). In flight mode also
#: "AVDRKCUR", e-/s, from which the dark's Poisson noise is taken: see `pixel_flags.average_rates`.
DARK_CURRENT_MAP = "dark_current_map.fits"
#: Role of the member ramps among the manifest's inputs.
INPUT_ROLE = "ramp"
#: ... and of a reference that was given to compare with.
PREVIOUS_ROLE = "previous reference"


class ReferenceFacts(BaseModel):
    """A dark reference file and what it says.

    Attributes
    ----------
    file : str
        Name of the DarkModel object in the product.
    dark_current_e_per_ks, dark_current_error_e_per_ks : float
        Slope of the mean ramp times the gain over science pixels, hot pixels out; 1 sigma.
    expected_e_per_ks, expected_sigma_e_per_ks : float
        NRC-09's table for the channel.
    dark_current_by_integration : list of float
        e- per 1000 s for each integration, in time order; one in which every usable pixel was hit is
        left out.
    integration_mjd : list of float
        Start of each of those integrations, MJD UTC.
    amplifier_dark_current_e_per_ks : list of float or None
        One an output; None where it has no usable pixel.
    mean_ramp_dn : list of float
        Median over science pixels of SCI, per group, DN.
    mean_ramp_error_dn : list of float or None
        Median over science pixels of ERR, per group, DN; the report draws it where it is given.
    hot_pixels : int
        Science pixels left out of the dark current as hot: in the mean ramp, and in the mean of their
        integrations without a hit.
    unmeasured : int
        (group, pixel) places for which no measurement was left.
    clipped_fraction : float
        Part of the measurements that the sigma clip took out.
    ramps : list of str
        Store keys of the ramps it was made from, in the order of `exposures`.
    verification : Verification or None
        Every check; None where nobody verified it.
    groups_per_window, rows_per_window : int
        How the memory bound was kept.
    clip : str or None
        Which clip was used, in a sentence with its numbers. None, here and below: an earlier version made
        the product, or reference mode, which has no such number.
    err_is : str
        What ERR is: ``"population standard deviation"``, or ``"standard error of the mean"``.
    min_measurements : int or None
        Fewest measurements of a reliable (group, pixel).
    unreliable_pixels : int or None
        Science pixels with UNRELIABLE_DARK in DQ.
    flagged_pixels, flag_thresholds : dict or None
        `PixelCounts` and `Thresholds` of `services.darkref.flag_thresholds`.
    replaces : str or None
        Store key of the reference file that this one takes the place of, or the address it was given by.
    differences : list of str
        What changes against that one, as in HISTORY.
    """

    configuration: str
    key: ConfigurationKey
    set_id: str
    mode: str
    file: str
    exposures: list[str]
    integrations: int
    gain: float
    pedigree: str
    simulated: bool
    dark_current_e_per_ks: float
    dark_current_error_e_per_ks: float
    expected_e_per_ks: float
    expected_sigma_e_per_ks: float
    verdict: str
    dark_current_by_integration: list[float]
    integration_mjd: list[float]
    amplifier_dark_current_e_per_ks: list[float | None]
    mean_ramp_dn: list[float]
    mean_ramp_error_dn: list[float] | None = None
    group_time: float
    hot_pixels: int
    unmeasured: int
    clipped_fraction: float
    groups_per_window: int
    rows_per_window: int
    ramps: list[str]
    clip: str | None = None
    err_is: str = "population standard deviation"
    min_measurements: int | None = None
    unreliable_pixels: int | None = None
    flagged_pixels: dict[str, int | float | None] | None = None
    flag_thresholds: dict[str, int | float | None] | None = None
    replaces: str | None = None
    differences: list[str] = []
    verification: Verification | None = None


def is_rejected(facts: Mapping[str, Any]) -> bool:
    """Say whether a manifest's facts are those of a reference that failed its verification."""
    verification = facts.get("verification")
    return isinstance(verification, Mapping) and verification.get("accepted") is False
