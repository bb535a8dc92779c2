"""HISTORY of a dark: what it is, how it was made, from what, and what it changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from services.darkref.flag_thresholds import PixelCounts, Thresholds
from shared.configuration import ConfigurationKey

#: What ERR of a flight-mode dark is, and of a reference-mode one.
STANDARD_ERROR = "standard error of the mean"
STANDARD_DEVIATION = "population standard deviation"
#: Lines of HISTORY, of 72 characters, that `flagged_pixels` and the differences may take: the room to keep
#: for them when the file is laid out.
SPARE_LINES = 60


@dataclass(frozen=True)
class Making:
    """What the HISTORY of a dark tells of.

    Attributes
    ----------
    key : ConfigurationKey
    exposures : sequence of str
    integrations : int
    sigma : float
        Width of the clip.
    clip : str
        A sentence: which clip was used for so many integrations, with its numbers.
    min_measurements : int
        Fewest measurements of a reliable (group, pixel).
    pixels : sequence of str
        Of `flagged_pixels`; empty while the pixels are not judged yet.
    differences : sequence of str
        Of `services.darkref.difference.describe`.
    """

    key: ConfigurationKey
    exposures: Sequence[str]
    integrations: int
    sigma: float
    clip: str
    min_measurements: int
    pixels: Sequence[str] = ()
    differences: Sequence[str] = ("DIFFERENCES: replaces no earlier file.",)


def reference_history(made: Making) -> list[str]:
    """Return HISTORY of a reference-mode dark: rule, software, data."""
    return [
        _description(made),
        "METHOD: reference mode. Groups from the first JUMP_DET of an integration on are not used. Over "
        f"all integrations, per group and pixel: sigma clip ({made.sigma:g} standard deviations about the "
        "median, at most 5 rounds); SCI is the mean of what is left, in DN. No per-integration pedestal "
        "was removed.",
        f"ERR is the {STANDARD_DEVIATION} about that mean, in DN; it is not the error of the "
        "mean. Where no measurement was left, SCI and ERR are 0. DQ flags nothing.",
        f"SOFTWARE: {_software()}.",
        *made.differences,
        *(f"DATA USED: {exposure}" for exposure in made.exposures),
    ]


def flight_history(made: Making) -> list[str]:
    """Return HISTORY of a flight-mode dark: rule, software, bad pixels, differences, data."""
    return [
        _description(made),
        "METHOD: flight mode. Each integration of a pixel is used up to its first group with JUMP_DET, "
        "SATURATED, DO_NOT_USE or PERSISTENCE; where that is group 0, it is left out.",
        "PEDESTAL: group 0 of each integration and pixel was subtracted from all its groups, so the reset "
        "noise is in neither SCI nor ERR, and group 0 is 0 in both.",
        f"CLIP: per group and pixel, over all integrations ({made.integrations}). {made.clip}",
        "SCI is the mean of what is left, in DN.",
        f"ERR is the {STANDARD_ERROR} (SCI), in DN; not the scatter of single integrations. Where no "
        "measurement was left, SCI and ERR are 0.",
        f"Pixels with fewer than {made.min_measurements} measurements in some group are UNRELIABLE_DARK in "
        "DQ.",
        "AVDRKCUR is the median rate over science pixels, hot pixels out, in e-/s.",
        *made.pixels,
        f"SOFTWARE: {_software()}.",
        *made.differences,
        *(f"DATA USED: {exposure}" for exposure in made.exposures),
    ]


def _description(made: Making) -> str:
    key = made.key
    return (
        f"DESCRIPTION: {key.detector} {key.subarray} {key.readpatt} mean dark ramp of {made.integrations} "
        f"integrations of {key.ngroups} groups."
    )


def _software() -> str:
    return ", ".join(f"{name} {metadata.version(name)}" for name in ("nircam-darks", "jwst", "numpy"))


def flagged_pixels(counts: PixelCounts, thresholds: Thresholds) -> list[str]:
    """Say what was flagged in DQ, from where on, and how many pixels."""
    often = f"{100 * thresholds.fraction:g} % or more of the integrations"

    def number(count: int) -> str:
        return f"{count} ({100 * count / max(counts.science, 1):.3f} %)"

    rates = [
        f"{name}: {number(count)}. Rate above the median by more than {sigma:g} sigma (above {cut:.3g} e-/s) "
        f"in {often} that measured the pixel to their end, and {least:g} e-/s or more in the mean ramp."
        for name, count, sigma, cut, least in (
            ("HOT", counts.hot, thresholds.hot_sigma, counts.hot_cut_e_per_s, thresholds.hot_e_per_s),
            ("WARM", counts.warm, thresholds.warm_sigma, counts.warm_cut_e_per_s, thresholds.warm_e_per_s),
        )
    ]
    settling = (
        "RC: not looked for, as the ramp has too few groups."
        if counts.rc is None
        else f"RC: {number(counts.rc)}. First difference above the later slope by more than "
        f"{thresholds.rc_sigma:g} sigma ({counts.rc_cut_e:.3g} e-), as many of its own standard errors, and "
        f"{thresholds.rc_excess:g} of that slope, or a jump in the second group of {often}."
    )
    return [
        f"DQ: pixels flagged, of {counts.science} science pixels. sigma is 1.4826 MAD over them. DO_NOT_USE "
        "is left to the mask reference file.",
        *rates,
        settling,
        f"DEAD: {number(counts.dead)}. Noise over integrations below {thresholds.dead_noise:g} of the median "
        "pixel's. Pixels that collect nothing but read with the usual noise are not found in darks.",
        f"UNRELIABLE_DARK: {number(counts.unreliable)}. Fewer than {thresholds.min_measurements} "
        f"measurements in some group ({counts.few_measurements} pixels), or noise over integrations above "
        f"{thresholds.noisy_noise:g} times the median pixel's and its own Poisson noise ({counts.noisy}).",
    ]
