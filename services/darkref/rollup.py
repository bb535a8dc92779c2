"""Checks of a reference, and how they become one verdict.

Every check is one amplifier's, the detector's, or the file's. An amplifier passes with its checks, the
detector with its amplifiers and its own, the file with the detector and its own; accepted is what passes.
A check without the data for it is recorded as such and decides nothing.
"""

from collections.abc import Sequence

from services.darkref.verification_products import Check, LeftOut, Verification

#: What a check may be about, besides an amplifier.
FILE, DETECTOR = "file", "detector"


def roll_up(checks: list[Check], outputs: int, left_out: LeftOut | str, measurements: float) -> Verification:
    """Return the verdict of checks.

    Parameters
    ----------
    checks : list of Check
    outputs : int
        Amplifiers there are.
    left_out : LeftOut or str
        Kept with the verdict; a string is why there is none.
    measurements : float
        N, kept likewise.
    """
    by_amplifier = [_together(checks, f"amplifier {n}") for n in range(1, outputs + 1)]
    detector = _together(checks, DETECTOR) is not False and False not in by_amplifier
    accepted = detector and _together(checks, FILE) is not False
    return Verification(
        accepted=accepted,
        verdict=_sentence(checks, accepted),
        amplifiers=by_amplifier,
        detector=detector,
        checks=checks,
        left_out=None if isinstance(left_out, str) else left_out,
        measurements=measurements,
    )


def _together(checks: Sequence[Check], where: str) -> bool | None:
    decided = [one.passed for one in checks if one.where == where and one.required and one.passed is not None]
    return all(decided) if decided else None


def _sentence(checks: Sequence[Check], accepted: bool) -> str:
    failed = [one for one in checks if one.passed is False and one.required]
    open_ = [one for one in checks if one.passed is None]
    rest = f"; not enough data for {_names(open_)}" if open_ else ""
    if accepted:
        return f"accepted: {sum(one.passed is True for one in checks)} of {len(checks)} checks passed{rest}"
    said = "; ".join(_failure(one) for one in failed)
    return f"rejected: {said}{rest}"


def _failure(check: Check) -> str:
    place = "" if check.where == FILE else f" of {check.where}"
    if isinstance(check.value, str) or check.value is None:
        asked = f" is {check.value}, not {check.limit}" if check.limit is not None else ""
        return f"{check.name}{place}{asked}"
    return f"{check.name}{place} {check.value:.4g} {check.unit} (limit {check.limit:.4g})"


def _names(checks: Sequence[Check]) -> str:
    return ", ".join(dict.fromkeys(one.name for one in checks))
