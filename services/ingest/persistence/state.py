"""The persistence state of a detector, and how it goes from one exposure to the next.

The state says until when each pixel glows after it was saturated. The jwst step keeps it in the pixel
grid of one exposure; traps belong to the detector, so between exposures it is kept in detector pixels:
a subarray then takes its own part of a full-frame state, and hands on the rest untouched.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import asdf
import numpy as np
from numpy.typing import NDArray

from shared.configuration import ConfigurationKey

#: Object name of the ``persistence`` product.
STATE = "state.asdf"
_UNIX_EPOCH_MJD = 40587.0
_SECONDS_A_DAY = 86400.0


@dataclass(frozen=True)
class PersistenceState:
    """Pixels inside a persistence window.

    Attributes
    ----------
    rows, columns : ndarray of int64, 1D
        0-based, in the grid that the caller knows (detector or subarray).
    window_end : ndarray of float64, 1D
        When each pixel's window ends, in s since 1970 (UTC).
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    window_end: NDArray[np.float64]

    @classmethod
    def empty(cls) -> Self:
        """Return the state in which no pixel glows."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, keep: NDArray[np.bool_]) -> "PersistenceState":
        """Return the pixels for which `keep` is True."""
        return PersistenceState(self.rows[keep], self.columns[keep], self.window_end[keep])

    def inside(self, key: ConfigurationKey) -> NDArray[np.bool_]:
        """Say which pixels, given in detector pixels, the subarray of `key` reads."""
        rows = self.rows - (key.substrt2 - 1)
        columns = self.columns - (key.substrt1 - 1)
        return (rows >= 0) & (rows < key.subsize2) & (columns >= 0) & (columns < key.subsize1)

    def shifted(self, rows: int, columns: int) -> "PersistenceState":
        """Return the same pixels in a grid whose origin lies at (-rows, -columns) of this one."""
        return PersistenceState(self.rows + rows, self.columns + columns, self.window_end)


def to_subarray(detector_state: PersistenceState, key: ConfigurationKey, at_mjd: float) -> PersistenceState:
    """Return what a detector's state means for an exposure that starts at `at_mjd`, in its own pixels."""
    still = detector_state.window_end > unix_seconds(at_mjd)
    mine = detector_state.select(still & detector_state.inside(key))
    return mine.shifted(-(key.substrt2 - 1), -(key.substrt1 - 1))


def to_detector(
    subarray_state: PersistenceState, before: PersistenceState | None, key: ConfigurationKey, at_mjd: float
) -> PersistenceState:
    """Return the detector's state after an exposure that ended at `at_mjd`.

    Parameters
    ----------
    subarray_state : PersistenceState
        As the step left it, in the exposure's pixels.
    before : PersistenceState or None
        The detector's state before; its pixels outside the subarray are handed on.
    """
    mine = subarray_state.shifted(key.substrt2 - 1, key.substrt1 - 1)
    if before is None:
        return mine
    rest = before.select(~before.inside(key) & (before.window_end > unix_seconds(at_mjd)))
    return PersistenceState(
        np.concatenate([mine.rows, rest.rows]),
        np.concatenate([mine.columns, rest.columns]),
        np.concatenate([mine.window_end, rest.window_end]),
    )


def write_state(
    path: Path, state: PersistenceState, detector: str, persistence_time: int, filename: str
) -> None:
    """Write a state as the ASDF file that jwst's PersistenceStep reads and writes."""
    tree = {
        detector: {
            "filename": filename,
            "rows": state.rows,
            "cols": state.columns,
            "vals": state.window_end,
            "pers_time": persistence_time,
        }
    }
    asdf.AsdfFile(tree).write_to(path)


def read_state(path: Path, detector: str) -> PersistenceState:
    """Read a state of one detector; the empty one where the file says nothing of it."""
    with asdf.open(path, memmap=False, lazy_load=False) as file:
        said: Mapping[str, Any] | None = file.tree.get(detector)
        if said is None:
            return PersistenceState.empty()
        return PersistenceState(
            np.array(said["rows"], np.int64),
            np.array(said["cols"], np.int64),
            np.array(said["vals"], np.float64),
        )


def state_prefix(detector: str) -> str:
    """Return the key prefix of every state of a detector."""
    return f"persistence/{detector}/"


def state_path(detector: str, end_mjd: float, exposure_id: str, product_key: str) -> str:
    """Return where the state after an exposure is kept: keys of one detector sort by time."""
    return f"{state_prefix(detector)}{end_mjd:018.9f}_{exposure_id}/{product_key}"


def end_of(key: str) -> float:
    """Return the end (MJD, to 1e-9 day) of the exposure that a state's key names.

    Raises
    ------
    ValueError
        If it is no such key.
    """
    return float(key.split("/")[2].partition("_")[0])


def carries_into(end_mjd: float, start_mjd: float, persistence_time: float) -> bool:
    """Say whether a state from `end_mjd` may still matter to an exposure that starts at `start_mjd`."""
    gap = (start_mjd - end_mjd) * _SECONDS_A_DAY
    return -_KEY_ROUNDING <= gap < persistence_time


@dataclass(frozen=True)
class CarriedState:
    """The newest state of a detector before an exposure.

    Attributes
    ----------
    exposure_id : str
        Whose state it is.
    sha256 : str
        Of its file.
    detector : PersistenceState
        All of it, in detector pixels.
    exposure : PersistenceState
        What of it reaches into the exposure, in the exposure's pixels.
    """

    exposure_id: str
    sha256: str
    detector: PersistenceState
    exposure: PersistenceState

    @property
    def digest(self) -> str | None:
        """The state's sha256 where the exposure's ramp depends on it, else None."""
        return self.sha256 if len(self.exposure) else None


def newest_first(keys: Iterable[str], start_mjd: float, persistence_time: float) -> list[list[str]]:
    """Return the keys of states that may matter to an exposure, newest first, equal ends together."""
    ends: dict[float, list[str]] = {}
    for key in keys:
        ends.setdefault(end_of(key), []).append(key)
    return [ends[end] for end in sorted(ends, reverse=True) if carries_into(end, start_mjd, persistence_time)]


def unix_seconds(mjd: float) -> float:
    """Return seconds since 1970 (UTC), as the jwst step counts them."""
    return (mjd - _UNIX_EPOCH_MJD) * _SECONDS_A_DAY


#: Keys hold the end to 1e-9 day; two exposures back to back must not part over that.
_KEY_ROUNDING = 1e-4
