"""Checks on how the detector was read: pattern, times, axes, place and outputs."""

import math
from datetime import date

from services.ingest.checks import Check, Evidence, integers, is_nircam, numbers
from shared.detectors import FULL_FRAME, READ_PATTERNS, detectors

#: TGROUP is written to seven digits; more than this apart, the keywords contradict each other.
_TGROUP_TOLERANCE = 1e-3


def readout_checks(evidence: Evidence) -> list[Check]:
    """Return the checks on the readout, in the order in which ingest reports them."""
    return [
        _readout_pattern(evidence),
        _group_time(evidence),
        _axes(evidence),
        _place(evidence),
        _outputs(evidence),
        _times(evidence),
    ]


def _readout_pattern(evidence: Evidence) -> Check:
    name = "READPATT"
    pattern = evidence.primary.get("READPATT")
    counts = integers(evidence, "NFRAMES", "GROUPGAP")
    if not isinstance(pattern, str) or counts is None or not is_nircam(evidence):
        return Check(
            name, None, "not a NIRCam readout pattern" if pattern else "READPATT or its numbers are missing"
        )
    known = READ_PATTERNS.get(pattern.strip())
    if known is None:
        return Check(name, False, f"READPATT = {pattern!r} is unknown; NIRCam has {', '.join(READ_PATTERNS)}")
    said = f"READPATT = {pattern.strip()!r} with NFRAMES = {counts[0]}, GROUPGAP = {counts[1]}"
    if known != counts:
        return Check(name, False, f"{said}, but that pattern has NFRAMES = {known[0]}, GROUPGAP = {known[1]}")
    return Check(name, True, said)


def _group_time(evidence: Evidence) -> Check:
    name = "TGROUP"
    counts = integers(evidence, "NFRAMES", "GROUPGAP")
    times = numbers(evidence, "TFRAME", "TGROUP")
    if counts is None or times is None:
        return Check(name, None, "TFRAME, TGROUP, NFRAMES or GROUPGAP is missing")
    frame, group = times
    frames = counts[0] + counts[1]
    if frame <= 0 or group <= 0:
        return Check(name, False, f"TFRAME = {frame}, TGROUP = {group}: times in s must be greater than 0")
    said = f"TGROUP = {group} s, TFRAME * (NFRAMES + GROUPGAP) = {frame * frames:.5f} s"
    good = math.isclose(group, frame * frames, rel_tol=_TGROUP_TOLERANCE)
    return Check(name, good, said if good else f"{said}: these keywords contradict each other")


def _axes(evidence: Evidence) -> Check:
    name = "FASTAXIS/SLOWAXIS"
    axes = integers(evidence, "FASTAXIS", "SLOWAXIS")
    known = detectors().get(str(evidence.primary.get("DETECTOR")).strip())
    if known is None or axes is None:
        return Check(name, None, "no known detector" if known is None else "FASTAXIS or SLOWAXIS is missing")
    said = f"FASTAXIS, SLOWAXIS = {axes[0]}, {axes[1]}"
    if axes != (known.fastaxis, known.slowaxis):
        return Check(name, False, f"{said}, but {known.name} is read with {known.fastaxis}, {known.slowaxis}")
    return Check(name, True, said)


def _place(evidence: Evidence) -> Check:
    name = "SUBSTRT/SUBSIZE"
    place = integers(evidence, "SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2")
    if place is None:
        return Check(name, None, "SUBSTRT or SUBSIZE is missing")
    for axis, start, size in ((1, place[0], place[2]), (2, place[1], place[3])):
        if start < 1 or size < 1 or start + size - 1 > FULL_FRAME:
            return Check(
                name,
                False,
                f"SUBSTRT{axis} = {start}, SUBSIZE{axis} = {size} reaches out of the detector, "
                f"whose pixels are 1 to {FULL_FRAME}",
            )
    return Check(
        name, True, f"{place[2]} x {place[3]} pixels from x {place[0]}, y {place[1]}, inside the detector"
    )


def _outputs(evidence: Evidence) -> Check:
    value = integers(evidence, "NOUTPUTS")
    if value is None or not is_nircam(evidence):
        return Check("NOUTPUTS", None, "NOUTPUTS is missing" if value is None else "not NIRCam")
    good = value[0] in (1, 4)
    detail = f"NOUTPUTS = {value[0]}"
    return Check(
        "NOUTPUTS", good, detail if good else f"{detail}: a NIRCam detector reads out by 1 or 4 outputs"
    )


def _times(evidence: Evidence) -> Check:
    name = "times"
    span = numbers(evidence, "EXPSTART", "EXPEND")
    day = evidence.primary.get("DATE-OBS")
    if span is None or not isinstance(day, str):
        return Check(name, None, "EXPSTART, EXPEND or DATE-OBS is missing")
    if not span[1] > span[0] > 0:
        return Check(name, False, f"EXPEND = {span[1]} is not after EXPSTART = {span[0]} (MJD, UTC)")
    try:
        date.fromisoformat(day.strip())
    except ValueError:
        return Check(name, False, f"DATE-OBS = {day!r} is not a date (yyyy-mm-dd)")
    return Check(name, True, f"from {span[0]} to {span[1]} (MJD, UTC), DATE-OBS {day}")
