"""The noise product of a set: measurements in DN become figures in electrons, with errors and verdicts.

A figure without a field of its own in `SetNoiseResults` is computed by a function of `FURTHER_SET_FIGURES`,
and has its row in `shared.products.figures`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.noise.effective.effective_noise import (
    TABLE_SECONDS,
    SampleSpread,
    combine_amplifiers,
    common_drift,
    drift_ratio,
    median_over_ramps,
    spatial_error,
    table_point,
    temporal_error,
    temporal_refusal,
)
from services.noise.effective.theory import theory_noise
from services.noise.exposure_set import FirstPass
from services.noise.jumps.counts import JumpCount, false_positive_percent
from services.noise.jumps.rates import compare_jumps, false_flags
from services.noise.noise_budget import (
    chi2_figure,
    column_noise,
    correlated_noise,
    exponent_figure,
    ktc_noise,
    reference_cds_noise,
    theory_terms,
    uncorrelated_noise,
    white_noise,
)
from services.noise.read_noise.one_over_f import OneOverF
from services.noise.stability.patterns import level_cycle
from services.noise.stability.stability import integration_starts, set_stability
from shared.contracts.messages import SetMember, SetReady
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.detectors import detectors
from shared.products.figures import verdicts_of
from shared.products.noise import EffectiveNoiseCurve, SetNoiseResults, Stability
from shared.products.reference import LeftOutExposure
from shared.statistics.robust import MEDIAN_ERROR
from shared.statistics.verdicts import (
    Measured,
    Value,
    VerdictState,
    compare,
    expected_words,
    measured_against,
    not_compared,
    not_measured,
    overall,
)

#: Uncertainty of the correction for noise taken for jumps, as a fraction of it. The correction is of first
#: order, and jwst's step does not cut all pixels at the same sigma: its threshold holds the pixel's median.
_CORRECTION_UNCERTAINTY = 0.5

_SINGLE_GROUP = "it takes ramps of 2 groups or more: a single group has no slope and no difference"


@dataclass(frozen=True)
class SetMeasurements:
    """What the passes over the ramps of a set leave, in DN.

    Attributes
    ----------
    ready : SetReady
    members : sequence of SetMember
        In the order in which they were measured.
    in_use : sequence of sequence of int
        Integrations of each member that were measured, 0-based.
    first : FirstPass
    temporal : ndarray, 2D (numbers of groups from 2 on, amplifiers), or None
        Standard deviation of the slope from ramp to ramp, DN/group; None with too few ramps.
    one_over_f : OneOverF or None
        None where no spectrum could be taken.
    left_out : sequence of LeftOutExposure
        What is not in use, and what stands apart.
    """

    ready: SetReady
    members: Sequence[SetMember]
    in_use: Sequence[Sequence[int]]
    first: FirstPass
    temporal: NDArray[np.float64] | None
    one_over_f: OneOverF | None
    left_out: Sequence[LeftOutExposure] = ()

    @cached_property
    def slope_sigmas(self) -> NDArray[np.float64]:
        """Robust spatial sigma of the slopes, DN/group (ramps, numbers of groups, amplifiers)."""
        return self._per_group(self.first.slopes.sigmas)

    @cached_property
    def slope_medians(self) -> NDArray[np.float64]:
        """Spatial median of the slopes, DN/group (ramps, numbers of groups, amplifiers)."""
        return self._per_group(self.first.slopes.medians)

    def _per_group(self, values: Sequence[Any]) -> NDArray[np.float64]:
        # Of single groups there is no slope, and a list without a number has no shape.
        shape = len(values), self.ready.key.ngroups - 1, len(self.first.pixels.amplifiers)
        return np.array(values, dtype=float).reshape(shape)

    @property
    def integrations(self) -> list[int]:
        """Integrations in use of each exposure that has any."""
        return [len(integrations) for integrations in self.in_use if integrations]


#: Further figures of a set, by their names in `shared.products.figures`.
FURTHER_SET_FIGURES: Mapping[str, Callable[[SetMeasurements], Measured]] = {
    "jump_pixel_percent_integration_0": lambda measured: _first_integration_percent(measured),
    "column_noise_e": lambda measured: column_noise(measured.one_over_f, measured.ready.gain),
    "common_one_over_f_exponent": lambda measured: exponent_figure(measured.one_over_f, common=True),
    "amplifier_one_over_f_exponent": lambda measured: exponent_figure(measured.one_over_f, common=False),
    "common_spectrum_chi2": lambda measured: chi2_figure(measured.one_over_f, common=True),
    "amplifier_spectrum_chi2": lambda measured: chi2_figure(measured.one_over_f, common=False),
}


def summarize_set(measured: SetMeasurements) -> SetNoiseResults:
    """Return the noise product of a set, but for its hits, which its exposures have."""
    ready, first, one_over_f = measured.ready, measured.first, measured.one_over_f
    cds, cds_by_amplifier = _cds_noise(measured, median_removed=False)
    cds_removed, cds_removed_by_amplifier = _cds_noise(measured, median_removed=True)
    ktc, ktc_by_amplifier = ktc_noise(ready, first)
    own, own_by_amplifier = uncorrelated_noise(one_over_f, ready.gain)
    curve = _effective_noise(measured)
    stability_series = _stability(measured)
    results = SetNoiseResults(
        configuration=ready.configuration,
        key=ready.key,
        set_id=ready.set_id,
        exposures=[member.exposure_id for member in measured.members],
        ramps=sum(measured.integrations),
        gain=ready.gain,
        simulated=ready.simulated,
        cds_noise=cds,
        cds_noise_by_amplifier_e=cds_by_amplifier,
        cds_noise_median_removed=cds_removed,
        cds_noise_median_removed_by_amplifier_e=cds_removed_by_amplifier,
        spatial_effective_noise=_spatial_noise(measured, curve),
        temporal_effective_noise=_temporal_noise(measured, curve),
        **_jumps(measured),
        curve=curve,
        stability=stability_series,
        notes=_notes(curve, measured.left_out, stability_series),
        left_out_exposures=list(measured.left_out),
        verdict="",
        ktc_noise=ktc,
        ktc_noise_by_amplifier_e=ktc_by_amplifier,
        correlated_noise=correlated_noise(one_over_f, ready.gain),
        uncorrelated_noise=own,
        uncorrelated_noise_by_amplifier_e=own_by_amplifier,
        white_noise=white_noise(ready, first, one_over_f, cds_removed, _dark_rate(stability_series)),
        reference_cds_noise=reference_cds_noise(ready, first),
        theory_fit=theory_terms(ready.key, measured.slope_sigmas, ready.gain),
        figures={name: figure(measured) for name, figure in FURTHER_SET_FIGURES.items()},
    )
    verdicts = verdicts_of(results)
    return results.model_copy(update={"verdicts": verdicts, "verdict": overall(verdicts)})


def _jumps(measured: SetMeasurements) -> dict[str, Any]:
    """Return the fields of `SetNoiseResults` on jumps: flags summed over exposures, percentages averaged."""
    key, integrations = measured.ready.key, measured.integrations
    counts, science = measured.first.jumps, measured.first.science_jumps
    by_noise = [false_positive_percent(key.ngroups, number) for number in integrations]
    return {
        "jump_flags": sum(count.flags for count in counts),
        "jump_flags_error": math.hypot(*(count.flags_error for count in counts)),
        "jump_pixel_percent": _mean_percent(counts, key, integrations),
        "science_jump_flags": sum(count.flags for count in science),
        "science_jump_flags_error": math.hypot(*(count.flags_error for count in science)),
        "science_jump_pixel_percent": _mean_percent(science, key, integrations),
        "expected_false_positive_percent": sum(by_noise) / len(by_noise),
        "expected_false_positive_flags": false_flags(key, sum(integrations)),
    }


def _first_integration_percent(measured: SetMeasurements) -> Measured:
    """Return the percentage of pixels hit in integration 0 of an exposure, as in the notebook; mean."""
    counts = measured.first.jumps
    percent = sum(count.first_percent for count in counts) / len(counts)
    error = math.hypot(*(count.first_percent_error for count in counts)) / len(counts)
    return compare_jumps(percent, error, measured.ready.key, 1, len(counts))


def _mean_percent(
    counts: Sequence[JumpCount], key: ConfigurationKey, integrations: Sequence[int]
) -> Measured:
    percent = sum(count.percent for count in counts) / len(counts)
    error = math.hypot(*(count.percent_error for count in counts)) / len(counts)
    return compare_jumps(percent, error, key, round(sum(integrations) / len(integrations)), len(counts))


def _dark_rate(series: Stability) -> float:
    """Return the median dark rate over ramps, e-/s; 0 where it is not known."""
    return float(np.nan_to_num(median_over_ramps(np.array(series.dark_rate_e_per_ks)))) / 1000


def _cds_noise(measured: SetMeasurements, median_removed: bool) -> tuple[Measured, list[float]]:
    """Return the CDS noise of a set and of each amplifier, e-.

    Its error is the larger of what the pairs of groups and what the ramps scatter by.
    """
    ready, first, pairs = measured.ready, measured.first, measured.first.pairs
    amplifiers = pairs.by_amplifier(first.pixels, median_removed) * ready.gain
    value = float(combine_amplifiers(amplifiers))
    expected = detectors()[ready.key.detector].expected.cds_noise
    if not math.isfinite(value):
        reason = _SINGLE_GROUP if ready.key.ngroups < 2 else "no pixel has two pairs of groups without a flag"
        return not_measured(reason, expected), amplifiers.tolist()
    variances = pairs.spread.variances(about_own_median=median_removed)
    samples = first.active_pixels * (len(variances) - 1)
    error = temporal_error(value, variances, samples)
    by_ramp = np.array(pairs.by_ramp())
    by_ramp = by_ramp[np.isfinite(by_ramp)] ** 2
    if len(by_ramp) > 1:
        # Drifts from ramp to ramp correlate the pairs of a ramp: then ramps are the independent samples.
        error = max(error, temporal_error(value, by_ramp, samples))
    if len(variances):
        corrected = pairs.taken_for_jumps(value / ready.gain, len(variances)) / 2
        error = math.hypot(error, _CORRECTION_UNCERTAINTY * corrected * value)
    if ready.key.nframes > 1:
        reason = (
            f"{value:.2f} ± {error:.2f} is of groups of {ready.key.nframes} frames; the expected "
            f"{expected_words(expected)} is for single frames"
        )
        figure = not_compared(Value(value, error), reason, VerdictState.NOT_ENOUGH)
        return figure, amplifiers.tolist()
    return measured_against(Value(value, error), expected), amplifiers.tolist()


def _rise(key: ConfigurationKey) -> NDArray[np.float64]:
    """Return n - 1 for every number of groups: from DN/group to DN over the ramp."""
    return np.arange(1, key.ngroups, dtype=float)


def _effective_noise(measured: SetMeasurements) -> EffectiveNoiseCurve:
    """Return the effective noise against the number of groups, e-."""
    key, first, temporal = measured.ready.key, measured.first, measured.temporal
    expectation = detectors()[key.detector].expected
    groups = np.arange(2, key.ngroups + 1)
    seconds = _rise(key) * key.group_time
    scale = (_rise(key) * measured.ready.gain)[:, None]
    spatial = median_over_ramps(measured.slope_sigmas) * scale
    over_ramps = None if temporal is None else temporal * scale
    by_ramp = np.array(first.slopes.reference_sigmas).reshape(len(measured.slope_sigmas), len(groups))
    reference = median_over_ramps(by_ramp) * scale[:, 0]
    points = [
        (int(n), key.nframes, float(t), key.tframe, expectation) for n, t in zip(groups, seconds, strict=True)
    ]
    return EffectiveNoiseCurve(
        groups=groups.tolist(),
        seconds=seconds.tolist(),
        theory=[theory_noise(*point) for point in points],
        spatial=combine_amplifiers(spatial).tolist(),
        spatial_by_amplifier=spatial.T.tolist(),
        reference_pixels=reference.tolist() if first.pixels.reference.any() else None,
        temporal=None if over_ramps is None else combine_amplifiers(over_ramps).tolist(),
        temporal_by_amplifier=None if over_ramps is None else over_ramps.T.tolist(),
        temporal_refusal=_SINGLE_GROUP if key.ngroups < 2 else temporal_refusal(len(measured.slope_sigmas)),
    )


def _compare_noise(
    values: Sequence[float], error: float, key: ConfigurationKey, seconds: Sequence[float]
) -> Measured:
    """Compare a noise curve (e-, over `seconds`) with the expected table, where the table's point is on it.

    The figure is the last of the curve, with its `error`; at the table's point the relative error is taken to
    be the same.
    """
    table = detectors()[key.detector].expected.effective_noise
    at = table_point(seconds, key.readpatt)
    value = values[-1]
    if at is None or not math.isfinite(values[at]):
        reason = (
            f"{value:.2f} ± {error:.2f} is for {seconds[-1]:.3g} s of {key.readpatt}; "
            f"the expected {expected_words(table)} is for {TABLE_SECONDS:.0f} s of RAPID"
        )
        return not_compared(Value(value, error), reason, VerdictState.NOT_ENOUGH)
    at_table = Value(values[at], error * values[at] / value)
    after = None if at == len(values) - 1 else f"after {seconds[at]:.0f} s"
    return Measured.of(Value(value, error), compare(at_table, table, condition=after))


def _spatial_noise(measured: SetMeasurements, curve: EffectiveNoiseCurve) -> Measured:
    key, first = measured.ready.key, measured.first
    if not curve.spatial:
        return not_measured(_SINGLE_GROUP)
    if not math.isfinite(curve.spatial[-1]):
        return not_measured("no pixel is unflagged in all groups")
    rise = (key.ngroups - 1) * measured.ready.gain
    error = rise * spatial_error(measured.slope_sigmas[:, -1], first.active_pixels)
    return _compare_noise(curve.spatial, error, key, curve.seconds)


def _temporal_noise(measured: SetMeasurements, curve: EffectiveNoiseCurve) -> Measured:
    if curve.temporal is None:
        return not_measured(curve.temporal_refusal)
    value = curve.temporal[-1]
    if not math.isfinite(value):
        return not_measured("no pixel is unflagged in all groups of enough ramps")
    key, first = measured.ready.key, measured.first
    spread = SampleSpread(measured.slope_medians[:, -1], measured.slope_sigmas[:, -1])
    samples = first.active_pixels * (len(spread.medians) - 1)
    # A few ramps may lie close together by chance; their many pairs show how far 1/f noise moves them.
    usual = drift_ratio(key.ngroups) * first.pairs.spread.drift / (key.ngroups - 1) ** 2
    variances = spread.variances(about_own_median=False)
    error = temporal_error(value, variances, samples, max(spread.drift, usual))
    return _compare_noise(curve.temporal, error, key, curve.seconds)


def _stability(measured: SetMeasurements) -> Stability:
    """Return dark rate, CDS noise and levels of every integration, in time order."""
    key, gain, first, members = measured.ready.key, measured.ready.gain, measured.first, measured.members
    to_rate = gain / key.group_time * 1000
    if key.ngroups > 1:
        rates = measured.slope_medians[:, -1].mean(axis=1) * to_rate
        widths = combine_amplifiers(measured.slope_sigmas[:, -1]) * to_rate
    else:
        rates = widths = np.full(len(measured.slope_medians), math.nan)
    independent = MEDIAN_ERROR * widths / math.sqrt(max(first.active_pixels, 1))
    errors = np.hypot(independent, _rate_drift(measured) * to_rate)
    of_integrations = [
        member.exposure_id
        for member, integrations in zip(members, measured.in_use, strict=True)
        for _ in integrations
    ]
    cycle = level_cycle([ramp[0] for ramp in first.levels.detector], of_integrations)
    series = set_stability(
        mjd=[
            integration_starts(member.start_mjd, member.end_mjd, member.integrations)[n]
            for member, integrations in zip(members, measured.in_use, strict=True)
            for n in integrations
        ],
        exposures=of_integrations,
        group_time=key.group_time,
        levels=first.levels,
        dark_rates=rates.tolist(),
        dark_rate_errors=errors.tolist(),
        cds_noise=[noise * gain for noise in first.pairs.by_ramp()],
    )
    patterns = [*([cycle] if cycle else []), *first.parity.found(first.pixels)]
    return series.model_copy(update={"patterns": patterns})


def _rate_drift(measured: SetMeasurements) -> float:
    """Return by how much 1/f noise moves the mean slope of all amplifiers, 1 sigma, DN/group.

    From the many pairs of groups of the set, whose medians show how amplifiers move together within a group
    time. The few ramps themselves may differ because the detector does.
    """
    groups, spectra = measured.ready.key.ngroups, measured.one_over_f
    if groups < 2:
        return math.nan
    exponent = 1.0
    if spectra is not None:
        exponent = (spectra.correlated_exponent or spectra.uncorrelated_exponent).value
    variance = common_drift(measured.first.pairs.spread.medians) * drift_ratio(groups, exponent)
    return math.sqrt(variance) / (groups - 1)


def _notes(curve: EffectiveNoiseCurve, left_out: Sequence[LeftOutExposure], series: Stability) -> list[str]:
    notes = [
        *(f"{entry}; {'left out' if entry.left_out else 'kept, with all others'}." for entry in left_out),
        *(f"{pattern.said[0].upper()}{pattern.said[1:]}." for pattern in series.patterns),
        "kTC noise: of group 0 over integrations, without each amplifier's median, less the read noise. 1/f "
        "noise is fitted as A/f^exponent beside white noise to the spectra of differences of groups in the "
        "order of readout (100 kHz, 12 pixel times of overhead per line); its rms is from one period per "
        "frame to half the pixel clock. Column noise is what columns share or alternate by beyond that. "
        "Where reference pixels were corrected with, these are what that leaves.",
        "Left out of every noise figure: a pixel's groups from its first jump, saturation or persistence "
        "flag on, and pixels marked DO_NOT_USE.",
        "Errors are 1 sigma, from the scatter between ramps; the gain's own error is not in them.",
        f"The expected effective noise is for {TABLE_SECONDS:.0f} s of RAPID groups; ramps of another length "
        "are not compared with it.",
    ]
    if curve.temporal_refusal:
        return [*notes, curve.temporal_refusal]
    return [
        *notes,
        "Temporal noise: root of the median over pixels of the variance over ramps (ddof 1), divided by the "
        "median of chi2(N-1)/(N-1) for the N ramps of each pixel. Uncorrected, with ddof 0, it would be low "
        "by a factor of 0.91 at 10 ramps.",
    ]
