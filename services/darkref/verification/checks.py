"""Whether a dark reference is fit for use: every check with its figure and its limit, and the verdict.

Limits, and why:

- Enough measured (`verification.measured_share`), dark current and read noise as expected
  (`verification.expectations`), a flat image (`verification.flatness`).
- Mean residual and rise of an exposure that was left out (`verification.leave_one_out`): smaller than the
  noise of one read of that exposure, CDS over sqrt(2), per amplifier. The scatter of pixels would not do, as
  kTC noise makes it five times as wide; nor would the standard error of the median, which is 0.1 e- or less,
  while 1/f noise moves whole amplifiers by 0.4 to 1.8 e- (simulated, 1 sigma). That is a sixth of the limit
  or less, so a good reference practically never fails.
- Noise of that exposure after the subtraction: within 5 % of what it was before, times sqrt(1 + 1/N) for a
  mean over N integrations.
- Its CDS noise: as `verification.expectations` has it for the amplifier. Without such an exposure the noise
  of SCI itself times sqrt(N) is held against the same range, 25 % wider at either end.
- Noise of SCI itself, and what ERR says: within 25 % of that exposure's noise / sqrt(N). The figure comes
  from one exposure, and the clip and the hits move it by some per cent; a factor of two is far outside. Where
  most ramps of an amplifier are models, they must be smooth, to a quarter of that noise, and ERR must be the
  error of a fit to as many groups.
- Hot pixels that DQ does not flag: hot is here twice what the flag requires (10 robust sigmas and 1 e-/s), so
  that no borderline pixel decides; none, or 1 in 10^4 of the science pixels. In notebook mode, which flags
  nothing by definition, this is recorded and decides nothing.

Every check is about one amplifier, the detector, or the file. An amplifier passes with its checks, the
detector with its amplifiers and its own checks, the file with the detector and its own checks; a file that
passes is accepted. What is broken, unmeasured or of a wrong noise is rejected; what is only unlike what is
expected (rate, flatness, exposures that stand apart) is held for a person's word. A check without enough data
is recorded as such, named in the verdict, and decides nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from services.darkref.measure.bad_pixels import Thresholds
from services.darkref.measure.model_ramp import POISSON_OF_LINE
from services.darkref.reference_file.reader import ReferencePlanes
from services.darkref.verification.certify import Violation
from services.darkref.verification.expectations import ReadNoiseRange
from shared.nircam.configuration import KEYWORDS, ConfigurationKey
from shared.nircam.detectors import detectors
from shared.nircam.dq import PixelFlag
from shared.nircam.geometry import amplifiers, science_pixels
from shared.products.reference import (
    FILE,
    AmplifierResidual,
    LeaveOneOutResult,
    Verification,
    VerificationCheck,
    acceptance_of,
    verification_verdict,
)
from shared.statistics.robust import median_and_sigma
from shared.statistics.verdicts import Acceptance

#: What a check is about, if not an amplifier or the file.
DETECTOR = "detector"


@dataclass(frozen=True)
class ReferenceBasis:
    """What a reference was made from, as far as its checks need it.

    Attributes
    ----------
    gain : float
        e-/DN.
    n_valid : float
        N: the usual number of integrations behind a (group, pixel) of it.
    standard_error : bool
        Whether ERR is the standard error of the mean of values without pedestals (flight mode), or the
        population standard deviation of values with them (notebook mode).
    read_noise : list of ReadNoiseRange
        What each amplifier should have, from `services.darkref.verification.expectations`.
    set_checks : list of VerificationCheck
        Of the set itself: what was measured of it, its dark current and its image.
    cds : list of float
        CDS noise of the integrations about their mean ramp, DN, of each amplifier; empty where it is not
        known.
    model_variance : float or None
        Variance of the last group of the median model ramp for noise of 1 DN; None for that of a straight
        line.
    """

    gain: float
    n_valid: float
    standard_error: bool
    read_noise: list[ReadNoiseRange]
    set_checks: list[VerificationCheck] = field(default_factory=list)
    cds: list[float] = field(default_factory=list)
    model_variance: float | None = None


def roll_up(
    checks: list[VerificationCheck], outputs: int, left_out: LeaveOneOutResult | str, n_valid: float
) -> Verification:
    """Combine checks into one verdict.

    Parameters
    ----------
    checks : list of VerificationCheck
    outputs : int
        Number of amplifiers.
    left_out : LeaveOneOutResult or str
        Recorded with the verdict; a string says why there is none.
    n_valid : float
        N, recorded likewise.
    """
    by_amplifier = [_together(checks, f"amplifier {n}") for n in range(1, outputs + 1)]
    acceptance = acceptance_of(checks)
    return Verification(
        accepted=acceptance == Acceptance.ACCEPTED,
        acceptance=acceptance,
        verdict=str(verification_verdict(checks, acceptance)),
        amplifiers=by_amplifier,
        detector=_together(checks, DETECTOR) is not False and False not in by_amplifier,
        checks=checks,
        left_out=None if isinstance(left_out, str) else left_out,
        measurements=n_valid,
    )


def _together(checks: Sequence[VerificationCheck], where: str) -> bool | None:
    outcomes = [
        check.passed
        for check in checks
        if check.where == where and check.required and check.passed is not None
    ]
    return all(outcomes) if outcomes else None


#: With fewer integrations, a reference says too little about the exposure that was left out of it.
LEAST_INTEGRATIONS = 4
#: Relative, of the expected noise.
_NOISE_LIMIT = 0.05
_OWN_NOISE_LIMIT = 0.25
#: Of the noise that a measured ramp would have: what a model ramp may have of it, which has none of its own.
_MODEL_NOISE_LIMIT = 0.25
_SAYS_HOT = PixelFlag.HOT | PixelFlag.WARM | PixelFlag.UNRELIABLE_DARK
_HOT_FACTOR = 2.0
#: Of the science pixels: hits that the jump step missed in most integrations look like hot pixels too. Of
#: simulated darks of 160 x 160 pixels one in three had one such pixel (docs/science-validation.md).
_HOT_FRACTION = 1e-4
#: Fields of the configuration that are not checked: TFRAME is no keyword of CRDS.
_UNCHECKED = ("tframe",)


def run_checks(
    key: ConfigurationKey,
    header: Mapping[str, Any],
    violations: Sequence[Violation],
    planes: ReferencePlanes | str,
    left_out: LeaveOneOutResult | str,
    basis: ReferenceBasis,
) -> Verification:
    """Check a reference, and decide whether it is accepted, held or rejected.

    Parameters
    ----------
    key : ConfigurationKey
        Of the exposures that it was built from.
    header : mapping
        Its primary header.
    violations : sequence of Violation
        From `services.darkref.verification.certify.violations`.
    planes : ReferencePlanes or str
        Its planes, or why there are none.
    left_out : LeaveOneOutResult or str
        What it leaves of an exposure that is not in it, or why there is none.
    basis : ReferenceBasis
    """
    checks = _rules(violations) + _keywords(key, header)
    if isinstance(planes, str):
        checks.append(VerificationCheck(name="arrays", where=FILE, passed=False, detail=planes))
    else:
        checks += _arrays(planes, basis.standard_error)
        checks.append(_hot_pixels(key, planes, basis.gain, decisive=basis.standard_error))
    checks += basis.set_checks
    if isinstance(left_out, str):
        checks.append(
            VerificationCheck(name="left-out exposure", where=DETECTOR, passed=None, detail=left_out)
        )
        if not isinstance(planes, str):
            checks += _read_noise_of_sci(key, planes, basis)
    else:
        amplifier_columns = amplifiers(key)
        for amplifier, expected in zip(left_out.amplifiers, basis.read_noise, strict=True):
            checks += _residuals(amplifier, left_out, expected, basis.gain)
            if not isinstance(planes, str):
                columns = amplifier_columns[amplifier.amplifier - 1]
                checks += _own_noise(amplifier, left_out, planes, columns, key, basis)
    return roll_up(checks, key.noutputs, left_out, basis.n_valid)


def _rules(violations: Sequence[Violation]) -> list[VerificationCheck]:
    checks = []
    for by in ("CRDS certify", "strict DarkModel"):
        broken = [violation for violation in violations if violation.by == by]
        checks += [
            VerificationCheck(name=f"{by}: {rule.about}", where=FILE, passed=False, detail=str(rule))
            for rule in broken
        ]
        if not broken:
            checks.append(VerificationCheck(name=by, where=FILE, passed=True, detail="every rule is kept"))
    return checks


def _keywords(key: ConfigurationKey, header: Mapping[str, Any]) -> list[VerificationCheck]:
    detector = detectors()[key.detector]
    expected = {KEYWORDS[field]: value for field, value in key if field not in _UNCHECKED}
    expected |= {"FASTAXIS": detector.fastaxis, "SLOWAXIS": detector.slowaxis}
    checks = []
    for keyword, limit in expected.items():
        value = header.get(keyword)
        detail = "" if value == limit else (
            f"the reference has {keyword} = {value!r}, the exposures it was built from {limit!r}; CRDS would "
            "give it to the wrong data: correct the keyword and build the reference again"
        )  # fmt: skip
        checks.append(
            VerificationCheck(
                name=f"keyword {keyword}",
                where=FILE,
                passed=value == limit,
                value=None if value is None else str(value),
                limit=str(limit),
                detail=detail,
            )
        )
    return checks


def _arrays(planes: ReferencePlanes, pedestal_free: bool) -> list[VerificationCheck]:
    bad = planes.not_finite
    checks = [
        VerificationCheck(
            name="finite arrays",
            where=FILE,
            passed=bad == 0,
            value=bad,
            limit=0,
            unit="values",
            detail=f"SCI or ERR has {bad} values that are not finite or, in ERR, negative" if bad else "",
        )
    ]
    if pedestal_free:
        worst = float(np.nanmax(np.abs(planes.first))) if planes.first.size else 0.0
        checks.append(
            VerificationCheck(
                name="first group zero",
                where=FILE,
                passed=worst == 0,
                value=worst,
                limit=0.0,
                unit="DN",
                detail="SCI of the first group is not 0, so the dark_current step would shift every ramp"
                if worst
                else "",
            )
        )
    return checks


def _hot_pixels(
    key: ConfigurationKey, planes: ReferencePlanes, gain: float, decisive: bool
) -> VerificationCheck:
    science = science_pixels(key) & np.isfinite(planes.rate)
    rates = planes.rate[science].astype(float) * gain / key.group_time
    if rates.size == 0:
        return VerificationCheck(
            name="unflagged hot pixels", where=DETECTOR, passed=None, detail="no science pixel"
        )
    middle, sigma = median_and_sigma(rates)
    usual = Thresholds()
    cut = middle + _HOT_FACTOR * max(usual.hot_sigma * sigma, usual.hot_e_per_s)
    # The error of a clipped mean alone makes no hot pixel: the error of a slope is below ERR / (groups - 1),
    # and in notebook mode ERR is a scatter.
    error = planes.error[science].astype(float) * gain / (key.group_time * max(key.ngroups - 1, 1))
    hot = (rates > cut) & (rates - middle > usual.hot_sigma * error)
    # A pixel of which a hit and its persistence left only a few groups is unreliable, whatever their slope.
    unflagged = int((hot & ((planes.dq[science] & _SAYS_HOT.mask) == 0)).sum())
    limit = int(_HOT_FRACTION * rates.size)
    return VerificationCheck(
        name="unflagged hot pixels",
        where=DETECTOR,
        passed=unflagged <= limit,
        required=decisive,
        value=unflagged,
        limit=limit,
        unit="pixels",
        detail=f"of {int(hot.sum())} pixels above {cut:.3g} e-/s, {unflagged} are neither HOT nor WARM nor "
        "UNRELIABLE_DARK in DQ"
        + ("" if unflagged <= limit else "; flag them (flight mode does) and build the reference again"),
    )


def _residuals(
    amplifier: AmplifierResidual, left_out: LeaveOneOutResult, range_: ReadNoiseRange, gain: float
) -> list[VerificationCheck]:
    where = f"amplifier {amplifier.amplifier}"
    of = f"{left_out.exposure} ({left_out.readpatt}) after the dark_current step"
    noise = None if amplifier.read_noise_dn is None else amplifier.read_noise_dn * gain
    checks = []
    for name, value in (("mean residual", amplifier.mean_residual_dn), ("residual rise", amplifier.rise_dn)):
        electrons = None if value is None else value * gain
        checks.append(
            _within(
                name, where, electrons, noise, "e-",
                f"median over {amplifier.pixels} pixels of {of}; limit: the noise of one of its reads",
            )
        )  # fmt: skip
    wider = _wider_by_reference(left_out)
    expected = None if amplifier.cds_before_dn is None else amplifier.cds_before_dn * wider
    checks.append(
        _near(
            "noise after subtraction",
            where,
            amplifier.cds_after_dn,
            expected,
            gain,
            _NOISE_LIMIT,
            f"CDS, {of}",
        )
    )
    if left_out.nframes == 1:
        checks.append(
            _near(
                "read noise",
                where,
                amplifier.cds_before_dn,
                range_.middle / gain,
                gain,
                range_.tolerance,
                f"CDS; {range_.low:.2f} to {range_.high:.2f} e-, from {range_.source}",
            )
        )
    return checks


def _wider_by_reference(left_out: LeaveOneOutResult) -> float:
    """Return by how much the subtraction widens the noise of a group: a model ramp brings none with it."""
    return math.sqrt(1 + (1 - left_out.model_share) / left_out.measurements)


def _noise_of_sci(planes: ReferencePlanes, columns: slice, science: NDArray[np.bool_]) -> float | None:
    """Return the CDS noise of an amplifier of SCI, DN; None with fewer than two pairs of groups."""
    variance = planes.pair_variance[:, columns][science[:, columns]].astype(float)
    variance = variance[np.isfinite(variance)]
    freedom = planes.pairs - 1
    if freedom < 1 or not variance.size:
        return None
    return math.sqrt(float(np.median(variance)) * freedom / float(stats.chi2.median(freedom)))


def _read_noise_of_sci(
    key: ConfigurationKey, planes: ReferencePlanes, basis: ReferenceBasis
) -> list[VerificationCheck]:
    """Check the read noise by the noise of SCI, where no exposure could be left out to show it.

    Frames that were averaged on board have less noise than one: no less than 1 / sqrt(NFRAMES) of it.
    """
    checks = []
    science = science_pixels(key)
    of = "of the integrations about SCI" if basis.cds else "of SCI times sqrt(N)"
    for number, (columns, expected) in enumerate(
        zip(amplifiers(key), basis.read_noise, strict=True), start=1
    ):
        own = _noise_of_sci(planes, columns, science)
        cds = None if own is None else own * math.sqrt(basis.n_valid)
        if basis.cds:
            cds = basis.cds[number - 1]
        low = (1 - _OWN_NOISE_LIMIT) * expected.low / math.sqrt(key.nframes)
        high = (1 + _OWN_NOISE_LIMIT) * expected.high
        checks.append(
            _near(
                "read noise",
                f"amplifier {number}",
                cds,
                (low + high) / 2 / basis.gain,
                basis.gain,
                (high - low) / (high + low),
                f"CDS {of}; {low:.2f} to {high:.2f} e-, from {expected.source}",
            )
        )
    return checks


def _own_noise(
    amplifier: AmplifierResidual,
    left_out: LeaveOneOutResult,
    planes: ReferencePlanes,
    columns: slice,
    key: ConfigurationKey,
    basis: ReferenceBasis,
) -> list[VerificationCheck]:
    where = f"amplifier {amplifier.amplifier}"
    if left_out.nframes != 1:
        # Frames averaged on board have less noise than the frames of the reference.
        return []
    gain, n_valid, standard_error = basis.gain, basis.n_valid, basis.standard_error
    modelled = science_pixels(key) & planes.modelled
    science = science_pixels(key) & ~planes.modelled
    mine = science[:, columns]
    if np.count_nonzero(modelled[:, columns]) > np.count_nonzero(mine):
        return _noise_of_model(amplifier, left_out, planes, columns, modelled, basis)
    own = _noise_of_sci(planes, columns, science)
    expected = None
    if amplifier.cds_before_dn is not None and n_valid > 0:
        expected = amplifier.cds_before_dn / math.sqrt(n_valid)
    checks = [
        _near("noise of SCI", where, own, expected, gain, _OWN_NOISE_LIMIT, "CDS of SCI, against 1/sqrt(N)")
    ]
    # The exposure's scatter about the reference includes the noise of the reference.
    scatter = amplifier.rise_scatter_dn if standard_error else amplifier.scatter_dn
    claimed, single = None, None
    freedom = round(n_valid) - 1
    if scatter is not None and freedom >= 1:
        single = scatter / _wider_by_reference(left_out)
        squared = float(np.median(planes.error[:, columns][mine].astype(float) ** 2))
        squared *= freedom / float(stats.chi2.median(freedom))
        squared *= n_valid if standard_error else (freedom + 1) / freedom
        claimed = math.sqrt(squared)
    about = "standard error times sqrt(N)" if standard_error else "standard deviation"
    checks.append(
        _near(
            "ERR", where, claimed, single, gain, _OWN_NOISE_LIMIT, f"{about} against its scatter"
        )
    )  # fmt: skip
    return checks


def _noise_of_model(
    amplifier: AmplifierResidual,
    left_out: LeaveOneOutResult,
    planes: ReferencePlanes,
    columns: slice,
    modelled: NDArray[np.bool_],
    basis: ReferenceBasis,
) -> list[VerificationCheck]:
    """Check that model ramps are smooth, and that ERR is the error of a fit to so many groups.

    The scatter of an exposure's rise from the first group to the last, over pixels, is that of two values and
    of the Poisson noise of the charge. The former make the error of the fit's end; of the latter 6/5 remain
    in it.
    """
    where, gain, mine = f"amplifier {amplifier.amplifier}", basis.gain, modelled[:, columns]
    smooth = _noise_of_sci(planes, columns, modelled)
    limit = None
    if amplifier.cds_before_dn is not None and basis.n_valid > 0:
        limit = _MODEL_NOISE_LIMIT * amplifier.cds_before_dn / math.sqrt(basis.n_valid) * gain
    expected = None
    claimed = math.sqrt(float(np.nanmedian(planes.error[:, columns][mine].astype(float) ** 2)))
    if amplifier.rise_scatter_dn is not None and basis.n_valid > 0:
        single = (amplifier.rise_scatter_dn / _wider_by_reference(left_out)) ** 2
        last = planes.groups - 1
        poisson = max(float(np.nanmedian(planes.rate[:, columns][mine])), 0.0) * last / gain
        unit = basis.model_variance or 12 * last / (planes.groups * (planes.groups + 1) * basis.n_valid)
        white = max(single - poisson, 0.0) / 2
        expected = math.sqrt(white * unit + POISSON_OF_LINE * poisson / basis.n_valid)
    return [
        _within(
            "noise of SCI",
            where,
            None if smooth is None else smooth * gain,
            limit,
            "e-",
            "CDS of the model ramps; limit: a quarter of that of measured ones",
        ),
        _near("ERR", where, claimed, expected, gain, _OWN_NOISE_LIMIT, "of the model's end, against a fit's"),
    ]


def _within(
    name: str, where: str, value: float | None, limit: float | None, unit: str, detail: str
) -> VerificationCheck:
    if value is None or limit is None:
        return VerificationCheck(
            name=name, where=where, passed=None, unit=unit, detail=f"not enough data: {detail}"
        )
    passed = abs(value) < limit
    return VerificationCheck(
        name=name, where=where, passed=passed, value=value, limit=limit, unit=unit, detail=detail
    )


def _near(
    name: str,
    where: str,
    value: float | None,
    expected: float | None,
    gain: float,
    tolerance: float,
    detail: str,
) -> VerificationCheck:
    """Check that a noise (DN) is as expected (DN) to a relative tolerance; recorded in per cent."""
    if value is None or expected is None or expected <= 0:
        # An exposure without any noise is none: "read noise" rejects it.
        return VerificationCheck(
            name=name, where=where, passed=None, unit="%", detail=f"not enough data: {detail}"
        )
    off = 100 * (value / expected - 1)
    return VerificationCheck(
        name=name,
        where=where,
        passed=abs(off) <= 100 * tolerance,
        value=off,
        limit=100 * tolerance,
        unit="%",
        detail=f"{value * gain:.3f} e-, expected {expected * gain:.3f} e-: {detail}",
    )
