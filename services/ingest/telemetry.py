"""Finds frames of an exposure that were never read, and keeps them out of the pipeline.

Where telemetry is lost, the ground system fills the array with a constant (0, 65535 or another value). An
output that is dead or switched off reads a constant, too. No detector does: read noise alone moves a pixel by
several DN, so that no row of a frame holds a single value. `find_lost_telemetry` looks for such rows in the
raw file, group by group.

To the steps of jwst a constant frame is signal. A group of 65535 is saturated and opens the persistence
window of every pixel for the next 1000 s; all later groups of its integration count as saturated as well. A
group of 0 is a pair of jumps in every pixel. Flagging an integration DO_NOT_USE throughout does not help: the
jump step takes the fewest usable groups of any integration as those of all, and skips the exposure where they
are too few. Therefore

1. before the first step, `fill_in` replaces a lost frame by the nearest measured group of its integration,
   or by the same group of another integration, so that no step sees a step in the signal;
2. before the jump step, `mask` flags it DO_NOT_USE (and nothing else), and the jump step is given only the
   integrations that have their first group and enough others left (`Telemetry.usable`);
3. at the end, `blank` makes its SCI NaN, since nothing was measured there.

Rows and single outputs are treated like frames, within their rows and columns. An exposure without lost
telemetry goes through none of this.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.ingest.checks import Check
from services.ingest.steps import MINIMUM_JUMP_GROUPS
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.dq import GroupFlag
from shared.nircam.geometry import amplifiers
from shared.products.ramp import LostTelemetry
from shared.ramps.ramp import Ramp

#: Fewest pixels of a row that have to agree. With a noise of 2 DN, about the least of a frame averaged on
#: board, two whole numbers agree in 14 of 100 cases: 16 pixels do so in one row of 10^13.
LEAST_PIXELS = 16
_FRAME, _OUTPUT, _ROWS = "frame", "output", "rows"


@dataclass(frozen=True)
class _Part:
    """A part of one frame that holds a constant: all of it, an output, or some rows."""

    kind: str
    output: int | None = None
    rows: tuple[int, int] | None = None
    value: float | None = None


@dataclass(frozen=True)
class Telemetry:
    """The lost telemetry of an exposure.

    Attributes
    ----------
    lost : sequence of LostTelemetry
        Empty for a good exposure.
    shape : (int, int, int, int)
        Of SCI: (integrations, groups, y, x).
    outputs : sequence of slice
        Columns of each output.
    """

    lost: Sequence[LostTelemetry]
    shape: tuple[int, int, int, int]
    outputs: Sequence[slice]

    @property
    def lost_integrations(self) -> list[int]:
        """Integrations, 0-based, of which all is masked: the first group or too many others were never read.

        Too many are left where the jump step cannot look at the rest. The first group is the level from which
        flight mode counts.
        """
        integrations, groups = self.shape[:2]
        fewest = min(MINIMUM_JUMP_GROUPS, groups)
        left = [groups] * integrations
        for entry in self.lost:
            if entry.kind == _FRAME:
                missing = entry.last_group - entry.first_group + 1
                left[entry.integration] -= groups if entry.first_group == 0 else missing
        return [integration for integration, count in enumerate(left) if count < fewest]

    @property
    def usable(self) -> list[int]:
        """The other integrations."""
        lost = set(self.lost_integrations)
        return [integration for integration in range(self.shape[0]) if integration not in lost]

    def windows(self) -> Iterator[tuple[int, int, slice, slice]]:
        """Yield (integration, group, rows, columns) of every lost part of a frame."""
        whole = slice(None)
        for entry in self.lost:
            rows = whole if entry.first_row is None else slice(entry.first_row, (entry.last_row or 0) + 1)
            columns = whole if entry.output is None else self.outputs[entry.output - 1]
            for group in range(entry.first_group, entry.last_group + 1):
                yield entry.integration, group, rows, columns


def find_lost_telemetry(ramp: Ramp, key: ConfigurationKey) -> Telemetry:
    """Find the frames, outputs and rows of a raw exposure that hold a constant; reads one group at a time.

    Parameters
    ----------
    ramp : Ramp
        Level 1b: after the superbias was subtracted, a constant is one no longer.
    key : ConfigurationKey
        Its configuration.
    """
    integrations, groups, ny, nx = ramp.shape("SCI")
    outputs = amplifiers(key)
    lost: list[LostTelemetry] = []
    for integration in range(integrations):
        open_parts: dict[_Part, int] = {}
        for group in range(groups + 1):
            parts: list[_Part] = []
            if group < groups:
                parts = _constant_parts(ramp.read("SCI", integration, slice(group, group + 1))[0], outputs)
            ended = [part for part in open_parts if part not in parts]
            lost += [_entry(part, integration, open_parts.pop(part), group - 1) for part in ended]
            for part in parts:
                open_parts.setdefault(part, group)
    return Telemetry(lost, (integrations, groups, ny, nx), outputs)


def telemetry_check(telemetry: Telemetry | None) -> Check:
    """Check that some integration has enough groups that were read; None: the check does not apply."""
    name = "telemetry"
    if telemetry is None:
        return Check(name, None, "not a level 1b exposure")
    if not telemetry.lost:
        return Check(name, True, "every frame was read")
    lost = described(telemetry.lost)
    if telemetry.usable:
        return Check(name, True, f"never read, and masked: {lost}")
    fewest = min(MINIMUM_JUMP_GROUPS, telemetry.shape[1])
    return Check(
        name,
        False,
        f"no integration has its first group and {fewest} in all that were read: {lost}; fetch the file "
        "again, and if it is the same, leave this exposure out",
    )


def described(lost: Sequence[LostTelemetry]) -> str:
    """Return lost telemetry in words, the first few of many."""
    shown = "; ".join(str(entry) for entry in lost[:4])
    return shown if len(lost) <= 4 else f"{shown}; and {len(lost) - 4} more"


def fill_in(data: NDArray[Any], telemetry: Telemetry, integration: int, groups: slice, ramp: Ramp) -> None:
    """Replace what was lost by the nearest measured group, so that the steps see no step in the signal.

    What was lost in all groups of all integrations keeps its value.

    Parameters
    ----------
    data : ndarray, 3D (groups, y, x)
        Groups of an integration; changed in place.
    telemetry : Telemetry
    integration : int
    groups : slice
        Where they lie in it.
    ramp : Ramp
        The exposure's file: the nearest measured group may be another than those in `data`.
    """
    windows = list(telemetry.windows())
    for window in windows:
        lost_integration, group, rows, columns = window
        if lost_integration != integration or not groups.start <= group < groups.stop:
            continue
        source = _nearest_measured(window, windows, telemetry.shape)
        if source is not None:
            measured = ramp.read("SCI", source[0], slice(source[1], source[1] + 1), rows)[0]
            data[group - groups.start, rows, columns] = measured[:, columns]


def mask(groupdq: NDArray[np.uint8], telemetry: Telemetry) -> None:
    """Flag what was lost DO_NOT_USE, in place of any other flag.

    Parameters
    ----------
    groupdq : ndarray, 4D (integrations, groups, y, x)
        Changed in place.
    telemetry : Telemetry
    """
    for integration, group, rows, columns in telemetry.windows():
        groupdq[integration, group, rows, columns] = GroupFlag.DO_NOT_USE.mask
    for integration in telemetry.lost_integrations:
        groupdq[integration] = GroupFlag.DO_NOT_USE.mask


def blank(data: NDArray[Any], telemetry: Telemetry) -> None:
    """Make SCI NaN where nothing was read.

    Parameters
    ----------
    data : ndarray, 4D (integrations, groups, y, x)
        Changed in place.
    telemetry : Telemetry
    """
    for integration, group, rows, columns in telemetry.windows():
        data[integration, group, rows, columns] = np.nan


def _constant_parts(plane: NDArray[Any], outputs: Sequence[slice]) -> list[_Part]:
    """Return the parts of one frame (y, x) that hold a constant."""
    whole = _constant_rows(plane, slice(0, plane.shape[1]))
    if whole.all():
        one_value = bool(np.all(plane[:, 0] == plane[0, 0]))
        return [_Part(_FRAME, value=float(plane[0, 0]) if one_value else None)]
    parts = []
    for number, columns in enumerate(outputs, start=1):
        first = plane[:, columns.start]
        if len(outputs) > 1 and _constant_rows(plane, columns).all() and np.all(first == first[0]):
            parts.append(_Part(_OUTPUT, output=number, value=float(first[0])))
    for start, stop in _runs(whole):
        values = plane[start:stop, 0]
        value = float(values[0]) if np.all(values == values[0]) else None
        parts.append(_Part(_ROWS, rows=(start, stop - 1), value=value))
    return parts


def _constant_rows(plane: NDArray[Any], columns: slice) -> NDArray[np.bool_]:
    """Return which rows hold a single value in these columns."""
    constant = np.zeros(len(plane), bool)
    if columns.stop - columns.start < LEAST_PIXELS:
        return constant
    part = plane[:, columns]
    # Three pixels tell nearly every good row from a lost one, which keeps a good exposure from a second walk
    # over all of its pixels.
    middle = part.shape[1] // 2
    candidates = np.flatnonzero((part[:, 0] == part[:, middle]) & (part[:, 0] == part[:, -1]))
    constant[candidates] = np.all(part[candidates] == part[candidates, :1], axis=1)
    return constant


def _runs(rows: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (start, stop) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], rows.astype(np.int8), [0]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _entry(part: _Part, integration: int, first_group: int, last_group: int) -> LostTelemetry:
    rows = part.rows or (None, None)
    return LostTelemetry(
        kind=part.kind,
        integration=integration,
        first_group=first_group,
        last_group=last_group,
        output=part.output,
        first_row=rows[0],
        last_row=rows[1],
        value=part.value,
    )


def _nearest_measured(
    window: tuple[int, int, slice, slice],
    lost: Sequence[tuple[int, int, slice, slice]],
    shape: tuple[int, int, int, int],
) -> tuple[int, int] | None:
    """Return (integration, group) of the nearest frame that was measured where this window was not."""
    integration, group, rows, columns = window
    taken = {
        (other[0], other[1])
        for other in lost
        if _overlap(rows, other[2], shape[2]) and _overlap(columns, other[3], shape[3])
    }
    same = sorted(range(shape[1]), key=lambda other: abs(other - group))
    places = [(integration, other) for other in same] + [(other, group) for other in range(shape[0])]
    return next((place for place in places if place not in taken), None)


def _overlap(one: slice, other: slice, length: int) -> bool:
    (start, stop, _), (start_of_other, stop_of_other, _) = one.indices(length), other.indices(length)
    return start < stop_of_other and start_of_other < stop
