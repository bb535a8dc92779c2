"""What an exposure must be before any work is done on it.

A check looks at headers, shapes and small statistics only; whoever calls has read them. `inspect`
prints every check, ingest stops at the first that fails.
"""

from services.ingest import steps
from services.ingest.checks import Check, Evidence, NotFinite, integers
from services.ingest.readout_checks import readout_checks
from shared.configuration import KEYWORDS
from shared.detectors import detectors

EXP_TYPE = "NRC_DARK"
_INTEGERS = ("NINTS", "NGROUPS", "NFRAMES", "GROUPGAP", "NOUTPUTS")
_PLACE = ("SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2")
_AXES = ("FASTAXIS", "SLOWAXIS")
_TIMES = ("TFRAME", "TGROUP", "EFFINTTM", "EXPSTART", "EXPEND")
_WORDS = ("TELESCOP", "INSTRUME", "SUBARRAY", "READPATT", "DATE-OBS", "TIME-OBS")
#: Every keyword the pipeline steps, the configuration key and the times of a set need.
REQUIRED: tuple[str, ...] = (*_WORDS, *_INTEGERS, *_PLACE, *_AXES, *_TIMES)


def header_checks(evidence: Evidence) -> list[Check]:
    """Return every check that needs no pixel, in the order in which ingest reports them."""
    return [
        *_readable(evidence),
        _announced_size(evidence),
        _announced_sha256(evidence),
        _exp_type(evidence),
        _detector(evidence),
        _keywords(evidence),
        _shape(evidence),
        _dq_shapes(evidence),
        *readout_checks(evidence),
        _step_order(evidence),
        _other_steps(evidence),
    ]


def finite_check(found: NotFinite | None) -> Check:
    """Return the check on NaN and infinite data; `found` is None where nothing could be read."""
    name = "finite data"
    if found is None:
        return Check(name, None, "SCI could not be read")
    if not found.count:
        return Check(name, True, "every value of SCI is finite")
    place = found.first or (0, 0, 0, 0)
    return Check(
        name,
        False,
        f"SCI holds {found.count} NaN or infinite values, the first at integration {place[0] + 1}, "
        f"group {place[1] + 1}, x {place[3] + 1}, y {place[2] + 1} (1-based); a raw dark has none",
    )


def usable_check(unusable: int | None, science: int) -> Check:
    """Return the check that some science pixel can be used.

    Parameters
    ----------
    unusable : int or None
        Science pixels that PIXELDQ marks DO_NOT_USE, or that are DO_NOT_USE or SATURATED in the first
        group of every integration; None where the file has no data quality yet.
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


def _readable(evidence: Evidence) -> list[Check]:
    fault = evidence.fault
    checks = []
    for name, good in (("FITS", "is FITS"), ("truncated", "as long as its headers say")):
        if fault is None:
            checks.append(Check(name, True, good))
        elif fault.check == name:
            checks.append(Check(name, False, fault.message))
        else:
            # The header walk stopped before it could tell, or past the point where it could.
            readable = name == "FITS" and fault.check == "truncated"
            checks.append(Check(name, True if readable else None, good if readable else "could not be told"))
    if fault is not None and fault.check not in {"FITS", "truncated"}:
        checks.append(Check(fault.check, False, fault.message))
    return checks


def _announced_size(evidence: Evidence) -> Check:
    said, is_ = evidence.announced_size, evidence.size
    if said is None or is_ is None:
        return Check("size", None, "not announced")
    return Check(
        "size", said == is_, f"the file has {is_} bytes, its announcement says {said}{_refetch(said == is_)}"
    )


def _announced_sha256(evidence: Evidence) -> Check:
    said, is_ = evidence.announced_sha256, evidence.sha256
    if said is None or is_ is None:
        return Check("sha256", None, "not announced")
    same = said.lower() == is_
    return Check("sha256", same, f"sha256 is {is_}, its announcement says {said}{_refetch(same)}")


def _refetch(good: bool) -> str:
    return "" if good else "; fetch it again"


def _exp_type(evidence: Evidence) -> Check:
    value = evidence.primary.get("EXP_TYPE")
    if value is None:
        return _missing("EXP_TYPE", evidence, "EXP_TYPE")
    good = str(value).strip() == EXP_TYPE
    detail = f"EXP_TYPE = {value!r}"
    return Check(
        "EXP_TYPE", good, detail if good else f"{detail}, not {EXP_TYPE!r}: not a NIRCam dark exposure"
    )


def _detector(evidence: Evidence) -> Check:
    value = evidence.primary.get("DETECTOR")
    if value is None:
        return _missing("DETECTOR", evidence, "DETECTOR")
    good = str(value).strip() in detectors()
    detail = f"DETECTOR = {value!r}"
    return Check(
        "DETECTOR", good, detail if good else f"{detail} is unknown; NIRCam has {', '.join(detectors())}"
    )


def _keywords(evidence: Evidence) -> Check:
    if not evidence.primary:
        return Check("keywords", None, "no primary header could be read")
    missing = [keyword for keyword in REQUIRED if evidence.primary.get(keyword) in (None, "")]
    if missing:
        return Check(
            "keywords",
            False,
            f"the primary header has no {', '.join(missing)}; fetch the file again from the archive, or add "
            f"the keyword{'s' if len(missing) > 1 else ''}",
        )
    for keywords, kind, types in (
        ((*_INTEGERS, *_PLACE, *_AXES), "an integer", (int,)),
        (_TIMES, "a number", (int, float)),
        ((*_WORDS, "EXP_TYPE", "DETECTOR"), "a string", (str,)),
    ):
        for keyword in keywords:
            value = evidence.primary.get(keyword)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, types):
                return Check("keywords", False, f"{keyword} = {value!r} is not {kind}")
    return Check("keywords", True, f"all {len({*REQUIRED, *KEYWORDS.values()}) - 1} that are needed")


def _shape(evidence: Evidence) -> Check:
    if evidence.fault is not None and "SCI" not in evidence.shapes:
        return Check("shape", None, "SCI could not be reached")
    if "SCI" not in evidence.shapes:
        return Check("shape", False, f"no SCI extension (has {', '.join(evidence.shapes) or 'none'})")
    shape = tuple(evidence.shapes["SCI"])
    if len(shape) != 4:
        return Check(
            "shape",
            False,
            f"SCI is {len(shape)}-D {shape}, not 4-D (integrations, groups, y, x); "
            "NAXIS of an up-the-ramp exposure is 4",
        )
    wanted = integers(evidence, "NINTS", "NGROUPS", "SUBSIZE2", "SUBSIZE1")
    if wanted is None:
        return Check("shape", None, f"SCI is {shape}, but the keywords to compare it with are missing")
    for keyword, said, found in zip(("NINTS", "NGROUPS", "SUBSIZE2", "SUBSIZE1"), wanted, shape, strict=True):
        if said != found:
            return Check(
                "shape",
                False,
                f"{keyword} = {said}, but SCI is (integrations, groups, y, x) = {shape}, which has {found}",
            )
    if 0 in shape:
        return Check("shape", False, f"SCI is {shape}: there are no pixels in it")
    return Check("shape", True, f"SCI (integrations, groups, y, x) = {shape}")


def _dq_shapes(evidence: Evidence) -> Check:
    name = "DQ shapes"
    sci = evidence.shapes.get("SCI")
    present = [extension for extension in ("PIXELDQ", "GROUPDQ") if extension in evidence.shapes]
    if sci is None or len(sci) != 4 or not present:
        return Check(name, None, "no PIXELDQ and GROUPDQ yet")
    for extension in present:
        wanted = sci if extension == "GROUPDQ" else sci[2:]
        found = tuple(evidence.shapes[extension])
        if found != tuple(wanted):
            return Check(name, False, f"{extension} is {found}, but SCI {tuple(sci)} needs {tuple(wanted)}")
    return Check(name, True, f"{' and '.join(present)} fit SCI")


def _step_order(evidence: Evidence) -> Check:
    name = "step order"
    if not evidence.primary:
        return Check(name, None, "no primary header could be read")
    wrong = steps.out_of_order(evidence.primary)
    if wrong is not None:
        missing, later = wrong
        said = steps.status(evidence.primary, missing) or "missing"
        return Check(
            name,
            False,
            f"steps out of order: {later} ({steps.STEPS[later]}) is COMPLETE, but {missing} "
            f"({steps.STEPS[missing]}) is {said}; start again from the _uncal file",
        )
    done = steps.completed(evidence.primary)
    return Check(name, True, f"done: {', '.join(done)}" if done else "no step done yet")


def _other_steps(evidence: Evidence) -> Check:
    name = "other steps"
    if not evidence.primary:
        return Check(name, None, "no primary header could be read")
    found = steps.not_allowed(evidence.primary)
    if not found:
        return Check(name, True, "none")
    said = ", ".join(f"{keyword} ({step})" for keyword, step in found)
    return Check(
        name,
        False,
        f"{said} is COMPLETE, which a dark must not have behind it (allowed: {', '.join(steps.STEPS)}); "
        "start again from the _uncal file",
    )


def _missing(name: str, evidence: Evidence, keyword: str) -> Check:
    if not evidence.primary:
        return Check(name, None, "no primary header could be read")
    return Check(name, False, f"the primary header has no {keyword}; fetch the file again from the archive")
