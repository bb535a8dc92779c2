"""Keywords that a header lacks and that follow from what it has, for exposures that no archive has completed.

Files of the ground tests and of simulators lack keywords that every exposure of the archive has, above all
NOUTPUTS. By default ingest refuses such a file and names them; with `--derive-keywords`
(``DARKS_DERIVE_KEYWORDS``) it derives what follows from the others without a choice, and the ramp's manifest
and HISTORY say what was derived. What a header states is never changed, and what does not follow (DETECTOR,
EXP_TYPE, the place of a subarray) stays missing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from astropy.time import Time

from shared.nircam.detectors import FULL_FRAME, READ_PATTERNS, detectors
from shared.nircam.subarrays import frame_time, subarrays

#: Frame times that differ by a larger relative amount are those of another number of outputs: one output
#: takes almost four times as long as four.
_SAME_FRAME_TIME = 1e-3
_SECONDS_PER_DAY = 86400.0

_Values = Mapping[str, Any]
_Shape = tuple[int, ...]


def derived_keywords(header: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the keywords that `header` lacks and that follow from it.

    Parameters
    ----------
    header : mapping of str to object
        Primary header.
    shape : tuple of int
        Of SCI (integrations, groups, y, x); any other number of axes gives no numbers.

    Returns
    -------
    dict
        Value by keyword; empty if nothing is missing, or nothing follows.
    """
    known = {keyword: value for keyword, value in header.items() if value not in (None, "")}
    if str(known.get("DETECTOR")).strip() not in detectors():
        return {}
    derived: dict[str, Any] = {}
    for keyword, rule in _RULES:
        if keyword in known:
            continue
        try:
            value = rule(known, shape)
        except (KeyError, TypeError, ValueError):
            # The rule needs a keyword that is missing too, or is not what it should be; the checks say so.
            value = None
        if value is not None:
            known[keyword] = derived[keyword] = value
    return derived


def _axis(number: int) -> Callable[[_Values, _Shape], int | None]:
    return lambda _, shape: shape[number] if len(shape) == 4 else None


def _full_frame(known: _Values) -> bool:
    return (known["SUBSIZE1"], known["SUBSIZE2"]) == (FULL_FRAME, FULL_FRAME)


def _pattern(known: _Values, _: _Shape) -> str | None:
    frames = (known["NFRAMES"], known["GROUPGAP"])
    return next((name for name, each in READ_PATTERNS.items() if each == frames), None)


def _outputs(known: _Values, _: _Shape) -> int | None:
    columns, rows = known["SUBSIZE1"], known["SUBSIZE2"]
    frame = known.get("TFRAME")
    if frame is None and "TGROUP" in known:
        frame = known["TGROUP"] / (known["NFRAMES"] + known["GROUPGAP"])
    if frame is not None:
        fitting = [
            outputs
            for outputs in (1, 4)
            if abs(frame_time(columns, rows, outputs) / frame - 1) < _SAME_FRAME_TIME
        ]
        return fitting[0] if len(fitting) == 1 else None
    # Whole rows may be read by one output or by four.
    subarray = subarrays().get((str(known["DETECTOR"]).strip(), str(known["SUBARRAY"]).strip()))
    return None if subarray is None or columns == FULL_FRAME else subarray.noutputs


def _frame_time(known: _Values, _: _Shape) -> float:
    if "TGROUP" in known:
        return float(round(known["TGROUP"] / (known["NFRAMES"] + known["GROUPGAP"]), 5))
    return frame_time(known["SUBSIZE1"], known["SUBSIZE2"], known["NOUTPUTS"])


def _group_time(known: _Values, _: _Shape) -> float:
    return float(round(known["TFRAME"] * (known["NFRAMES"] + known["GROUPGAP"]), 5))


def integration_time(known: Mapping[str, Any]) -> float:
    """Return EFFINTTM: the time from the start of an integration to its last frame, s."""
    return float(round((known["NGROUPS"] - 1) * known["TGROUP"] + known["NFRAMES"] * known["TFRAME"], 5))


def _start(known: _Values, _: _Shape) -> float:
    return float(Time(f"{known['DATE-OBS'].strip()}T{known['TIME-OBS'].strip()}", scale="utc").mjd)


def _end(known: _Values, _: _Shape) -> float:
    # Each integration begins with a reset, which takes a frame.
    seconds = known["NINTS"] * (known["NGROUPS"] * known["TGROUP"] + known["TFRAME"])
    return float(known["EXPSTART"] + seconds / _SECONDS_PER_DAY)


#: In this order: later rules use what earlier ones gave.
_RULES: tuple[tuple[str, Callable[[_Values, _Shape], Any]], ...] = (
    ("TELESCOP", lambda *_: "JWST"),
    ("INSTRUME", lambda *_: "NIRCAM"),
    ("NINTS", _axis(0)),
    ("NGROUPS", _axis(1)),
    ("SUBSIZE2", _axis(2)),
    ("SUBSIZE1", _axis(3)),
    ("SUBARRAY", lambda known, _: "FULL" if _full_frame(known) else None),
    ("SUBSTRT1", lambda known, _: 1 if known["SUBSIZE1"] == FULL_FRAME else None),
    ("SUBSTRT2", lambda known, _: 1 if known["SUBSIZE2"] == FULL_FRAME else None),
    ("FASTAXIS", lambda known, _: detectors()[known["DETECTOR"].strip()].fastaxis),
    ("SLOWAXIS", lambda known, _: detectors()[known["DETECTOR"].strip()].slowaxis),
    ("READPATT", _pattern),
    ("NFRAMES", lambda known, _: READ_PATTERNS[known["READPATT"].strip()][0]),
    ("GROUPGAP", lambda known, _: READ_PATTERNS[known["READPATT"].strip()][1]),
    ("NOUTPUTS", _outputs),
    ("TFRAME", _frame_time),
    ("TGROUP", _group_time),
    ("EFFINTTM", lambda known, _: integration_time(known)),
    ("EXPSTART", _start),
    ("EXPEND", _end),
    ("DATE-OBS", lambda known, _: Time(known["EXPSTART"], format="mjd", scale="utc").isot[:10]),
    ("TIME-OBS", lambda known, _: Time(known["EXPSTART"], format="mjd", scale="utc").isot[11:]),
)
