"""Which pipeline steps were run on an exposure, and which it still needs.

The order is that of jwst 3 (``calwebb_detector1``, near-infrared branch), without dark_current.
"""

from collections.abc import Mapping
from typing import Any

#: Step -> keyword of its status, in the order in which they run.
STEPS: dict[str, str] = {
    "dq_init": "S_DQINIT",
    "saturation": "S_SATURA",
    "superbias": "S_SUPERB",
    "refpix": "S_REFPIX",
    "linearity": "S_LINEAR",
    "jump": "S_JUMP",
    "persistence": "S_PERSIS",
}
#: Step -> types of the reference files that it uses.
REFERENCE_TYPES: dict[str, tuple[str, ...]] = {
    "dq_init": ("mask",),
    "saturation": ("saturation", "superbias"),
    "superbias": ("superbias",),
    "refpix": (),
    "linearity": ("linearity",),
    "jump": ("gain", "readnoise"),
    "persistence": (),
}
#: Keywords that say with what the steps were run, apart from R_* for the reference files.
PROVENANCE = ("CRDS_CTX", "CAL_VER")
#: The jump step of jwst is skipped for ramps with fewer groups.
MINIMUM_JUMP_GROUPS = 3

#: group_scale only undoes the scaling of frames averaged on board, before dq_init.
_HARMLESS = frozenset({"S_GRPSCL"})
#: Names of steps that a dark must not have gone through, by keyword; for error messages.
_OTHER_STEPS = {
    "S_DARK": "dark_current",
    "S_RAMP": "ramp_fit",
    "S_IPC": "ipc",
    "S_CLNFNS": "clean_flicker_noise",
    "S_CHGMIG": "charge_migration",
    "S_PCTFRM": "picture_frame",
    "S_GANSCL": "gain_scale",
}


def step_status(header: Mapping[str, Any], step: str) -> str:
    """Return the status of a step in a header, such as ``"COMPLETE"`` or ``"SKIPPED"``, or ``""``."""
    return _word(header.get(STEPS[step]))


def completed(header: Mapping[str, Any]) -> list[str]:
    """Return the steps of `STEPS` that are COMPLETE in a header, in order."""
    return [step for step in STEPS if step_status(header, step) == "COMPLETE"]


def out_of_order(header: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return (missing step, later step that is COMPLETE), or None if the steps are in order.

    A step that jwst skips for a good reason does not count as missing: refpix if the subarray has no
    reference pixels, jump if there are too few groups.
    """
    missing: str | None = None
    for step in STEPS:
        status = step_status(header, step)
        if status == "COMPLETE":
            if missing is not None:
                return missing, step
        elif missing is None and not _rightly_skipped(header, step, status):
            missing = step
    return None


def not_allowed(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (keyword, step) of every COMPLETE step that must not be run on a dark."""
    known = {*STEPS.values(), *_HARMLESS}
    return [
        (keyword, _OTHER_STEPS.get(keyword, "a step that is not known here"))
        for keyword in header
        if keyword.startswith("S_") and keyword not in known and _word(header[keyword]) == "COMPLETE"
    ]


def to_run(header: Mapping[str, Any], persistence: bool) -> list[str]:
    """Return the steps that an exposure still needs, in order.

    Parameters
    ----------
    header : mapping
        Primary header whose steps are in order.
    persistence : bool
        Whether to run the persistence step.
    """
    done = completed(header)
    last = max((list(STEPS).index(step) for step in done), default=-1)
    return [
        step
        for index, step in enumerate(STEPS)
        if index > last and (persistence or step != "persistence") and not _too_short(header, step)
    ]


def calibrated_before(header: Mapping[str, Any]) -> dict[str, str]:
    """Return CRDS_CTX and CAL_VER of a file that arrived with steps done, as far as its header has them."""
    if not completed(header):
        return {}
    said = {keyword: str(header.get(keyword, "")).strip() for keyword in PROVENANCE}
    return {keyword: value for keyword, value in said.items() if value}


def _rightly_skipped(header: Mapping[str, Any], step: str, status: str) -> bool:
    return (step == "refpix" and status == "SKIPPED") or _too_short(header, step)


def _too_short(header: Mapping[str, Any], step: str) -> bool:
    groups = header.get("NGROUPS")
    return step == "jump" and isinstance(groups, int) and groups < MINIMUM_JUMP_GROUPS


def _word(value: object) -> str:
    return value.strip().upper() if isinstance(value, str) else ""
