"""Carries the persistence state of a detector from one exposure to the next.

A pixel that was saturated glows for a while afterwards. jwst's persistence step keeps, for each pixel, when
its *persistence window* ends, and flags it PERSISTENCE until then. The step works in the pixels of one
exposure; traps belong to the detector. Between exposures the state is therefore kept in detector pixels: a
subarray takes its own part of a full-frame state, and hands on the rest untouched.

States are products of kind ``persistence``, whose folders sort by the end of the exposure that left them.
When an exposure is calibrated up to its persistence step, `carried_state` finds the newest state before it
that may still matter; after the step, `keep_state` commits the state that the exposure leaves behind. Only
this last part goes in order of time. On a laptop, a run makes each exposure wait here for its turn; a worker
of a deployment never waits for an exposure that has not arrived: where no state is found, none is used, and
the ramp's manifest says so.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import asdf
import numpy as np
from numpy.typing import NDArray

from services.ingest.exposure import ValidExposure
from services.ingest.plan import Plan
from shared.nircam.configuration import ConfigurationKey
from shared.products.ramp import PersistenceMetadata, RampMetadata
from shared.store.base import Store
from shared.store.manifest import (
    MANIFEST,
    BuiltProduct,
    Draft,
    Manifest,
    ProductSpec,
    find_all,
    get_or_build,
    read_object,
)

#: Object name of the ``persistence`` product.
STATE = "state.asdf"
_UNIX_EPOCH_MJD = 40587.0
_SECONDS_A_DAY = 86400.0
#: Seconds. Keys hold the end of an exposure to 1e-9 day, which must not part two exposures back to back.
_KEY_ROUNDING = 1e-4
_MANIFEST_SUFFIX = f"/{MANIFEST}"


@dataclass(frozen=True)
class PersistenceState:
    """The pixels that are inside a persistence window.

    Attributes
    ----------
    rows, columns : ndarray of int64, 1D
        0-based, in the pixels of the detector or of a subarray; the caller knows which.
    window_end : ndarray of float64, 1D
        When each pixel's window ends, in seconds since 1970 (UTC).
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    window_end: NDArray[np.float64]

    @classmethod
    def empty(cls) -> Self:
        """Return the state without any pixel in a window."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, keep: NDArray[np.bool_]) -> "PersistenceState":
        """Return the pixels for which `keep` is True."""
        return PersistenceState(self.rows[keep], self.columns[keep], self.window_end[keep])

    def inside(self, key: ConfigurationKey) -> NDArray[np.bool_]:
        """Return which pixels, given in detector pixels, lie in the subarray of `key`."""
        rows = self.rows - (key.substrt2 - 1)
        columns = self.columns - (key.substrt1 - 1)
        return (rows >= 0) & (rows < key.subsize2) & (columns >= 0) & (columns < key.subsize1)

    def shifted(self, rows: int, columns: int) -> "PersistenceState":
        """Return the same pixels in a grid whose origin lies at (-rows, -columns) of this one."""
        return PersistenceState(self.rows + rows, self.columns + columns, self.window_end)


#: Waits for the exposures before one, and returns the state at its start in its pixels, if there is one.
BeginPersistence = Callable[[], PersistenceState | None]


@dataclass(frozen=True)
class CarriedState:
    """The newest state of a detector before an exposure.

    Attributes
    ----------
    exposure_id : str
        The exposure that left the state.
    sha256 : str
        Of the state's file.
    detector : PersistenceState
        The whole state, in detector pixels.
    exposure : PersistenceState
        The part of it that reaches into the exposure, in the exposure's pixels.
    """

    exposure_id: str
    sha256: str
    detector: PersistenceState
    exposure: PersistenceState

    @property
    def digest(self) -> str | None:
        """The state's sha256 if the exposure's ramp depends on it, else None."""
        return self.sha256 if len(self.exposure) else None


def carried_state(exposure: ValidExposure, plan: Plan, store: Store, scratch: Path) -> CarriedState | None:
    """Find the newest state of the detector that ends before an exposure starts and may still matter.

    States made with another length of the window are passed over, because the jwst step ignores them.

    Parameters
    ----------
    exposure : ValidExposure
    plan : Plan
    store : Store
    scratch : Path
        Folder for the state's file.

    Returns
    -------
    CarriedState or None
        None if the persistence step does not run, or there is no such state.
    """
    if "persistence" not in plan.steps:
        return None
    detector, window = exposure.key.detector, plan.parameters["persistence_time"]
    keys = [key for key in store.list(state_prefix(detector)) if key.endswith(_MANIFEST_SUFFIX)]
    for same_end in newest_first(keys, exposure.start_mjd, window):
        manifest = _newest_made_with(window, same_end, store)
        if manifest is None:
            continue
        entry = manifest.object(STATE)
        file = scratch / "carried.asdf"
        file.write_bytes(read_object(store, entry))
        state = read_state(file, detector)
        return CarriedState(
            exposure_id=str(manifest.results["exposure_id"]),
            sha256=entry.sha256,
            detector=state,
            exposure=to_subarray(state, exposure.key, exposure.start_mjd),
        )
    return None


def _newest_made_with(window: float, keys: Iterable[str], store: Store) -> Manifest | None:
    usable = [
        manifest
        for key in keys
        for manifest in find_all(store, key)
        if manifest.results["persistence_time"] == window
    ]
    return max(usable, key=lambda manifest: manifest.created, default=None)


def keep_state(
    left: PersistenceState,
    carried: CarriedState | None,
    ramp: RampMetadata,
    ramp_spec: ProductSpec,
    store: Store,
    scratch: Path,
) -> None:
    """Commit the state that an exposure leaves behind, in detector pixels.

    Parameters
    ----------
    left : PersistenceState
        As the step left it, in the exposure's pixels.
    carried : CarriedState or None
        The state that the exposure began with.
    ramp : RampMetadata
        Of the exposure's ramp.
    ramp_spec : ProductSpec
        Of the exposure's ramp: the state has the same inputs, parameters, versions and product key.
    store : Store
    scratch : Path
        Folder for the state's file.
    """
    detector, window = ramp.key.detector, int(ramp_spec.parameters["persistence_time"])
    folder = state_folder(detector, ramp.end_mjd, ramp.exposure_id)
    spec = replace(ramp_spec, kind="persistence", folder=folder)

    def build(draft: Draft) -> BuiltProduct:
        state = to_detector(left, carried.detector if carried else None, ramp.key, ramp.end_mjd)
        file = scratch / "left.asdf"
        write_state(file, state, detector, window, ramp.file)
        draft.add(STATE, file)
        return BuiltProduct(
            PersistenceMetadata(
                detector=detector,
                exposure_id=ramp.exposure_id,
                end_mjd=ramp.end_mjd,
                persistence_time=window,
                pixels=len(state),
            )
        )

    get_or_build(store, spec, build)


def to_subarray(state: PersistenceState, key: ConfigurationKey, start_mjd: float) -> PersistenceState:
    """Return the part of a detector's state that an exposure starts with, in the exposure's pixels."""
    open_window = state.window_end > unix_seconds(start_mjd)
    part = state.select(open_window & state.inside(key))
    return part.shifted(-(key.substrt2 - 1), -(key.substrt1 - 1))


def to_detector(
    subarray_state: PersistenceState, before: PersistenceState | None, key: ConfigurationKey, end_mjd: float
) -> PersistenceState:
    """Return the detector's state after an exposure.

    Parameters
    ----------
    subarray_state : PersistenceState
        As the step left it, in the exposure's pixels.
    before : PersistenceState or None
        The detector's state before the exposure; pixels outside the subarray are handed on.
    key : ConfigurationKey
        Of the exposure.
    end_mjd : float
        End of the exposure, UTC; windows that ended before are dropped.

    Returns
    -------
    PersistenceState
        In detector pixels.
    """
    inside = subarray_state.shifted(key.substrt2 - 1, key.substrt1 - 1)
    if before is None:
        return inside
    outside = before.select(~before.inside(key) & (before.window_end > unix_seconds(end_mjd)))
    return PersistenceState(
        np.concatenate([inside.rows, outside.rows]),
        np.concatenate([inside.columns, outside.columns]),
        np.concatenate([inside.window_end, outside.window_end]),
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
    """Read the state of one detector; the empty state if the file has none of this detector."""
    with asdf.open(path, memmap=False, lazy_load=False) as file:
        entry: Mapping[str, Any] | None = file.tree.get(detector)
        if entry is None:
            return PersistenceState.empty()
        return PersistenceState(
            np.array(entry["rows"], np.int64),
            np.array(entry["cols"], np.int64),
            np.array(entry["vals"], np.float64),
        )


def state_prefix(detector: str) -> str:
    """Return the key prefix of all states of a detector."""
    return f"persistence/{detector}/"


def state_folder(detector: str, end_mjd: float, exposure_id: str) -> str:
    """Return the folder of the state after an exposure; the folders of one detector sort by time."""
    return f"{state_prefix(detector)}{end_mjd:018.9f}_{exposure_id}"


def end_of(key: str) -> float:
    """Return the end of the exposure (MJD, to 1e-9 day) that the key of a state names.

    Raises
    ------
    ValueError
        If it is not the key of a state.
    """
    return float(key.split("/")[2].partition("_")[0])


def carries_into(end_mjd: float, start_mjd: float, persistence_time: float) -> bool:
    """Return whether a state from `end_mjd` may still matter to an exposure that starts at `start_mjd`."""
    gap = (start_mjd - end_mjd) * _SECONDS_A_DAY
    return -_KEY_ROUNDING <= gap < persistence_time


def newest_first(keys: Iterable[str], start_mjd: float, persistence_time: float) -> list[list[str]]:
    """Return the keys of the states that may matter to an exposure, newest first, equal ends together."""
    ends: dict[float, list[str]] = {}
    for key in keys:
        ends.setdefault(end_of(key), []).append(key)
    return [ends[end] for end in sorted(ends, reverse=True) if carries_into(end, start_mjd, persistence_time)]


def unix_seconds(mjd: float) -> float:
    """Return seconds since 1970 (UTC), the time scale of the jwst step."""
    return (mjd - _UNIX_EPOCH_MJD) * _SECONDS_A_DAY
