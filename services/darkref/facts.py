"""What a dark says of itself: the facts in its manifest, and its header."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from services.darkref import reference_file
from services.darkref.dark_current import DarkCurrent, verdict
from services.darkref.difference import Difference, describe
from services.darkref.flag_thresholds import PixelCounts, Thresholds
from services.darkref.judging import as_facts
from services.darkref.modes import Mode
from services.darkref.products import ReferenceFacts
from services.darkref.reference_history import Making, flagged_pixels
from services.darkref.streaming import CombinedSet
from services.darkref.verification_products import Verification
from services.darkref.windows import WindowPlan
from shared.detectors import detectors
from shared.errors import PermanentError
from shared.messages import SetMember, SetReady
from shared.settings import StageSettings


@dataclass(frozen=True)
class Judged:
    """What was flagged in DQ, and from where on."""

    counts: PixelCounts
    thresholds: Thresholds


@dataclass(frozen=True)
class Differences:
    """A reference that is replaced, and what changes.

    Attributes
    ----------
    name : str
        For people.
    key : str
        In the store.
    difference : Difference or None
        None where it could not be compared.
    why_not : str or None
        In that case.
    """

    name: str
    key: str
    difference: Difference | None
    why_not: str | None


def describe_dark(
    ready: SetReady,
    members: Sequence[SetMember],
    mode: Mode,
    settings: StageSettings,
    sigma: float,
    dark_current: float = 0.0,
    judged: Judged | None = None,
    differences: Differences | None = None,
) -> reference_file.DarkDescription:
    """Return what the header says; `dark_current` in e- per 1000 s, and the rest, once they are known.

    Raises
    ------
    PermanentError
        If `settings` would pass simulated exposures off as measured ones.
    """
    count = sum(member.integrations for member in members)
    start = members[0].start_mjd
    history = mode.history(
        Making(
            key=ready.key,
            exposures=[member.exposure_id for member in members],
            integrations=count,
            sigma=sigma,
            clip=mode.clip(count, sigma),
            min_measurements=settings.min_measurements,
            pixels=() if judged is None else flagged_pixels(judged.counts, judged.thresholds),
            differences=_said(differences),
        )
    )
    return reference_file.DarkDescription(
        pedigree=pedigree_of(ready, members, settings),
        useafter=settings.useafter or f"{reference_file.utc(start):%Y-%m-%dT%H:%M:%S}",
        descrip=reference_file.descrip(ready.key, count, ready.simulated, settings.descrip),
        author=settings.author,
        dark_current=dark_current / 1000,
        history=history,
        errors=mode.errors,
    )


def pedigree_of(ready: SetReady, members: Sequence[SetMember], settings: StageSettings) -> str:
    """Return PEDIGREE of a set's dark.

    Raises
    ------
    PermanentError
        If `settings` would pass simulated exposures off as measured ones.
    """
    try:
        return reference_file.pedigree(
            ready.simulated,
            min(member.start_mjd for member in members),
            max(member.end_mjd for member in members),
            settings.pedigree,
        )
    except ValueError as error:
        raise PermanentError(
            f"set {ready.set_id} of {ready.configuration}: {error}: leave --pedigree (DARKS_PEDIGREE) away, "
            "or leave the simulated exposures out"
        ) from None


def facts_of(
    ready: SetReady,
    members: Sequence[SetMember],
    mode: Mode,
    settings: StageSettings,
    sigma: float,
    combined: CombinedSet,
    current: DarkCurrent,
    ramps: list[list[float]],
    windows: WindowPlan,
    pedigree: str,
    judged: Judged | None,
    differences: Differences | None,
    verification: Verification | None,
) -> ReferenceFacts:
    """Return the facts of the product; `ramps` as `median_ramps` has them."""
    expected = detectors()[ready.key.detector].expected.dark_current_nrc09
    measured = [
        (rate, mjd)
        for rate, mjd in zip(current.by_integration, _starts(members), strict=True)
        if math.isfinite(rate)
    ]
    return ReferenceFacts(
        configuration=ready.configuration,
        key=ready.key,
        set_id=ready.set_id,
        mode=mode.name,
        file=reference_file.file_name(ready.key),
        exposures=[member.exposure_id for member in members],
        integrations=len(current.by_integration),
        gain=ready.gain,
        pedigree=pedigree,
        simulated=ready.simulated,
        dark_current_e_per_ks=current.value,
        dark_current_error_e_per_ks=current.error,
        expected_e_per_ks=expected.value,
        expected_sigma_e_per_ks=expected.sigma,
        verdict=verdict(current, expected),
        dark_current_by_integration=[rate for rate, _ in measured],
        integration_mjd=[mjd for _, mjd in measured],
        amplifier_dark_current_e_per_ks=[
            rate if math.isfinite(rate) else None for rate in current.by_amplifier
        ],
        mean_ramp_dn=ramps[0],
        mean_ramp_error_dn=ramps[1],
        group_time=ready.key.group_time,
        hot_pixels=current.hot_pixels,
        unmeasured=combined.unmeasured,
        clipped_fraction=1 - combined.kept / combined.used,
        groups_per_window=windows.groups,
        rows_per_window=windows.rows,
        clip=mode.clip(len(current.by_integration), sigma),
        err_is=mode.errors,
        min_measurements=None if judged is None else settings.min_measurements,
        unreliable_pixels=None if judged is None else judged.counts.unreliable,
        flagged_pixels=None if judged is None else as_facts(asdict(judged.counts)),
        flag_thresholds=None if judged is None else as_facts(asdict(judged.thresholds)),
        replaces=None if differences is None else differences.key,
        differences=[] if judged is None else _said(differences),
        ramps=[member.ramp.key for member in members],
        verification=verification,
    )


def _said(differences: Differences | None) -> list[str]:
    """Say the differences as HISTORY has them."""
    if differences is None:
        return describe(None)
    if differences.difference is not None:
        return describe(differences.difference)
    # The reason may be long; HISTORY has room for so much.
    return [
        f"DIFFERENCES: replaces {differences.name}, which cannot be compared: {differences.why_not}"[:300]
    ]


def _starts(members: Sequence[SetMember]) -> list[float]:
    starts: list[float] = []
    for member in members:
        step = (member.end_mjd - member.start_mjd) / member.integrations
        starts += [member.start_mjd + n * step for n in range(member.integrations)]
    return starts
