"""Darkref's product as its manifest records it: a dark reference file, its figures and its verification."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, model_validator

from shared.nircam.configuration import ConfigurationKey
from shared.statistics.verdicts import (
    Acceptance,
    HasVerdict,
    Measured,
    VerificationVerdict,
    with_acceptance,
)

#: Object beside the reference: number of measurements used per (group, y, x), uint16 FITS image "NMEAS".
CONTRIBUTIONS = "contributions.fits"
#: Dark current of every pixel, e- per 1000 s: float32 FITS image "DARKCURR" (y, x). In flight mode also
#: "AVDRKCUR", e-/s, from which the Poisson noise of the dark is taken: see
#: `services.darkref.measure.bad_pixels.average_rates`.
DARK_CURRENT_MAP = "dark_current_map.fits"
#: Change of the rate of every pixel against the reference that is replaced, e- per 1000 s: float32 FITS image
#: "DIFFRATE" (y, x); only where there was a reference to compare with.
DIFFERENCE_MAP = "difference.fits"
#: Role, among the manifest's inputs, of a reference that was given for comparison.
PREVIOUS_ROLE = "previous reference"


def json_numbers(values: dict[str, float | int | None]) -> dict[str, float | int | None]:
    """Return numbers that JSON can hold: None in place of NaN and infinity."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


class AmplifierResidual(BaseModel):
    """One amplifier of an exposure after subtraction of the dark; None where there are too few data.

    Attributes
    ----------
    amplifier : int
        From 1, in ascending order of columns.
    pixels : int
        Science pixels used.
    mean_residual_dn, rise_dn : float or None
        Mean residual, and its rise from the first group to the last, DN.
    read_noise_dn, cds_before_dn, cds_after_dn : float or None
        Read noise, and CDS noise before and after the subtraction, DN.
    scatter_dn, rise_scatter_dn : float or None
        Robust standard deviation over pixels of the last residual of the first integration, which contains
        kTC noise, and of its rise, which does not; DN.
    """

    amplifier: int
    pixels: int
    mean_residual_dn: float | None
    rise_dn: float | None
    read_noise_dn: float | None
    cds_before_dn: float | None
    cds_after_dn: float | None
    scatter_dn: float | None
    rise_scatter_dn: float | None


class LeaveOneOutResult(BaseModel):
    """What the dark_current step leaves of one exposure, with a dark made without that exposure.

    Attributes
    ----------
    exposure : str
    readpatt : str
    nframes : int
    integrations : int
    measurements : float
        N, the number of integrations averaged in a (group, pixel) of the reference.
    amplifiers : list of AmplifierResidual
    model_share : float
        Share of the reference's science pixels whose ramp is a model, which adds no noise to the exposure's.
    """

    exposure: str
    readpatt: str
    nframes: int
    integrations: int
    measurements: float
    amplifiers: list[AmplifierResidual]
    model_share: float = 0.0


#: `VerificationCheck.where` of a check of the file as a whole.
FILE = "file"


class VerificationCheck(BaseModel):
    """The result of one check of a reference.

    Attributes
    ----------
    name : str
    where : str
        ``"file"``, ``"detector"`` or ``"amplifier 3"``.
    passed : bool or None
        None if there are not enough data.
    required : bool
        Whether a failure decides about the reference.
    on_failure : Acceptance
        What a failure that decides makes of it: rejected, or held for a person's word.
    value, limit : float, str or None
        In `unit`; a number passes if its magnitude is not above the limit.
    detail : str
        What is wrong and what to do about it, or how the value was measured.
    """

    name: str
    where: str
    passed: bool | None
    required: bool = True
    on_failure: Acceptance = Acceptance.REJECTED
    value: float | str | None = None
    limit: float | str | None = None
    unit: str = ""
    detail: str = ""


class Verification(BaseModel):
    """All checks of a reference, and the verdict they lead to.

    Attributes
    ----------
    accepted : bool
        Whether `acceptance` is accepted.
    acceptance : Acceptance
        Products of earlier versions have `accepted` only, and are accepted or rejected.
    verdict : str
        `outcome` as a sentence for people.
    amplifiers : list of bool or None
        Whether each amplifier passed, by column; None if nothing could be checked.
    detector : bool
    checks : list of VerificationCheck
    left_out : LeaveOneOutResult or None
        Residuals by amplifier.
    measurements : float
        N, the number of integrations averaged in a (group, pixel) of the reference.
    """

    accepted: bool
    acceptance: Acceptance | None = None
    verdict: str
    amplifiers: list[bool | None]
    detector: bool
    checks: list[VerificationCheck]
    left_out: LeaveOneOutResult | None = None
    measurements: float

    _of_earlier_versions = model_validator(mode="before")(with_acceptance)

    @property
    def outcome(self) -> VerificationVerdict:
        """The verdict, computed from the checks so that products of every version have it."""
        known = self.acceptance or (Acceptance.ACCEPTED if self.accepted else Acceptance.REJECTED)
        return verification_verdict(self.checks, known)


def acceptance_of(checks: Sequence[VerificationCheck]) -> Acceptance:
    """Return what checks make of a reference: the worst of what those that failed and decide lead to."""
    outcomes = {check.on_failure for check in checks if check.passed is False and check.required}
    for worst in (Acceptance.REJECTED, Acceptance.HELD):
        if worst in outcomes:
            return worst
    return Acceptance.ACCEPTED


def verification_verdict(checks: Sequence[VerificationCheck], acceptance: Acceptance) -> VerificationVerdict:
    """Count the checks of a reference, and name those that failed or could not be made."""
    failed = [check for check in checks if check.passed is False and check.required]
    failed.sort(key=lambda check: check.on_failure != Acceptance.REJECTED)
    return VerificationVerdict(
        accepted=acceptance == Acceptance.ACCEPTED,
        acceptance=acceptance,
        passed=sum(check.passed is True for check in checks),
        checks=len(checks),
        failures=[_failure(check) for check in failed],
        undecided=list(dict.fromkeys(check.name for check in checks if check.passed is None)),
    )


def _failure(check: VerificationCheck) -> str:
    place = "" if check.where == FILE else f" of {check.where}"
    if isinstance(check.value, str) or check.value is None:
        wanted = f" is {check.value}, not {check.limit}" if check.limit is not None else ""
        return f"{check.name}{place}{wanted}"
    return f"{check.name}{place} {check.value:.4g} {check.unit} (limit {check.limit:.4g})"


class ResetSettling(BaseModel):
    """The settling of the median pixel after a reset, which was fitted and left out of all rates.

    Attributes
    ----------
    amplitude_e : float
        What has to settle at group 0, e-; negative where the signal rises.
    time_constant_s : float
    removed_e_per_ks, removed_error_e_per_ks : float
        What it would add to the dark current, e- per 1000 s, and 1 sigma of that.
    """

    amplitude_e: float
    time_constant_s: float
    removed_e_per_ks: float
    removed_error_e_per_ks: float


class LeftOutExposure(BaseModel):
    """An exposure or integration that is not in the mean, or that stands apart from its set.

    Attributes
    ----------
    exposure : str
    integration : int or None
        Within the exposure, 0-based; None if it is the whole exposure.
    quantity : str
        What says so: ``"dark rate"``, ``"noise"``, ``"level"``, ``"jump rate"``; ``"telemetry"`` where it was
        never read, ``"usable pixels"`` where flags leave no science pixel of it.
    value, expected, scatter : float or None
        In `unit`: of the integration, the mean of those that agree, and their standard deviation.
    sigma : float or None
        The difference in units of that scatter.
    left_out : bool
        False if it is in the mean all the same, because more than a fifth of the set stands apart.
    """

    exposure: str
    integration: int | None = None
    quantity: str
    value: float | None = None
    expected: float | None = None
    scatter: float | None = None
    sigma: float | None = None
    unit: str = ""
    left_out: bool = True

    @property
    def name(self) -> str:
        """The exposure, with the number of the integration from 1."""
        if self.integration is None:
            return self.exposure
        return f"{self.exposure}, integration {self.integration + 1}"

    def __str__(self) -> str:
        if self.quantity == "telemetry":
            return f"{self.name} was never read"
        if self.value is None or self.expected is None or self.scatter is None:
            return f"{self.name} has no usable pixel"
        return (
            f"{self.name} stands apart: {self.quantity} {self.value:.4g} {self.unit}, the others "
            f"{self.expected:.4g} ± {self.scatter:.2g}"
        )


class FigureChange(BaseModel):
    """One figure of a reference beside that of the reference that it replaces; None where it is unknown.

    Attributes
    ----------
    figure, unit : str
        Such as ``dark current`` and ``e-/1000 s``, or ``HOT`` and ``pixels``.
    before, before_error, after, after_error : float or None
        Of the reference that is replaced, and of the new one; 1 sigma.
    change, change_error : float or None
        The second less the first, from the pixels of both where they were compared pixel by pixel.
    newly, no_longer : int or None
        Of a flag: pixels that only the new reference has it in, and only the other one.
    """

    figure: str
    unit: str
    before: float | None = None
    before_error: float | None = None
    after: float | None = None
    after_error: float | None = None
    change: float | None = None
    change_error: float | None = None
    newly: int | None = None
    no_longer: int | None = None


class ReferenceResults(HasVerdict, BaseModel):
    """A dark reference file and its figures.

    Attributes
    ----------
    file : str
        Name of the DarkModel object in the product.
    dark_current_e_per_ks, dark_current_error_e_per_ks : float
        Slope of the mean ramp times the gain over science pixels, hot pixels out; 1 sigma.
    expected_e_per_ks, expected_sigma_e_per_ks : float
        Expectation for the channel, from the table of the NRC-09 notebook.
    comparison, verdict : Verdict, str
        The dark current against that expectation, and the same as a sentence.
    dark_current_by_integration : list of float
        e- per 1000 s of each integration, in time order, without integrations in which every usable pixel was
        hit.
    integration_mjd : list of float
        Start of each of those integrations, MJD UTC.
    amplifier_dark_current_e_per_ks : list of float or None
        One per output; None for an output without usable pixels.
    mean_ramp_dn : list of float
        Median over science pixels of SCI, per group, DN.
    mean_ramp_error_dn : list of float or None
        Median over science pixels of ERR, per group, DN; the report draws it if it is given.
    hot_pixels : int
        Science pixels excluded from the dark current as hot, both in the mean ramp and in the mean of their
        integrations without a hit.
    unmeasured : int
        Number of (group, pixel) without any measurement.
    clipped_fraction : float
        Fraction of the measurements that the sigma clip removed.
    ramps : list of str
        Store keys of the ramps, in the order of `exposures`.
    verification : Verification or None
        None if the reference was not verified.
    groups_per_window, rows_per_window : int
        Size of the windows in which the ramps were read, from the memory limit.
    clip : str or None
        The clip that was used, in a sentence with its numbers. None, here and below, for a product of an
        earlier version or of notebook mode, which has no such number.
    err_is : str
        Meaning of ERR: ``"population standard deviation"``, or ``"standard error of the mean"``.
    min_measurements : int or None
        Minimum number of measurements of a reliable (group, pixel).
    unreliable_pixels : int or None
        Science pixels with UNRELIABLE_DARK in DQ.
    flagged_pixels, flag_thresholds : dict or None
        `PixelCounts` and `Thresholds` of `services.darkref.measure.bad_pixels`.
    replaces : str or None
        Store key or given address of the reference file that this one replaces.
    differences : list of str
        Differences from that reference, as in HISTORY.
    figures : dict of str to Measured
        Figures without a field of their own, by their names in `shared.products.figures`.
    reset_settling : ResetSettling or None
        None where no settling after the reset was significant.
    integrations_in_use : int or None
        How many of the `integrations` are in the mean; None for a product of an earlier version.
    left_out_exposures : list of LeftOutExposure
        The others, and what stands apart without being left out.
    too_few_to_compare : bool
        Whether there were too few integrations to tell which of them stands apart.
    amplifier_dark_current_error_e_per_ks : list of float or None
        1 sigma of `amplifier_dark_current_e_per_ks`; empty for a product of an earlier version.
    changes : list of FigureChange
        Rate, noise and flags beside those of the reference that is replaced; empty where nothing is.
    model_ramp_pixels : int or None
        Science pixels whose SCI is the model of their ramp; None where there is no model (notebook mode, a
        single integration).
    unflagged_steps : int or None
        Steps of one integration against the others that nobody had flagged.
    clipped_mean_pixels : int or None
        Pixels that have the clipped mean of each group in place of the segments between hits.
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
    figures: dict[str, Measured] = {}
    reset_settling: ResetSettling | None = None
    integrations_in_use: int | None = None
    left_out_exposures: list[LeftOutExposure] = []
    too_few_to_compare: bool = False
    amplifier_dark_current_error_e_per_ks: list[float | None] = []
    changes: list[FigureChange] = []
    model_ramp_pixels: int | None = None
    unflagged_steps: int | None = None
    clipped_mean_pixels: int | None = None

    @property
    def in_use(self) -> int:
        """How many integrations are in the mean."""
        return self.integrations if self.integrations_in_use is None else self.integrations_in_use

    @property
    def mode_name(self) -> str:
        """The mode as settings name it; manifests have always called notebook mode ``reference``."""
        return "notebook" if self.mode == "reference" else self.mode


def stored_acceptance(results: Mapping[str, Any]) -> Acceptance | None:
    """Return what the verification in a manifest's results came to; None without one.

    It is read from the plain results, as whoever walks a store asks it of every reference.
    """
    verification = with_acceptance(results.get("verification"))
    known = verification.get("acceptance") if isinstance(verification, Mapping) else None
    return None if known is None else Acceptance(known)
