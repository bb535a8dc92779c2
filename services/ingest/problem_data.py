"""Exposures that the observatory itself has doubts about, and optics that no dark has.

The archive delivers an exposure whose telemetry had a problem (DATAPROB = T), or whose visit failed
(VISITSTA = UNSUCCESSFUL), like any other. A dark reference should not be made of it unless a person has
looked at it, so ingest rejects it unless `--use-problem-data` (``DARKS_USE_PROBLEM_DATA``) takes it. Then,
and for what is only odd, the ramp's manifest says what its header says, and summary and report show it.

Keywords: https://archive.stsci.edu/jwst/keyword/latest/. PUPIL of a dark is FLAT, the element of the pupil
wheel that serves flat fields and darks (same place, meta_instrument_pupil.html).
"""

from collections.abc import Mapping
from typing import Any

from services.ingest.checks import Check, ExposureProbe, is_nircam

#: PUPIL of a dark.
DARK_PUPIL = "FLAT"
_FAILED, _SUCCEEDED = "UNSUCCESSFUL", "SUCCESSFUL"


def problems(header: Mapping[str, Any]) -> list[str]:
    """Return why an exposure is not to be used unless a person says so; empty for most.

    Parameters
    ----------
    header : mapping of str to object
        Primary header.
    """
    reasons = []
    if header.get("DATAPROB") in (True, "T", "TRUE", "True"):
        reasons.append("DATAPROB = T: its science telemetry had a problem")
    if _text(header, "VISITSTA") == _FAILED:
        reasons.append(f"VISITSTA = {_FAILED}: its visit failed")
    return reasons


def oddities(header: Mapping[str, Any]) -> list[str]:
    """Return what is unusual in the header of a dark, and no reason to leave it out; empty for most.

    Parameters
    ----------
    header : mapping of str to object
        Primary header.
    """
    remarks = []
    status = _text(header, "VISITSTA")
    if status and status not in (_FAILED, _SUCCEEDED):
        remarks.append(f"VISITSTA = {status}")
    if not _text(header, "FILTER"):
        remarks.append("no FILTER in its header")
    pupil = _text(header, "PUPIL")
    if not pupil:
        remarks.append("no PUPIL in its header")
    elif pupil != DARK_PUPIL:
        remarks.append(f"PUPIL = {pupil}, where a dark has {DARK_PUPIL}: light may have reached the detector")
    return remarks


def header_remarks(header: Mapping[str, Any]) -> list[str]:
    """Return what the manifest of a ramp says about the header of its exposure."""
    return [f"used in spite of {problem}" for problem in problems(header)] + oddities(header)


def data_quality_check(probe: ExposureProbe, use_problem_data: bool) -> Check:
    """Return the check that the observatory reports no problem with an exposure."""
    name = "data quality"
    if not probe.primary or not is_nircam(probe):
        return Check(name, None, "not NIRCam" if probe.primary else "no primary header could be read")
    reasons = problems(probe.primary)
    if not reasons:
        return Check(name, True, "; ".join(oddities(probe.primary)) or "no problem reported")
    reported = "; ".join(reasons)
    if use_problem_data:
        return Check(name, True, f"{reported}; taken because of --use-problem-data")
    return Check(
        name,
        False,
        f"{reported}; look at it, then leave it out, or take it with --use-problem-data "
        "(DARKS_USE_PROBLEM_DATA=true)",
    )


def _text(header: Mapping[str, Any], keyword: str) -> str:
    return str(header.get(keyword) or "").strip().upper()
