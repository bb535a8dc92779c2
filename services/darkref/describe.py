"""What a dark says about itself: its header, and the metadata in its manifest."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace

from services.darkref.build_config import (
    SIGMA,
    BuildConfig,
    BuiltDark,
    FlagResult,
    PreviousComparison,
)
from services.darkref.measure.dark_current import DarkCurrent, compare_dark_current
from services.darkref.measure.difference import describe_difference
from services.darkref.reference_file import writer
from services.darkref.reference_file.header import DarkDescription
from services.darkref.reference_file.history import (
    HistoryInput,
    calibration_lines,
    flagged_pixels,
    model_ramp_lines,
    redelivered_line,
    settling_line,
)
from shared.contracts.messages import SetMember
from shared.errors import PermanentError
from shared.nircam.detectors import detectors
from shared.products.reference import LeftOutExposure, ReferenceResults, ResetSettling, json_numbers
from shared.statistics.verdicts import Value, Verdict, finite

#: Characters of a reason in HISTORY, which has limited room.
_LONGEST_REASON = 300


def describe_dark(
    config: BuildConfig,
    members: Sequence[SetMember],
    current: DarkCurrent | None = None,
    flags: FlagResult | None = None,
    comparison: PreviousComparison | None = None,
) -> DarkDescription:
    """Return what the header says.

    Parameters
    ----------
    config : BuildConfig
    members : sequence of SetMember
        That are combined.
    current : DarkCurrent, optional
        None while it is unknown; the header then has a rate of 0.
    flags, comparison
        None while they are unknown, and in notebook mode.

    Raises
    ------
    PermanentError
        If the settings would pass simulated exposures off as measured ones.
    """
    ready, mode, settings = config.ready, config.mode, config.settings
    count = len(config.in_use(members))
    used = [member for member in members if member in config.members_in_use]
    history = mode.history(
        HistoryInput(
            key=ready.key,
            exposures=[member.exposure_id for member in used],
            integrations=count,
            sigma=SIGMA,
            clip=mode.clip(count, SIGMA),
            min_valid=settings.min_valid,
            settling=settling_line(None if current is None else settling_figures(config, current)),
            pixels=() if flags is None else flagged_pixels(flags.counts, flags.thresholds),
            differences=_difference_lines(comparison),
            model_ramp=() if flags is None else model_ramp_lines(flags.model_ramp, flags.counts.science),
            left_out=[_left_out_line(entry) for entry in config.left_out],
            calibration=calibration_lines(
                [ramp for each in used if (ramp := config.calibrated.get(each.exposure_id)) is not None]
            ),
            redelivered=[
                redelivered_line(member.exposure_id, ramp)
                for member in used
                for ramp in config.superseded.get(member.exposure_id, ())
            ],
        )
    )
    return DarkDescription(
        pedigree=pedigree_of(config, used),
        useafter=settings.useafter or f"{writer.utc(used[0].start_mjd):%Y-%m-%dT%H:%M:%S}",
        descrip=writer.descrip(ready.key, count, ready.simulated, settings.descrip),
        author=settings.author,
        dark_current=0.0 if current is None else current.value / 1000,
        history=history,
        errors=mode.errors,
    )


def pedigree_of(config: BuildConfig, members: Sequence[SetMember]) -> str:
    """Return PEDIGREE of the dark of some members.

    Raises
    ------
    PermanentError
        If the settings would pass simulated exposures off as measured ones.
    """
    try:
        return writer.pedigree(
            config.ready.simulated,
            min(member.start_mjd for member in members),
            max(member.end_mjd for member in members),
            config.settings.pedigree,
        )
    except ValueError as error:
        raise PermanentError(
            f"{config.set_name}: {error}: leave out --pedigree (DARKS_PEDIGREE), or leave out the simulated "
            "exposures",
            keyword="PEDIGREE",
            setting="--pedigree",
        ) from None


def _dark_current_verdict(config: BuildConfig, current: DarkCurrent, expected: Value) -> Verdict:
    verdict = compare_dark_current(current, expected)
    out = sum(member.integrations for member in config.members) - config.integrations
    if not out:
        return verdict
    condition = f"with {out} of {out + config.integrations} integrations left out"
    return verdict.model_copy(update={"condition": condition})


def reference_metadata(config: BuildConfig, built: BuiltDark) -> ReferenceResults:
    """Return the metadata of the product ``reference``."""
    config = replace(config, left_out=built.left_out)
    ready, mode, key = config.ready, config.mode, config.key
    current, combined, plan, flags = built.current, built.dark.combined, built.dark.plan, built.flags
    fit = built.dark.fit
    expected = detectors()[key.detector].expected.dark_current_nrc09
    comparison = _dark_current_verdict(config, current, expected)
    measured = [
        (rate, mjd)
        for rate, mjd in zip(current.by_integration, _start_times(config), strict=True)
        if math.isfinite(rate)
    ]
    difference = None if built.comparison is None else built.comparison.difference
    return ReferenceResults(
        configuration=ready.configuration,
        key=key,
        set_id=ready.set_id,
        mode=mode.name,
        file=writer.dark_file_name(key),
        exposures=[member.exposure_id for member in config.members],
        integrations=sum(member.integrations for member in config.members),
        gain=ready.gain,
        pedigree=built.pedigree,
        simulated=ready.simulated,
        dark_current_e_per_ks=current.value,
        dark_current_error_e_per_ks=current.error,
        expected_e_per_ks=expected.value,
        expected_sigma_e_per_ks=expected.error,
        verdict=str(comparison),
        comparison=comparison,
        dark_current_by_integration=[rate for rate, _ in measured],
        integration_mjd=[mjd for _, mjd in measured],
        amplifier_dark_current_e_per_ks=[finite(rate) for rate in current.by_amplifier],
        amplifier_dark_current_error_e_per_ks=[finite(error) for error in current.amplifier_errors],
        mean_ramp_dn=built.median_ramps[0],
        mean_ramp_error_dn=built.median_ramps[1],
        group_time=key.group_time,
        hot_pixels=current.hot_pixels,
        unmeasured=combined.unmeasured,
        clipped_fraction=1 - combined.total_kept / combined.total_valid,
        groups_per_window=plan.groups,
        rows_per_window=plan.rows,
        clip=mode.clip(config.integrations, SIGMA),
        err_is=mode.errors,
        min_measurements=None if flags is None else flags.thresholds.min_measurements,
        unreliable_pixels=None if flags is None else flags.counts.unreliable,
        flagged_pixels=None if flags is None else json_numbers(asdict(flags.counts)),
        flag_thresholds=None if flags is None else json_numbers(asdict(flags.thresholds)),
        replaces=None if built.comparison is None else built.comparison.where,
        differences=[] if flags is None else _difference_lines(built.comparison),
        ramps=[member.ramp.key for member in config.members],
        verification=built.verification,
        changes=[] if difference is None else difference.changes,
        reset_settling=settling_figures(config, current),
        integrations_in_use=config.integrations,
        left_out_exposures=list(built.left_out),
        too_few_to_compare=built.too_few_to_compare,
        model_ramp_pixels=None if flags is None else flags.model_ramp,
        unflagged_steps=None if fit is None else fit.steps,
        clipped_mean_pixels=None if fit is None else fit.left,
    )


def settling_figures(config: BuildConfig, current: DarkCurrent) -> ResetSettling | None:
    """Return the settling that was left out of the dark current; None where there was none."""
    settling = current.settling
    if settling is None:
        return None
    gain, time = config.ready.gain, config.key.group_time
    per_ks = gain / time * 1000
    return ResetSettling(
        amplitude_e=settling.amplitude * gain,
        time_constant_s=settling.tau * time,
        removed_e_per_ks=float(settling.slopes(config.key.ngroups)[-1]) * per_ks,
        removed_error_e_per_ks=settling.slope_error * per_ks,
    )


def _difference_lines(comparison: PreviousComparison | None) -> list[str]:
    """Return the differences as HISTORY has them."""
    if comparison is None:
        return describe_difference(None)
    if comparison.difference is not None:
        return describe_difference(comparison.difference)
    line = f"DIFFERENCES: replaces {comparison.name}, which cannot be compared: {comparison.why_not}"
    return [line[:_LONGEST_REASON]]


def _left_out_line(entry: LeftOutExposure) -> str:
    """Return what HISTORY says about an exposure or integration that is not in the mean, or stands apart."""
    # FITS headers hold ASCII.
    line = str(entry).replace("±", "+-")
    if entry.left_out:
        return f"LEFT OUT: {line}."
    return f"NOT LEFT OUT, since more than a fifth of the set stands apart: {line}."


def _start_times(config: BuildConfig) -> list[float]:
    """Return the start of every integration in use, MJD; those of an exposure are evenly spaced."""
    return [
        member.start_mjd + index * (member.end_mjd - member.start_mjd) / member.integrations
        for member, index in config.in_use(config.members)
    ]
