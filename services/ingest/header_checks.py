"""What an exposure must be before any work is done on it: the checks of headers, shapes and small statistics.

The caller has read the file (`services.ingest.probe`); a check only looks at what was read. `nircam-darks
inspect` prints every check, ingest stops at the first that fails. The text of a failed check is the reason in
`exposure.rejected`, and part of the rejection's product key.
"""

import math
from datetime import date

import numpy as np

from services.ingest import steps
from services.ingest.checks import (
    Check,
    ExposureProbe,
    NotFinite,
    delivery_checks,
    integers,
    is_nircam,
    numbers,
)
from services.ingest.derived_keywords import derived_keywords
from services.ingest.problem_data import data_quality_check
from services.ingest.segments import SEGMENTS, segment_of
from shared.errors import BadInput
from shared.nircam.configuration import KEYWORDS
from shared.nircam.detectors import FULL_FRAME, READ_PATTERNS, detectors
from shared.nircam.exposure_times import is_plausible_mjd, longest_days, mjd_of_date, shortest_days
from shared.nircam.subarrays import stripe_keywords

EXP_TYPE = "NRC_DARK"
_INTEGERS = ("NINTS", "NGROUPS", "NFRAMES", "GROUPGAP", "NOUTPUTS")
_PLACE = ("SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2")
_AXES = ("FASTAXIS", "SLOWAXIS")
_TIMES = ("TFRAME", "TGROUP", "EFFINTTM", "EXPSTART", "EXPEND")
_WORDS = ("TELESCOP", "INSTRUME", "SUBARRAY", "READPATT", "DATE-OBS", "TIME-OBS")
#: Every keyword that the pipeline steps, the configuration key and the times of a set need.
REQUIRED: tuple[str, ...] = (*_WORDS, *_INTEGERS, *_PLACE, *_AXES, *_TIMES)
#: TGROUP is written to seven digits; keywords that differ by a larger relative amount contradict each other.
_TGROUP_TOLERANCE = 1e-3


def header_checks(probe: ExposureProbe, use_problem_data: bool = False) -> list[Check]:
    """Return the checks that need no pixels, in the order in which ingest reports them.

    Parameters
    ----------
    probe : ExposureProbe
    use_problem_data : bool, optional
        Whether exposures with a reported problem are taken, see `services.ingest.problem_data`.

    Returns
    -------
    list of Check
    """
    return [
        *_readable(probe),
        *delivery_checks(probe),
        _own_sums(probe),
        _exp_type(probe),
        _detector(probe),
        _stripes(probe),
        data_quality_check(probe, use_problem_data),
        _keywords(probe),
        _segment(probe),
        _shape(probe),
        _dq_shapes(probe),
        _dq_types(probe),
        _readout_pattern(probe),
        _group_time(probe),
        _axes(probe),
        _place(probe),
        _outputs(probe),
        _times(probe),
        _step_order(probe),
        _other_steps(probe),
    ]


def finite_check(values: NotFinite | None) -> Check:
    """Return the check that SCI holds no NaN or infinite value that its flags do not mark as unusable.

    Parameters
    ----------
    values : NotFinite or None
        Of the unflagged values, see `services.ingest.probe.not_finite`; None if SCI could not be read.
    """
    name = "finite data"
    if values is None:
        return Check(name, None, "SCI could not be read")
    if not values.count:
        return Check(name, True, "every value of SCI is finite, or flagged as unusable")
    integration, group, y, x = values.first or (0, 0, 0, 0)
    return Check(
        name,
        False,
        f"SCI holds {values.count} NaN or infinite value{'s' * (values.count != 1)} that neither PIXELDQ nor "
        f"GROUPDQ marks as unusable, the first at integration {integration + 1}, group {group + 1}, "
        f"x {x + 1}, y {y + 1} (1-based); flag them DO_NOT_USE, or start again from the _uncal file",
    )


def usable_check(unusable: int | None, science: int) -> Check:
    """Return the check that at least one science pixel is usable.

    Parameters
    ----------
    unusable : int or None
        Science pixels that PIXELDQ marks DO_NOT_USE, or that are DO_NOT_USE or SATURATED in the first
        group of every integration; None if the file has no data quality arrays yet.
    science : int
        All science pixels.
    """
    name = "usable pixels"
    if unusable is None:
        return Check(name, None, "the file has no PIXELDQ and GROUPDQ yet")
    if science and unusable >= science:
        return Check(
            name,
            False,
            f"all {science} science pixels are flagged (PIXELDQ DO_NOT_USE, or GROUPDQ DO_NOT_USE or "
            "SATURATED from the first group on): nothing to measure; look at the mask and saturation "
            "references",
        )
    return Check(name, True, f"{science - unusable} of {science} science pixels")


def _readable(probe: ExposureProbe) -> list[Check]:
    fault = probe.fault
    checks = []
    for name, good in (("FITS", "is FITS"), ("truncated", "as long as its headers say")):
        if fault is None:
            checks.append(Check(name, True, good))
        elif fault.check == name:
            checks.append(Check(name, False, fault.message))
        else:
            # Reading stopped before this could be known, or after it was known to be good.
            readable = name == "FITS" and fault.check == "truncated"
            checks.append(Check(name, True if readable else None, good if readable else "could not be told"))
    if fault is not None and fault.check not in {"FITS", "truncated"}:
        checks.append(Check(fault.check, False, fault.message))
    return checks


def _own_sums(probe: ExposureProbe) -> Check:
    name, sums = "checksum", probe.sums
    if sums is None or not (sums.checked or sums.contradictions):
        return Check(name, None, "not read" if sums is None else "the file states no sums")
    if sums.contradictions:
        return Check(
            name,
            False,
            f"the file's own sums contradict its bytes ({'; '.join(sums.contradictions)}); fetch it again, "
            "or, if its header was edited on purpose, write it with new sums",
        )
    return Check(name, True, f"CHECKSUM and DATASUM agree with the bytes of {', '.join(sums.checked)}")


def _exp_type(probe: ExposureProbe) -> Check:
    value = probe.primary.get("EXP_TYPE")
    if value is None:
        return _missing("EXP_TYPE", probe, "EXP_TYPE")
    good = str(value).strip() == EXP_TYPE
    detail = f"EXP_TYPE = {value!r}"
    return Check(
        "EXP_TYPE", good, detail if good else f"{detail}, not {EXP_TYPE!r}: not a NIRCam dark exposure"
    )


def _detector(probe: ExposureProbe) -> Check:
    value = probe.primary.get("DETECTOR")
    if value is None:
        return _missing("DETECTOR", probe, "DETECTOR")
    good = str(value).strip() in detectors()
    detail = f"DETECTOR = {value!r}"
    return Check(
        "DETECTOR", good, detail if good else f"{detail} is unknown; NIRCam has {', '.join(detectors())}"
    )


def _stripes(probe: ExposureProbe) -> Check:
    name = "stripes"
    if not probe.primary or not is_nircam(probe):
        return Check(name, None, "not NIRCam" if probe.primary else "no primary header could be read")
    keywords = stripe_keywords(probe.primary)
    if not keywords:
        return Check(name, True, "read as one piece of the detector")
    summary = ", ".join(f"{keyword} = {value!r}" for keyword, value in keywords.items())
    return Check(
        name,
        False,
        f"{summary}: the detector was read in stripes, whose pixels lie elsewhere than SUBSTRT says; "
        "nircam-darks makes no darks of striped readouts: leave this exposure out",
    )


def _keywords(probe: ExposureProbe) -> Check:
    if not probe.primary:
        return Check("keywords", None, "no primary header could be read")
    missing = [keyword for keyword in REQUIRED if probe.primary.get(keyword) in (None, "")]
    if missing:
        follows = derived_keywords(probe.primary, tuple(probe.shapes.get("SCI", ())))
        derivable = ", ".join(keyword for keyword in missing if keyword in follows)
        cure = f", or derive {derivable} with --derive-keywords (DARKS_DERIVE_KEYWORDS=true)"
        return Check(
            "keywords",
            False,
            f"the primary header has no {', '.join(missing)}; fetch the file again from the archive, or add "
            f"the keyword{'s' if len(missing) > 1 else ''}{cure if derivable else ''}",
        )
    for keywords, kind, types in (
        ((*_INTEGERS, *_PLACE, *_AXES), "an integer", (int,)),
        (_TIMES, "a number", (int, float)),
        ((*_WORDS, "EXP_TYPE", "DETECTOR"), "a string", (str,)),
    ):
        for keyword in keywords:
            value = probe.primary.get(keyword)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, types):
                return Check("keywords", False, f"{keyword} = {value!r} is not {kind}")
    return Check("keywords", True, f"all {len({*REQUIRED, *KEYWORDS.values()}) - 1} that are needed")


def _missing(name: str, probe: ExposureProbe, keyword: str) -> Check:
    if not probe.primary:
        return Check(name, None, "no primary header could be read")
    return Check(name, False, f"the primary header has no {keyword}; fetch the file again from the archive")


def _segment(probe: ExposureProbe) -> Check:
    try:
        segment = segment_of(probe.primary, probe.where)
    except BadInput as error:
        return Check(SEGMENTS, False, error.message)
    if segment is None:
        return Check(SEGMENTS, None, "the exposure is one file")
    return Check(SEGMENTS, True, str(segment))


def _shape(probe: ExposureProbe) -> Check:
    if probe.fault is not None and "SCI" not in probe.shapes:
        return Check("shape", None, "SCI could not be reached")
    if "SCI" not in probe.shapes:
        return Check("shape", False, f"no SCI extension (has {', '.join(probe.shapes) or 'none'})")
    shape = tuple(probe.shapes["SCI"])
    if len(shape) != 4:
        return Check(
            "shape",
            False,
            f"SCI is {len(shape)}-D {shape}, not 4-D (integrations, groups, y, x); "
            "NAXIS of an up-the-ramp exposure is 4",
        )
    wanted = integers(probe, "NINTS", "NGROUPS", "SUBSIZE2", "SUBSIZE1")
    if wanted is None:
        return Check("shape", None, f"SCI is {shape}, but the keywords to compare it with are missing")
    try:
        segment = segment_of(probe.primary, probe.where)
    except BadInput:
        return Check("shape", None, "the keywords do not say which integrations the segment holds")
    if segment is not None and shape[0] != segment.integrations:
        return Check("shape", False, f"{segment} has {segment.integrations}, but SCI has {shape[0]}")
    if segment is not None:
        wanted = (segment.integrations, *wanted[1:])
    for keyword, value, actual in zip(
        ("NINTS", "NGROUPS", "SUBSIZE2", "SUBSIZE1"), wanted, shape, strict=True
    ):
        if value != actual:
            return Check(
                "shape",
                False,
                f"{keyword} = {value}, but SCI is (integrations, groups, y, x) = {shape}, which has {actual}",
            )
    if 0 in shape:
        return Check("shape", False, f"SCI is {shape}: there are no pixels in it")
    return Check("shape", True, f"SCI (integrations, groups, y, x) = {shape}")


def _dq_shapes(probe: ExposureProbe) -> Check:
    name = "DQ shapes"
    sci = probe.shapes.get("SCI")
    present = [extension for extension in ("PIXELDQ", "GROUPDQ") if extension in probe.shapes]
    missing = [extension for extension in ("PIXELDQ", "GROUPDQ") if extension not in probe.shapes]
    done = steps.completed(probe.primary)
    if missing and done and steps.out_of_order(probe.primary) is None:
        # A file that was cut between two HDUs is whole to FITS, and its jumps would count as dark current.
        return Check(
            name,
            False,
            f"the header says that these steps are done: {', '.join(done)}; but the file has no "
            f"{' and no '.join(missing)}: it was cut short, or its flags were removed; fetch it again, or "
            "start from the _uncal file",
        )
    if sci is None or len(sci) != 4 or not present:
        return Check(name, None, "no PIXELDQ and GROUPDQ yet")
    for extension in present:
        wanted = sci if extension == "GROUPDQ" else sci[2:]
        actual = tuple(probe.shapes[extension])
        if actual != tuple(wanted):
            return Check(name, False, f"{extension} is {actual}, but SCI {tuple(sci)} needs {tuple(wanted)}")
    return Check(name, True, f"{' and '.join(present)} fit SCI")


def _dq_types(probe: ExposureProbe) -> Check:
    name = "DQ types"
    present = [extension for extension in ("PIXELDQ", "GROUPDQ") if extension in probe.types]
    if not present:
        return Check(name, None, "no PIXELDQ and GROUPDQ yet")
    for extension in present:
        dtype = probe.types[extension]
        # Flags of pixels have up to 31 bits, those of groups eight: a wider type would be cut.
        if dtype.kind not in "iu" or (extension == "GROUPDQ" and dtype != np.uint8):
            wanted = "uint8" if extension == "GROUPDQ" else "integers"
            return Check(name, False, f"{extension} holds {dtype}, but flags are {wanted}")
    return Check(name, True, f"{' and '.join(present)} hold flags")


def _readout_pattern(probe: ExposureProbe) -> Check:
    name = "READPATT"
    pattern = probe.primary.get("READPATT")
    counts = integers(probe, "NFRAMES", "GROUPGAP")
    if not isinstance(pattern, str) or counts is None or not is_nircam(probe):
        return Check(
            name, None, "not a NIRCam readout pattern" if pattern else "READPATT or its numbers are missing"
        )
    known = READ_PATTERNS.get(pattern.strip())
    if known is None:
        return Check(name, False, f"READPATT = {pattern!r} is unknown; NIRCam has {', '.join(READ_PATTERNS)}")
    summary = f"READPATT = {pattern.strip()!r} with NFRAMES = {counts[0]}, GROUPGAP = {counts[1]}"
    if known != counts:
        return Check(
            name, False, f"{summary}, but that pattern has NFRAMES = {known[0]}, GROUPGAP = {known[1]}"
        )
    return Check(name, True, summary)


def _group_time(probe: ExposureProbe) -> Check:
    name = "TGROUP"
    counts = integers(probe, "NFRAMES", "GROUPGAP")
    times = numbers(probe, "TFRAME", "TGROUP")
    if counts is None or times is None:
        return Check(name, None, "TFRAME, TGROUP, NFRAMES or GROUPGAP is missing")
    frame, group = times
    frames = counts[0] + counts[1]
    if frame <= 0 or group <= 0:
        return Check(name, False, f"TFRAME = {frame}, TGROUP = {group}: times in s must be greater than 0")
    summary = f"TGROUP = {group} s, TFRAME * (NFRAMES + GROUPGAP) = {frame * frames:.5f} s"
    good = math.isclose(group, frame * frames, rel_tol=_TGROUP_TOLERANCE)
    return Check(name, good, summary if good else f"{summary}: these keywords contradict each other")


def _axes(probe: ExposureProbe) -> Check:
    name = "FASTAXIS/SLOWAXIS"
    axes = integers(probe, "FASTAXIS", "SLOWAXIS")
    known = detectors().get(str(probe.primary.get("DETECTOR")).strip())
    if known is None or axes is None:
        return Check(name, None, "no known detector" if known is None else "FASTAXIS or SLOWAXIS is missing")
    summary = f"FASTAXIS, SLOWAXIS = {axes[0]}, {axes[1]}"
    if axes != (known.fastaxis, known.slowaxis):
        return Check(
            name, False, f"{summary}, but {known.name} is read with {known.fastaxis}, {known.slowaxis}"
        )
    return Check(name, True, summary)


def _place(probe: ExposureProbe) -> Check:
    name = "SUBSTRT/SUBSIZE"
    corner = integers(probe, "SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2")
    if corner is None:
        return Check(name, None, "SUBSTRT or SUBSIZE is missing")
    for axis, start, size in ((1, corner[0], corner[2]), (2, corner[1], corner[3])):
        if start < 1 or size < 1 or start + size - 1 > FULL_FRAME:
            return Check(
                name,
                False,
                f"SUBSTRT{axis} = {start}, SUBSIZE{axis} = {size} reaches out of the detector, "
                f"whose pixels are 1 to {FULL_FRAME}",
            )
    return Check(
        name, True, f"{corner[2]} x {corner[3]} pixels from x {corner[0]}, y {corner[1]}, inside the detector"
    )


def _outputs(probe: ExposureProbe) -> Check:
    value = integers(probe, "NOUTPUTS")
    if value is None or not is_nircam(probe):
        return Check("NOUTPUTS", None, "NOUTPUTS is missing" if value is None else "not NIRCam")
    good = value[0] in (1, 4)
    detail = f"NOUTPUTS = {value[0]}"
    return Check(
        "NOUTPUTS", good, detail if good else f"{detail}: a NIRCam detector reads out by 1 or 4 outputs"
    )


def _times(probe: ExposureProbe) -> Check:
    name = "times"
    span = numbers(probe, "EXPSTART", "EXPEND")
    day = probe.primary.get("DATE-OBS")
    if span is None or not isinstance(day, str):
        return Check(name, None, "EXPSTART, EXPEND or DATE-OBS is missing")
    for keyword, mjd in zip(("EXPSTART", "EXPEND"), span, strict=True):
        if not is_plausible_mjd(mjd):
            return Check(name, False, f"{keyword} = {mjd} is no MJD of NIRCam (2000 to 2100)")
    start, end = span
    if end <= start:
        return Check(name, False, f"EXPEND = {end} is not after EXPSTART = {start} (MJD, UTC)")
    try:
        began = mjd_of_date(date.fromisoformat(day.strip()))
    except ValueError:
        return Check(name, False, f"DATE-OBS = {day!r} is not a date (yyyy-mm-dd)")
    if not began - 1.0 <= start < began + 2.0:
        return Check(
            name, False, f"DATE-OBS = {day.strip()!r} is not the day of EXPSTART = {start} (MJD, UTC)"
        )
    counts, group_time = integers(probe, "NINTS", "NGROUPS"), numbers(probe, "TGROUP")
    if counts is None or group_time is None:
        return Check(name, None, "NINTS, NGROUPS or TGROUP is missing")
    least, most = shortest_days(*counts, *group_time), longest_days(*counts, *group_time)
    if not least <= end - start <= most:
        return Check(
            name,
            False,
            f"EXPEND - EXPSTART = {(end - start) * 86400:.6g} s, but NINTS = {counts[0]}, "
            f"NGROUPS = {counts[1]} and TGROUP = {group_time[0]} s allow {least * 86400:.6g} to "
            f"{most * 86400:.6g} s; mend the times",
        )
    return Check(name, True, f"from {start} to {end} (MJD, UTC), DATE-OBS {day}")


def _step_order(probe: ExposureProbe) -> Check:
    name = "step order"
    if not probe.primary:
        return Check(name, None, "no primary header could be read")
    wrong = steps.out_of_order(probe.primary)
    if wrong is not None:
        missing, later = wrong
        status = steps.step_status(probe.primary, missing) or "missing"
        return Check(
            name,
            False,
            f"steps out of order: {later} ({steps.STEPS[later]}) is COMPLETE, but {missing} "
            f"({steps.STEPS[missing]}) is {status}; start again from the _uncal file",
        )
    done = steps.completed(probe.primary)
    return Check(name, True, f"done: {', '.join(done)}" if done else "no step done yet")


def _other_steps(probe: ExposureProbe) -> Check:
    name = "other steps"
    if not probe.primary:
        return Check(name, None, "no primary header could be read")
    forbidden = steps.not_allowed(probe.primary)
    if not forbidden:
        return Check(name, True, "none")
    summary = ", ".join(f"{keyword} ({step})" for keyword, step in forbidden)
    return Check(
        name,
        False,
        f"{summary} is COMPLETE, which a dark must not have behind it (allowed: {', '.join(steps.STEPS)}); "
        "start again from the _uncal file",
    )
