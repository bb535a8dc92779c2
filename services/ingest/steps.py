"""Which pipeline steps an exposure has behind it, and which it still needs.

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
#: Step -> types of the reference files that it asks for.
REFERENCE_TYPES: dict[str, tuple[str, ...]] = {
    "dq_init": ("mask",),
    "saturation": ("saturation", "superbias"),
    "superbias": ("superbias",),
    "refpix": (),
    "linearity": ("linearity",),
    "jump": ("gain", "readnoise"),
    "persistence": (),
}
#: jwst flags no jumps in fewer groups than this.
MINIMUM_JUMP_GROUPS = 3

#: group_scale only undoes the scaling of frames averaged on board, before dq_init.
_HARMLESS = frozenset({"S_GRPSCL"})
#: Other steps by keyword, for the refusal to speak of them by name.
_OTHER_STEPS = {
    "S_DARK": "dark_current",
    "S_RAMP": "ramp_fit",
    "S_IPC": "ipc",
    "S_CLNFNS": "clean_flicker_noise",
    "S_CHGMIG": "charge_migration",
    "S_PCTFRM": "picture_frame",
    "S_GANSCL": "gain_scale",
}


def status(header: Mapping[str, Any], step: str) -> str:
    """Return a step's status as the header has it (``"COMPLETE"``, ``"SKIPPED"``), or ``""``."""
    return _word(header.get(STEPS[step]))


def completed(header: Mapping[str, Any]) -> list[str]:
    """Return the steps of our chain that the header calls COMPLETE, in order."""
    return [step for step in STEPS if status(header, step) == "COMPLETE"]


def out_of_order(header: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return (missing step, later step that is COMPLETE), or None if the steps are in order.

    A step that jwst itself skips for good reason does not count as missing: refpix where the subarray
    has no reference pixels, jump with too few groups.
    """
    missing: str | None = None
    for step in STEPS:
        said = status(header, step)
        if said == "COMPLETE":
            if missing is not None:
                return missing, step
        elif missing is None and not _rightly_skipped(header, step, said):
            missing = step
    return None


def not_allowed(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (keyword, step) of every COMPLETE step that a dark must not have behind it."""
    known = {*STEPS.values(), *_HARMLESS}
    return [
        (keyword, _OTHER_STEPS.get(keyword, "a step that is not known here"))
        for keyword in header
        if keyword.startswith("S_") and keyword not in known and _word(header[keyword]) == "COMPLETE"
    ]


def to_run(header: Mapping[str, Any], persistence: bool) -> list[str]:
    """Return the steps that a file with these statuses still needs, in order.

    Parameters
    ----------
    header : mapping
        Primary header whose steps are in order.
    persistence : bool
        Whether persistence is wanted at all.
    """
    done = completed(header)
    last = max((list(STEPS).index(step) for step in done), default=-1)
    return [
        step
        for place, step in enumerate(STEPS)
        if place > last and (persistence or step != "persistence") and not _too_short(header, step)
    ]


def _rightly_skipped(header: Mapping[str, Any], step: str, said: str) -> bool:
    return (step == "refpix" and said == "SKIPPED") or _too_short(header, step)


def _too_short(header: Mapping[str, Any], step: str) -> bool:
    groups = header.get("NGROUPS")
    return step == "jump" and isinstance(groups, int) and groups < MINIMUM_JUMP_GROUPS


def _word(value: object) -> str:
    return value.strip().upper() if isinstance(value, str) else ""
