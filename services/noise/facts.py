"""From measurements in DN to the facts of noise's products, in electrons and with verdicts."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.noise.cds import CdsPairs
from services.noise.effective_noise import (
    TABLE_SECONDS,
    SampleSpread,
    combine_amplifiers,
    drift_ratio,
    median_over_ramps,
    spatial_error,
    table_point,
    temporal_error,
    temporal_refusal,
    theory,
    whole_number_step,
)
from services.noise.jump_rates import false_flags, judge_jumps
from services.noise.jumps import false_positive_percent
from services.noise.measure_set import Planes
from services.noise.noise_parts import (
    correlated_noise,
    ktc_noise,
    reference_cds_noise,
    theory_terms,
    uncorrelated_noise,
    white_noise,
)
from services.noise.one_over_f import OneOverF
from services.noise.products import (
    EffectiveNoiseCurve,
    Measured,
    SetNoiseFacts,
    Stability,
)
from services.noise.robust import MEDIAN_ERROR
from services.noise.stability import integration_starts, stability
from services.noise.verdicts import NOT_ENOUGH, judge, lacking, overall
from shared.configuration import ConfigurationKey
from shared.detectors import detectors
from shared.messages import SetMember, SetReady

#: Part of the correction for noise taken for jumps that is not known. It is of first order, and jwst's
#: step does not cut every pixel at the same sigma: its threshold has each pixel's own median in it.
_CORRECTION_UNKNOWN = 0.5


def set_facts(
    ready: SetReady,
    members: Sequence[SetMember],
    found: Planes,
    temporal: NDArray[np.float64] | None,
    one_over_f: OneOverF | None,
) -> SetNoiseFacts:
    """Return the facts of a set.

    Parameters
    ----------
    ready : SetReady
    members : sequence of SetMember
        In the order in which they were measured.
    found : Planes
    temporal : ndarray, 2D (numbers of groups from 2 on, amplifiers), or None
        DN/group; None where there are too few ramps.
    one_over_f : OneOverF or None
        In DN; None where no spectrum could be taken.
    """
    key = ready.key
    cds_total, cds_total_amplifiers = _cds(found.pairs, ready, found, removed=False)
    cds_removed, cds_removed_amplifiers = _cds(found.pairs, ready, found, removed=True)
    sigmas, medians = np.array(found.slopes.sigmas), np.array(found.slopes.medians)
    curve = _curve(ready, found, sigmas, temporal)
    spatial = _spatial(ready, found, sigmas, curve)
    over_ramps = _temporal(ready, found, SampleSpread(medians[:, -1], sigmas[:, -1]), curve)
    drifts = _stability(ready, members, found, medians[:, -1], sigmas[:, -1])
    ktc, ktc_amplifiers = ktc_noise(ready, found)
    own, own_amplifiers = uncorrelated_noise(one_over_f, ready.gain)
    dark = float(np.nan_to_num(median_over_ramps(np.array(drifts.dark_rate_e_per_ks)))) / 1000
    white = white_noise(ready, found, one_over_f, cds_removed, dark)
    integrations = [member.integrations for member in members]
    exposures = len(members)
    jump_percent = _mean_percent(
        [(count.percent, count.percent_error) for count in found.jumps], key, integrations
    )
    named = {
        "CDS noise": cds_total,
        "spatial noise": spatial,
        "temporal noise": over_ramps,
        "kTC noise": ktc,
        "jumps": jump_percent,
    }
    return SetNoiseFacts(
        configuration=ready.configuration,
        key=key,
        set_id=ready.set_id,
        exposures=[member.exposure_id for member in members],
        ramps=sum(integrations),
        gain=ready.gain,
        simulated=ready.simulated,
        cds_noise=cds_total,
        cds_noise_by_amplifier_e=cds_total_amplifiers,
        cds_noise_median_removed=cds_removed,
        cds_noise_median_removed_by_amplifier_e=cds_removed_amplifiers,
        spatial_effective_noise=spatial,
        temporal_effective_noise=over_ramps,
        jump_flags=sum(count.flags for count in found.jumps),
        jump_flags_error=math.hypot(*(count.flags_error for count in found.jumps)),
        jump_pixel_percent=jump_percent,
        science_jump_flags=sum(count.flags for count in found.science_jumps),
        science_jump_flags_error=math.hypot(*(count.flags_error for count in found.science_jumps)),
        science_jump_pixel_percent=_mean_percent(
            [(count.percent, count.percent_error) for count in found.science_jumps], key, integrations
        ),
        expected_false_positive_percent=sum(false_positive_percent(key.ngroups, n) for n in integrations)
        / exposures,
        expected_false_positive_flags=false_flags(key, sum(integrations)),
        curve=curve,
        stability=drifts,
        notes=_notes(curve),
        verdict=overall(named),
        ktc_noise=ktc,
        ktc_noise_by_amplifier_e=ktc_amplifiers,
        correlated_noise=correlated_noise(one_over_f, ready.gain),
        uncorrelated_noise=own,
        uncorrelated_noise_by_amplifier_e=own_amplifiers,
        white_noise=white,
        reference_cds_noise=reference_cds_noise(ready, found),
        theory_fit=theory_terms(key, sigmas, ready.gain),
    )


def _mean_percent(
    counted: Sequence[tuple[float, float]], key: ConfigurationKey, integrations: Sequence[int]
) -> Measured:
    percent = sum(value for value, _ in counted) / len(counted)
    error = math.hypot(*(error for _, error in counted)) / len(counted)
    return judge_jumps(percent, error, key, round(sum(integrations) / len(integrations)))


def _cds(pairs: CdsPairs, ready: SetReady, found: Planes, removed: bool) -> tuple[Measured, list[float]]:
    amplifiers = pairs.by_amplifier(found.pixels, removed) * ready.gain
    value = float(combine_amplifiers(amplifiers))
    expected = detectors()[ready.key.detector].expected.cds_noise
    if not math.isfinite(value):
        few = "not enough data: no pixel has two pairs of groups without a flag"
        return lacking(few, expected.value, expected.sigma), amplifiers.tolist()
    variances = pairs.spread.variances(about_own_median=removed)
    samples = found.active_pixels * (len(variances) - 1)
    error = temporal_error(value, variances, samples)
    by_ramp = np.array(pairs.by_ramp())
    by_ramp = by_ramp[np.isfinite(by_ramp)] ** 2
    if len(by_ramp) > 1:
        # What drifts from ramp to ramp makes the pairs of a ramp alike: then ramps are what counts.
        error = max(error, temporal_error(value, by_ramp, samples))
    if len(variances):
        corrected = pairs.taken_for_jumps(value / ready.gain, len(variances)) / 2
        error = math.hypot(error, _CORRECTION_UNKNOWN * corrected * value)
    if ready.key.nframes > 1:
        said = (
            f"{NOT_ENOUGH} ({value:.2f} ± {error:.2f} of groups of {ready.key.nframes} frames; the expected "
            f"{expected.value} ± {expected.sigma} is for single frames)"
        )
        return Measured(value=value, error=error, verdict=said), amplifiers.tolist()
    return judge(value, error, expected.value, expected.sigma), amplifiers.tolist()


def _rise(key: ConfigurationKey) -> NDArray[np.float64]:
    """Return n - 1 for every number of groups: from DN/group to DN over the ramp."""
    return np.arange(1, key.ngroups, dtype=float)


def _curve(
    ready: SetReady, found: Planes, sigmas: NDArray[np.float64], temporal: NDArray[np.float64] | None
) -> EffectiveNoiseCurve:
    key = ready.key
    expectation = detectors()[key.detector].expected
    groups = np.arange(2, key.ngroups + 1)
    seconds = _rise(key) * key.group_time
    scale = (_rise(key) * ready.gain)[:, None]
    spatial = median_over_ramps(sigmas) * scale
    over_ramps = None if temporal is None else temporal * scale
    reference = median_over_ramps(np.array(found.slopes.reference_sigmas)) * scale[:, 0]
    points = [
        (int(n), key.nframes, float(t), key.tframe, expectation) for n, t in zip(groups, seconds, strict=True)
    ]
    return EffectiveNoiseCurve(
        groups=groups.tolist(),
        seconds=seconds.tolist(),
        theory=[theory(*point) for point in points],
        spatial=combine_amplifiers(spatial).tolist(),
        spatial_by_amplifier=spatial.T.tolist(),
        reference_pixels=reference.tolist() if found.pixels.reference.any() else None,
        temporal=None if over_ramps is None else combine_amplifiers(over_ramps).tolist(),
        temporal_by_amplifier=None if over_ramps is None else over_ramps.T.tolist(),
        temporal_refusal=temporal_refusal(len(sigmas)),
    )


def _judge_noise(
    values: Sequence[float], error: float, key: ConfigurationKey, seconds: Sequence[float]
) -> Measured:
    """Compare a noise curve (e-, over `seconds`) with the expected table, where that has a point on it.

    The figure given is the last of the curve, `error` its own; at the table's point the error is taken
    to be the same part of the value.
    """
    table = detectors()[key.detector].expected.effective_noise
    at = table_point(seconds, key.readpatt)
    value = values[-1]
    if at is None or not math.isfinite(values[at]):
        said = (
            f"{NOT_ENOUGH} ({value:.2f} ± {error:.2f} in {seconds[-1]:.3g} s of {key.readpatt}; "
            f"the expected {table.value} ± {table.sigma} is for {TABLE_SECONDS:.0f} s of RAPID)"
        )
        return Measured(value=value, error=error, verdict=said)
    judged = judge(values[at], error * values[at] / value, table.value, table.sigma)
    where = "" if at == len(values) - 1 else f" after {seconds[at]:.0f} s"
    return judged.model_copy(update={"value": value, "error": error, "verdict": judged.verdict + where})


def _spatial(
    ready: SetReady, found: Planes, sigmas: NDArray[np.float64], curve: EffectiveNoiseCurve
) -> Measured:
    key = ready.key
    if not math.isfinite(curve.spatial[-1]):
        return lacking("not enough data: no pixel is unflagged in all groups")
    rise = (key.ngroups - 1) * ready.gain
    step = whole_number_step(key.ngroups, key.nframes) / (key.ngroups - 1) if found.pairs.whole else 0.0
    error = rise * spatial_error(sigmas[:, -1], found.active_pixels, step)
    return _judge_noise(curve.spatial, error, key, curve.seconds)


def _temporal(ready: SetReady, found: Planes, spread: SampleSpread, curve: EffectiveNoiseCurve) -> Measured:
    if curve.temporal is None:
        return lacking(f"not enough data: {curve.temporal_refusal}")
    value = curve.temporal[-1]
    if not math.isfinite(value):
        return lacking("not enough data: no pixel is unflagged in all groups of enough ramps")
    samples = found.active_pixels * (len(spread.medians) - 1)
    # Few ramps may happen to lie close together; their many pairs show what 1/f noise moves them by.
    usual = drift_ratio(ready.key.ngroups) * found.pairs.spread.drift / (ready.key.ngroups - 1) ** 2
    variances = spread.variances(about_own_median=False)
    error = temporal_error(value, variances, samples, max(spread.drift, usual))
    return _judge_noise(curve.temporal, error, ready.key, curve.seconds)


def _stability(
    ready: SetReady,
    members: Sequence[SetMember],
    found: Planes,
    slope_medians: NDArray[np.float64],
    slope_sigmas: NDArray[np.float64],
) -> Stability:
    key = ready.key
    to_rate = ready.gain / key.group_time * 1000
    rates = slope_medians.mean(axis=1) * to_rate
    widths = combine_amplifiers(slope_sigmas) * to_rate
    errors = MEDIAN_ERROR * widths / math.sqrt(max(found.active_pixels, 1))
    return stability(
        mjd=[
            start
            for member in members
            for start in integration_starts(member.start_mjd, member.end_mjd, member.integrations)
        ],
        exposures=[member.exposure_id for member in members for _ in range(member.integrations)],
        group_time=key.group_time,
        levels=found.levels,
        dark_rates=rates.tolist(),
        dark_rate_errors=errors.tolist(),
        cds_noise=[noise * ready.gain for noise in found.pairs.by_ramp()],
    )


def _notes(curve: EffectiveNoiseCurve) -> list[str]:
    notes = [
        "kTC noise: of group 0 over integrations, without each amplifier's median, less the read noise. 1/f "
        "noise is fitted as A/f beside white noise to the spectra of differences of groups in the order of "
        "readout (100 kHz, 12 pixel times of overhead a line); its rms is that from one period a frame to "
        "half the pixel clock, and where reference pixels were corrected with, it is what that correction "
        "leaves.",
        "Left out of every noise figure: a pixel's groups from its first jump, saturation or persistence "
        "flag on, and pixels marked DO_NOT_USE.",
        "Errors are 1 sigma, from the scatter between ramps; the gain's own error is not in them.",
        f"The expected effective noise is for {TABLE_SECONDS:.0f} s of RAPID groups; ramps of another length "
        "are not held against it.",
    ]
    if curve.temporal_refusal:
        return [*notes, curve.temporal_refusal]
    return [
        *notes,
        "Temporal noise: root of the median over pixels of the variance over ramps (ddof 1), divided by the "
        "median of chi2(N-1)/(N-1) for the N ramps of each pixel. Uncorrected, with ddof 0, it would be low "
        "by a factor of 0.91 at 10 ramps.",
    ]
