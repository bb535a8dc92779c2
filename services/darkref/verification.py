"""Is a dark reference fit to be accepted? Every check, each with its number and its limit.

Limits, and why:

- Mean residual and rise of an exposure that was left out (see `services.darkref.left_out`): smaller than the
  noise of one read of that exposure, CDS over sqrt(2), per amplifier. Not the pixels' scatter: kTC makes
  it five times as wide. Not the standard error of the median, which is 0.1 e- and less: 1/f noise
  moves whole amplifiers by 0.4 to 1.8 e- (simulated, 1 sigma), a sixth of the limit or less, so a good
  reference practically never fails by it.
- Noise of that exposure after the subtraction: within 5 % of what it was before, times sqrt(1 + 1/N) for a
  mean over N integrations.
- Its CDS noise: within 5 %, or 3 sigma of the table where the table is wider, of the detector's expectation.
- Noise of SCI itself and what ERR says: within 25 % of that exposure's noise / sqrt(N); the figure comes from
  one exposure, and the clip and the hits move it by some per cent; a factor of two is far outside.
- Hot pixels that DQ does not flag: hot is here twice what the flag asks for (10 robust sigmas and 1 e-/s), so
  that no borderline pixel decides; none, or 1 in 10^5 of the science pixels. Recorded and not decisive in
  reference mode, which flags nothing by definition.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from services.darkref.certify import Violation
from services.darkref.flag_thresholds import Thresholds
from services.darkref.pixel_flags import HOT, UNRELIABLE_DARK, WARM
from services.darkref.reference_planes import ReferencePlanes
from services.darkref.rollup import DETECTOR, FILE, roll_up
from services.darkref.verification_products import AmplifierResidual, Check, LeftOut, Verification
from shared.configuration import KEYWORDS, ConfigurationKey
from shared.detectors import detectors
from shared.geometry import amplifiers, science_pixels
from shared.medians import SIGMA_PER_MAD

#: Fewer integrations than this left in the reference say too little about the one left out.
LEAST_INTEGRATIONS = 4
#: Relative; the issue's "noise within 5 % of the read-noise expectation".
_NOISE_LIMIT = 0.05
_TABLE_SIGMAS = 3.0
_OWN_NOISE_LIMIT = 0.25
_HOT_FACTOR = 2.0
#: Of the science pixels: hits that the jump step missed in most integrations look like hot pixels too. Of
#: simulated darks of 160 x 160 pixels one in three had one such pixel (docs/science-validation.md).
_HOT_FRACTION = 1e-4
#: Keywords of the configuration that a dark does not have as the exposures have it: TFRAME is not CRDS's.
_UNCHECKED = ("tframe",)


def assess(
    key: ConfigurationKey,
    header: Mapping[str, Any],
    violations: Sequence[Violation],
    planes: ReferencePlanes | str,
    left_out: LeftOut | str,
    gain: float,
    measurements: float,
    standard_error: bool,
) -> Verification:
    """Check a reference and say whether it is to be accepted.

    Parameters
    ----------
    key : ConfigurationKey
        Of the exposures that it was made from.
    header : mapping
        Its primary header.
    violations : sequence of Violation
        What `services.darkref.certify.violations` says.
    planes : ReferencePlanes or str
        Its planes, or why there are none.
    left_out : LeftOut or str
        What it leaves of an exposure that is not in it, or why there is none.
    gain : float
        e-/DN.
    measurements : float
        N: the usual number of integrations in a (group, pixel) of it.
    standard_error : bool
        Whether ERR is the standard error of the mean of values without pedestals (flight mode), or the
        population standard deviation of values with them (reference mode).
    """
    checks = _rules(violations) + _keywords(key, header)
    if isinstance(planes, str):
        checks.append(Check(name="arrays", where=FILE, passed=False, detail=planes))
    else:
        checks += _arrays(planes, standard_error)
        checks.append(_hot_pixels(key, planes, gain, decisive=standard_error))
    if isinstance(left_out, str):
        checks.append(Check(name="left-out exposure", where=DETECTOR, passed=None, detail=left_out))
    else:
        for columns, amplifier in zip(amplifiers(key), left_out.amplifiers, strict=True):
            checks += _residuals(amplifier, left_out, key, gain)
            if not isinstance(planes, str):
                checks += _own_noise(
                    amplifier, left_out, planes, columns, key, gain, measurements, standard_error
                )
    return roll_up(checks, key.noutputs, left_out, measurements)


def _rules(violations: Sequence[Violation]) -> list[Check]:
    found = []
    for by in ("CRDS certify", "strict DarkModel"):
        mine = [one for one in violations if one.by == by]
        found += [Check(name=f"{by}: {one.about}", where=FILE, passed=False, detail=str(one)) for one in mine]
        if not mine:
            found.append(Check(name=by, where=FILE, passed=True, detail="every rule is kept"))
    return found


def _keywords(key: ConfigurationKey, header: Mapping[str, Any]) -> list[Check]:
    detector = detectors()[key.detector]
    wanted = {KEYWORDS[field]: value for field, value in key if field not in _UNCHECKED}
    wanted |= {"FASTAXIS": detector.fastaxis, "SLOWAXIS": detector.slowaxis}
    found = []
    for keyword, value in wanted.items():
        said = header.get(keyword)
        detail = "" if said == value else (
            f"the reference says {keyword} = {said!r}, the exposures it was made from {value!r}; CRDS would "
            "give it to the wrong data: correct the keyword and build the reference again"
        )  # fmt: skip
        found.append(
            Check(
                name=f"keyword {keyword}",
                where=FILE,
                passed=said == value,
                value=None if said is None else str(said),
                limit=str(value),
                detail=detail,
            )
        )
    return found


def _arrays(planes: ReferencePlanes, pedestal_free: bool) -> list[Check]:
    odd = planes.not_finite
    found = [
        Check(
            name="finite arrays",
            where=FILE,
            passed=odd == 0,
            value=odd,
            limit=0,
            unit="values",
            detail=f"SCI or ERR has {odd} values that are not finite or, in ERR, negative" if odd else "",
        )
    ]
    if pedestal_free:
        worst = float(np.nanmax(np.abs(planes.first))) if planes.first.size else 0.0
        found.append(
            Check(
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
    return found


def _hot_pixels(key: ConfigurationKey, planes: ReferencePlanes, gain: float, decisive: bool) -> Check:
    science = science_pixels(key) & np.isfinite(planes.rate)
    rates = planes.rate[science].astype(float) * gain / key.group_time
    if rates.size == 0:
        return Check(name="unflagged hot pixels", where=DETECTOR, passed=None, detail="no science pixel")
    middle = float(np.median(rates))
    sigma = SIGMA_PER_MAD * float(np.median(np.abs(rates - middle)))
    usual = Thresholds()
    cut = middle + _HOT_FACTOR * max(usual.hot_sigma * sigma, usual.hot_e_per_s)
    # What a clipped mean's own error may do is not a hot pixel: a slope's error is below
    # ERR / (groups - 1), and in reference mode ERR is a scatter.
    error = planes.error[science].astype(float) * gain / (key.group_time * max(key.ngroups - 1, 1))
    hot = (rates > cut) & (rates - middle > usual.hot_sigma * error)
    # One of which a hit and its persistence left a few groups is unreliable, whatever their slope.
    unflagged = int((hot & ((planes.dq[science] & (HOT | WARM | UNRELIABLE_DARK)) == 0)).sum())
    limit = int(_HOT_FRACTION * rates.size)
    return Check(
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


def _residuals(one: AmplifierResidual, left_out: LeftOut, key: ConfigurationKey, gain: float) -> list[Check]:
    where = f"amplifier {one.amplifier}"
    of = f"{left_out.exposure} ({left_out.readpatt}) after the dark_current step"
    noise = None if one.read_noise_dn is None else one.read_noise_dn * gain
    found = []
    for name, value in (("mean residual", one.mean_residual_dn), ("residual rise", one.rise_dn)):
        electrons = None if value is None else value * gain
        found.append(
            _within(
                name, where, electrons, noise, "e-",
                f"median over {one.pixels} pixels of {of}; limit: the noise of one of its reads",
            )
        )  # fmt: skip
    wider = math.sqrt(1 + 1 / left_out.measurements)
    expected = None if one.cds_before_dn is None else one.cds_before_dn * wider
    found.append(
        _near("noise after subtraction", where, one.cds_after_dn, expected, gain, _NOISE_LIMIT, f"CDS, {of}")
    )
    if left_out.nframes == 1:
        table = detectors()[key.detector].expected.cds_noise
        wide = max(_NOISE_LIMIT, _TABLE_SIGMAS * table.sigma / table.value)
        found.append(
            _near(
                "read noise", where, one.cds_before_dn, table.value / gain, gain, wide, "CDS, NRC-09's table"
            )
        )
    return found


def _own_noise(
    one: AmplifierResidual,
    left_out: LeftOut,
    planes: ReferencePlanes,
    columns: slice,
    key: ConfigurationKey,
    gain: float,
    measurements: float,
    standard_error: bool,
) -> list[Check]:
    where = f"amplifier {one.amplifier}"
    if left_out.nframes != 1:
        # Frames averaged on board have another noise than the frames of the reference.
        return []
    mine = science_pixels(key)[:, columns]
    variance = planes.pair_variance[:, columns][mine].astype(float)
    variance = variance[np.isfinite(variance)]
    freedom = planes.pairs - 1
    own = None
    if freedom >= 1 and variance.size:
        own = math.sqrt(float(np.median(variance)) * freedom / float(stats.chi2.median(freedom)))
    expected = None if one.cds_before_dn is None else one.cds_before_dn / math.sqrt(measurements)
    found = [
        _near("noise of SCI", where, own, expected, gain, _OWN_NOISE_LIMIT, "CDS of SCI, against 1/sqrt(N)")
    ]
    # The exposure's scatter about the reference holds the reference's own noise too.
    scatter = one.rise_scatter_dn if standard_error else one.scatter_dn
    said, single = None, None
    freedom = round(measurements) - 1
    if scatter is not None and freedom >= 1:
        single = scatter / math.sqrt(1 + 1 / left_out.measurements)
        squared = float(np.median(planes.error[:, columns][mine].astype(float) ** 2))
        squared *= freedom / float(stats.chi2.median(freedom))
        squared *= measurements if standard_error else (freedom + 1) / freedom
        said = math.sqrt(squared)
    about = "standard error times sqrt(N)" if standard_error else "standard deviation"
    found.append(
        _near(
            "ERR", where, said, single, gain, _OWN_NOISE_LIMIT, f"{about} against its scatter"
        )
    )  # fmt: skip
    return found


def _within(name: str, where: str, value: float | None, limit: float | None, unit: str, detail: str) -> Check:
    if value is None or limit is None:
        return Check(name=name, where=where, passed=None, unit=unit, detail=f"not enough data: {detail}")
    passed = abs(value) < limit
    return Check(name=name, where=where, passed=passed, value=value, limit=limit, unit=unit, detail=detail)


def _near(
    name: str,
    where: str,
    value: float | None,
    expected: float | None,
    gain: float,
    tolerance: float,
    detail: str,
) -> Check:
    """Check that a noise (DN) is its expectation (DN) to a relative tolerance; told in per cent."""
    if value is None or expected is None or expected <= 0:
        return Check(name=name, where=where, passed=None, unit="%", detail=f"not enough data: {detail}")
    off = 100 * (value / expected - 1)
    return Check(
        name=name,
        where=where,
        passed=abs(off) <= 100 * tolerance,
        value=off,
        limit=100 * tolerance,
        unit="%",
        detail=f"{value * gain:.3f} e-, expected {expected * gain:.3f} e-: {detail}",
    )
