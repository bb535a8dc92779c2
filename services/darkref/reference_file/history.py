"""HISTORY of a dark: what it is, how it was built, from what, and what it changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from services.darkref.combine.bad_groups import SAME_GROUP_FRACTION
from services.darkref.combine.telegraph import FALL_SIGMAS
from services.darkref.measure.bad_pixels import PixelCounts, Thresholds
from shared.nircam.configuration import ConfigurationKey
from shared.products.ramp import RampCalibration, SupersededRamp
from shared.products.reference import ResetSettling

#: What ERR is in a dark of flight mode, and of notebook mode.
STANDARD_ERROR = "standard error of the mean"
STANDARD_DEVIATION = "population standard deviation"
#: Lines of HISTORY, of 72 characters, that `flagged_pixels` and the differences may take. Room for them is
#: kept when the file is laid out.
SPARE_LINES = 60
#: What HISTORY says where rates contain the first groups as they are.
NO_SETTLING = "SETTLING: none that is significant after the reset."


@dataclass(frozen=True)
class HistoryInput:
    """What goes into the HISTORY of a dark.

    Attributes
    ----------
    key : ConfigurationKey
    exposures : sequence of str
    integrations : int
    sigma : float
        Width of the clip.
    clip : str
        A sentence: which clip was used for so many integrations, with its constants.
    min_valid : int
        Fewest measurements of a reliable (group, pixel).
    pixels : sequence of str
        Lines of `flagged_pixels`; empty until pixels are flagged.
    differences : sequence of str
        Lines of `services.darkref.measure.difference.describe_difference`.
    model_ramp : sequence of str
        Lines of `model_ramp_lines`; empty until it is known which pixels have one.
    left_out : sequence of str
        A line for every exposure or integration of the set that is not in the mean, or stands apart.
    settling : str
        `settling_line`.
    redelivered : sequence of str
        `redelivered_line` of each exposure that was made anew from a later or rawer file.
    calibration : sequence of str
        `calibration_lines`.
    """

    key: ConfigurationKey
    exposures: Sequence[str]
    integrations: int
    sigma: float
    clip: str
    min_valid: int
    pixels: Sequence[str] = ()
    differences: Sequence[str] = ("DIFFERENCES: replaces no earlier file.",)
    model_ramp: Sequence[str] = ()
    left_out: Sequence[str] = ()
    settling: str = NO_SETTLING
    redelivered: Sequence[str] = ()
    calibration: Sequence[str] = ()


def notebook_history(about: HistoryInput) -> list[str]:
    """Return HISTORY of a notebook-mode dark: method, software, data."""
    return [
        _description(about),
        "METHOD: notebook mode. Groups from the first JUMP_DET of an integration on are not used. Over "
        f"all integrations, per group and pixel: sigma clip ({about.sigma:g} standard deviations about the "
        "median, at most 5 rounds); SCI is the mean of what is left, in DN. No per-integration pedestal "
        "was removed.",
        f"ERR is the {STANDARD_DEVIATION} about that mean, in DN; it is not the error of the "
        "mean. Where no measurement was left, SCI and ERR are 0. DQ flags nothing.",
        f"SOFTWARE: {_software()}.",
        *about.calibration,
        *about.differences,
        *(f"DATA USED: {exposure}" for exposure in about.exposures),
        *about.redelivered,
        *about.left_out,
    ]


def flight_history(about: HistoryInput) -> list[str]:
    """Return HISTORY of a flight-mode dark: method, bad pixels, software, differences, data."""
    return [
        _description(about),
        "METHOD: flight mode. Groups with SATURATED, DO_NOT_USE or PERSISTENCE are not used. Each JUMP_DET "
        "of an integration of a pixel begins a new segment, and so does what follows an unused group. The "
        "measured ramp, and a level for each segment, are the least-squares solution of all integrations "
        "together. A step of one integration against the others that nobody flagged begins a segment too.",
        f"JUMP_DET in the same early group of {100 * SAME_GROUP_FRACTION:g} % of the integrations is no hit.",
        "PEDESTAL: group 0 of each integration and pixel was subtracted from all its groups, so the reset "
        "noise is in neither SCI nor ERR, and group 0 is 0 in both.",
        "Pixels with levels of their own, and sets of one integration, have the mean of each group instead, "
        "each integration up to its first flag.",
        f"CLIP: of these, per group and pixel, over all integrations ({about.integrations}). {about.clip}",
        *about.model_ramp,
        f"ERR is the {STANDARD_ERROR} (SCI), in DN; not the scatter of single integrations. The variance of "
        "a pixel is pooled over its groups. Where no measurement was left, SCI and ERR are 0.",
        f"Pixels with fewer than {about.min_valid} measurements in some group are UNRELIABLE_DARK in DQ.",
        "AVDRKCUR is the median rate over science pixels, hot pixels excluded, in e-/s.",
        about.settling,
        *about.pixels,
        f"SOFTWARE: {_software()}.",
        *about.calibration,
        *about.differences,
        *(f"DATA USED: {exposure}" for exposure in about.exposures),
        *about.redelivered,
        *about.left_out,
    ]


def model_ramp_lines(pixels: int | None, science: int) -> list[str]:
    """Return what SCI is, of how many pixels; nothing where there is no model.

    Parameters
    ----------
    pixels : int or None
        With a model ramp; None where there is none.
    science : int
        All science pixels.
    """
    if pixels is None:
        return []
    share = 100 * pixels / max(science, 1)
    return [
        f"MODEL RAMP: SCI of {pixels} pixels ({share:.3f} %) is a model, fitted to the measured ramp: a "
        "straight line, and the pixel's share of the settling after the reset where that is significant. "
        "Exposures longer than this dark are served by it: jwst continues a dark along its last two groups. "
        "Pixels that do not fit it, or are flagged for what they do, keep their measured ramp. Image "
        "MODELRAMP of the file of contributions says which pixels have the model."
    ]


def calibration_lines(ramps: Sequence[RampCalibration]) -> list[str]:
    """Return with what the exposures of a dark were calibrated, a few lines for each way that was.

    Parameters
    ----------
    ramps : sequence of RampCalibration
        Of the exposures in the dark.
    """
    lines: dict[tuple[str, ...], int] = {}
    for ramp in ramps:
        references = (
            f"{reftype} {name.rpartition('/')[2]}" for reftype, name in sorted(ramp.references.items())
        )
        before = [f"{keyword} {value} before" for keyword, value in sorted(ramp.calibrated_before.items())]
        here = [f"jwst {ramp.jwst_version}", f"CRDS context {ramp.crds_context}"]
        way = (
            ", ".join([*before, *here, *references]),
            *(
                f"PARAMETERS of {step}: {', '.join(f'{name} = {value}' for name, value in values.items())}."
                for step, values in ramp.step_parameters.items()
            ),
        )
        lines[way] = lines.get(way, 0) + 1
    return [
        line
        for (first, *parameters), count in lines.items()
        for line in (f"CALIBRATION of {count} exposure{'s' * (count != 1)}: {first}.", *parameters)
    ]


def redelivered_line(exposure: str, ramp: SupersededRamp) -> str:
    """Return which earlier ramp of an exposure is not in the dark, and why."""
    return f"REDELIVERED: {exposure}: {ramp}."


def settling_line(settling: ResetSettling | None) -> str:
    """Return what was left out of the rates for the settling after the reset."""
    if settling is None:
        return NO_SETTLING
    return (
        f"SETTLING: after the reset the median pixel settles by {abs(settling.amplitude_e):.3g} e- with a "
        f"time constant of {settling.time_constant_s:.3g} s. SCI contains it. It was fitted and left out of "
        f"AVDRKCUR and all rates, to which it would add {settling.removed_e_per_ks:.3g} +- "
        f"{settling.removed_error_e_per_ks:.2g} e- per 1000 s."
    )


def _description(about: HistoryInput) -> str:
    key = about.key
    return (
        f"DESCRIPTION: {key.detector} {key.subarray} {key.readpatt} mean dark ramp of {about.integrations} "
        f"integrations of {key.ngroups} groups."
    )


def _software() -> str:
    return ", ".join(f"{name} {metadata.version(name)}" for name in ("nircam-darks", "jwst", "numpy"))


def flagged_pixels(counts: PixelCounts, thresholds: Thresholds) -> list[str]:
    """Return lines about DQ: what is flagged, above which limits, and how many pixels."""
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
        f"{thresholds.noisy_noise:g} times the median pixel's and its own Poisson noise ({counts.noisy}), or "
        "TELEGRAPH. Noisy and telegraph pixels are not clipped: SCI is the mean of all their values.",
        f"TELEGRAPH: {number(counts.telegraph)}. Two steps down or more, of {FALL_SIGMAS:g} sigma of a step, "
        "or noisy with rates of two kinds over the integrations.",
    ]
