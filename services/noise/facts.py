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
    median_over_ramps,
    spatial_error,
    table_point,
    temporal_error,
    temporal_refusal,
    theory,
    whole_number_step,
)
from services.noise.jumps import (
    expected_percent,
    false_positive_percent,
    false_positive_probability,
    live_seconds,
)
from services.noise.measure_exposure import ExposureNoise
from services.noise.measure_set import Planes
from services.noise.products import (
    EffectiveNoiseCurve,
    ExposureNoiseFacts,
    Measured,
    SetNoiseFacts,
    Stability,
)
from services.noise.robust import MEDIAN_ERROR
from services.noise.stability import integration_starts, stability
from services.noise.verdicts import NOT_ENOUGH, judge, lacking, overall
from shared.configuration import ConfigurationKey
from shared.detectors import detectors
from shared.messages import ExposureIngested, SetMember, SetReady

#: Per cent of the pixels that cosmic rays hit per 1000 s in flight: least, and most.
FLIGHT_PERCENT = (5.0, 10.0)


def exposure_facts(ingested: ExposureIngested, noise: ExposureNoise) -> ExposureNoiseFacts:
    """Return the facts of one exposure."""
    key, member = ingested.key, ingested.member
    jumps, science = noise.jumps, noise.science_jumps
    seconds = ramp_seconds(key)
    return ExposureNoiseFacts(
        configuration=ingested.configuration,
        exposure_id=member.exposure_id,
        jump_flags=jumps.flags,
        jump_flags_error=jumps.flags_error,
        jump_pixels=jumps.pixels,
        jump_pixel_percent=jumps.percent,
        jump_pixel_percent_error=jumps.percent_error,
        science_jump_flags=science.flags,
        science_jump_flags_error=science.flags_error,
        science_jump_pixels=science.pixels,
        science_jump_pixel_percent=science.percent,
        science_jump_pixel_percent_error=science.percent_error,
        jump_events=noise.events,
        flags_per_group=jumps.per_group,
        science_flags_per_group=science.per_group,
        expected_false_positive_percent=false_positive_percent(key.ngroups, member.integrations),
        expected_false_positive_flags=_false_flags(key, member.integrations),
        live_seconds=live_seconds(seconds, member.integrations),
        jump_pixels_judged=_judge_jumps(science.percent, science.percent_error, key, member.integrations),
        median_dn=noise.levels.detector,
        amplifier_median_dn=noise.levels.amplifiers,
        cds_noise_e=[noise * ingested.gain for noise in noise.cds_noise_dn],
        integration_mjd=integration_starts(member.start_mjd, member.end_mjd, member.integrations),
        seconds_per_integration=seconds,
        simulated=ingested.simulated,
    )


def set_facts(
    ready: SetReady, members: Sequence[SetMember], found: Planes, temporal: NDArray[np.float64] | None
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
    """
    key = ready.key
    cds_total, cds_total_amplifiers = _cds(found.pairs, ready, found, removed=False)
    cds_removed, cds_removed_amplifiers = _cds(found.pairs, ready, found, removed=True)
    sigmas, medians = np.array(found.slopes.sigmas), np.array(found.slopes.medians)
    curve = _curve(ready, found, sigmas, temporal)
    spatial = _spatial(ready, found, sigmas, curve)
    over_ramps = _temporal(ready, found, SampleSpread(medians[:, -1], sigmas[:, -1]), curve)
    integrations = [member.integrations for member in members]
    exposures = len(members)
    jump_percent = _mean_percent(
        [(count.percent, count.percent_error) for count in found.jumps], key, integrations
    )
    named = {
        "CDS noise": cds_total,
        "spatial noise": spatial,
        "temporal noise": over_ramps,
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
        expected_false_positive_flags=_false_flags(key, sum(integrations)),
        curve=curve,
        stability=_stability(ready, members, found, medians[:, -1], sigmas[:, -1]),
        notes=_notes(curve),
        verdict=overall(named),
    )


def ramp_seconds(key: ConfigurationKey) -> float:
    """Return the time from the first to the last group, s."""
    return (key.ngroups - 1) * key.group_time


def _false_flags(key: ConfigurationKey, integrations: int) -> float:
    differences = (key.ngroups - 1) * integrations * key.subsize1 * key.subsize2
    return differences * false_positive_probability(key.ngroups)


def _judge_jumps(percent: float, error: float, key: ConfigurationKey, integrations: int) -> Measured:
    """Compare hit pixels with flight's 5 to 10 per cent per 1000 s, and noise's own flags on top.

    How many those are depends on how well the read noise reference fits and on which of its methods the
    jump step takes; their expectation is taken to be as uncertain as it is large.
    """
    seconds = live_seconds(ramp_seconds(key), integrations)
    false = false_positive_percent(key.ngroups, integrations)
    least, most = (expected_percent(limit, seconds) for limit in FLIGHT_PERCENT)
    return judge(
        percent,
        error,
        (least + most) / 2 + false,
        math.hypot((most - least) / 2, false),
        f"{least:.2g} to {most:.2g} % by cosmic rays in {seconds:.0f} s, about {false:.2g} % by noise alone",
    )


def _mean_percent(
    counted: Sequence[tuple[float, float]], key: ConfigurationKey, integrations: Sequence[int]
) -> Measured:
    percent = sum(value for value, _ in counted) / len(counted)
    error = math.hypot(*(error for _, error in counted)) / len(counted)
    return _judge_jumps(percent, error, key, round(sum(integrations) / len(integrations)))


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
    step = whole_number_step(key.ngroups, key.nframes) / (key.ngroups - 1)
    error = rise * spatial_error(sigmas[:, -1], found.active_pixels, step)
    return _judge_noise(curve.spatial, error, key, curve.seconds)


def _temporal(ready: SetReady, found: Planes, spread: SampleSpread, curve: EffectiveNoiseCurve) -> Measured:
    if curve.temporal is None:
        return lacking(f"not enough data: {curve.temporal_refusal}")
    value = curve.temporal[-1]
    if not math.isfinite(value):
        return lacking("not enough data: no pixel is unflagged in all groups of enough ramps")
    samples = found.active_pixels * (len(spread.medians) - 1)
    error = temporal_error(value, spread.variances(about_own_median=False), samples)
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
