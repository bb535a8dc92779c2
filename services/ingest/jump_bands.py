"""Runs jwst's jump step on bands of rows of a ramp on disk.

The step looks at each pixel through all groups of all integrations, and at its four neighbours: a band is
given with the row before and the row after it. Three things are not in the band and are given with it:

- whether there are enough usable groups is decided by the groups in which *all* pixels of the frame are
  DO_NOT_USE. A further row that is so in just these groups gives a band the answer of the frame;
- the thresholds for groups after a large jump use the median gain of the frame;
- the number of cosmic rays has those of the neighbours, which are counted again by themselves and taken
  off.

Where a row of all integrations is too long, bands are cut into columns, too. If stcal clips, from a hundred
integrations on, it takes back the flags of a group in which the clip flagged *all* pixels of the frame. Bands
are looked at for such a group beforehand, until none is left, which the first band nearly always shows.

Large events (snowballs) are looked for in each integration, plane by plane (`services.ingest.large_events`).
Showers (jwst has this for MIRI) look at whole frames in other ways: the step is then given
the exposure as a whole, see `services.ingest.memory_plan.require_memory`.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stcal.jump.jump import detect_jumps_data
from stcal.jump.jump_class import JumpData
from stcal.jump.twopoint_difference import check_sigma_clip_groups
from stcal.jump.twopoint_difference_class import TwoPointParams

from services.ingest.large_events import expand_large_events
from services.ingest.memory_plan import StreamPlan
from services.ingest.quick_medians import QuickMedians
from services.ingest.ramp_planes import RampPlanes
from services.ingest.side_by_side import side_by_side
from shared.nircam.dq import GroupFlag

#: What stcal returns in place of a number of cosmic rays if there are too few groups.
_TOO_FEW = -99
#: Rows and columns.
_Window = tuple[slice, slice]


@dataclass(frozen=True)
class _Band:
    """A part of the frame with the pixels beside it.

    Attributes
    ----------
    core, around : (slice, slice)
        Rows and columns of the part, and the same with those beside it.
    data, groupdq : ndarray, 4D (integrations, groups, rows around, columns around)
        SCI and GROUPDQ.
    """

    core: _Window
    around: _Window
    data: NDArray[np.float32]
    groupdq: NDArray[np.uint8]

    @property
    def inside(self) -> _Window:
        """Where the part lies in what is around it."""
        rows, columns = (
            slice(core.start - around.start, core.stop - around.start)
            for core, around in zip(self.core, self.around, strict=True)
        )
        return rows, columns


@dataclass(frozen=True)
class _Found:
    """Flags of a part of the frame, and the number of cosmic rays in it."""

    core: _Window
    groupdq: NDArray[np.uint8]
    pixeldq: NDArray[np.uint32]
    count: int


class _BandOfFrame(JumpData):  # type: ignore[misc]  # stcal has no types
    """What the step is given of a band; the thresholds after a jump (e-) stay those of the frame."""

    thresholds: tuple[Any, Any] = (0, 0)

    @property
    def after_jump_flag_e1(self) -> Any:
        """Threshold for the first number of groups, e-."""
        return self.thresholds[0]

    @after_jump_flag_e1.setter
    def after_jump_flag_e1(self, value: Any) -> None:
        """Keep that of the frame where stcal would set that of the band."""

    @property
    def after_jump_flag_e2(self) -> Any:
        """Threshold for the second number of groups, e-."""
        return self.thresholds[1]

    @after_jump_flag_e2.setter
    def after_jump_flag_e2(self, value: Any) -> None:
        """Keep that of the frame where stcal would set that of the band."""


class JumpBands:
    """The jump step of one exposure.

    Parameters
    ----------
    step : JumpStep
        Of jwst, with its parameters.
    planes : RampPlanes
        SCI and GROUPDQ after linearity; GROUPDQ is changed.
    integrations : sequence of int
        Those to look at.
    plan : StreamPlan
        Rows of a band, and bands at a time.
    """

    def __init__(self, step: Any, planes: RampPlanes, integrations: Sequence[int], plan: StreamPlan) -> None:
        self._step, self._planes, self._integrations = step, planes, list(integrations)
        self._plan = plan

    def process(self, model: Any) -> Any:
        """Detect jumps as `JumpStep.process` does, and note its results in `model`.

        Parameters
        ----------
        model : RampModel
            With the exposure's metadata and PIXELDQ, which is changed; SCI and GROUPDQ are of some groups.
        """
        _, ngroups, ny, nx = self._planes.shape
        if ngroups <= 2:
            model.meta.cal_step.jump = "SKIPPED"
            return model
        jump_data = self._step._setup_jump_data(model)
        jump_data.max_cores = "1"
        if jump_data.find_showers:
            everything = slice(0, ny), slice(0, self._planes.shape[3])
            jump_data.data, jump_data.gdq = self._read(everything)
            groupdq, model.pixeldq, cosmic_rays, events = detect_jumps_data(jump_data)
            self._write(everything, groupdq)
        else:
            cosmic_rays, events = self._detect(jump_data, model.pixeldq), 0
            if jump_data.expand_large_events:
                with self._planes.releasing():
                    events = expand_large_events(self._planes.groupdq, self._integrations, jump_data)
        # As JumpStep.process reports them.
        exposure = model.meta.exposure
        groups = len(self._integrations) * (ngroups - 1) - int(self._unused_groups().sum())
        if groups >= 1:
            pixel_time = exposure.group_time * groups * (ny * nx)
            exposure.primary_cosmic_rays = 1000 * cosmic_rays / pixel_time
            exposure.extended_emission_events = 1e6 * events / pixel_time
        model.meta.cal_step.jump = "COMPLETE"
        return model

    def _detect(self, jump_data: Any, pixeldq: NDArray[np.uint32]) -> int:
        """Flag jumps band by band; return the number of cosmic rays."""
        gain = np.nanmedian(jump_data.gain_2d)
        unused = self._unused_groups()
        frame = _Frame(
            jump_data,
            (jump_data.after_jump_flag_dn1 * gain, jump_data.after_jump_flag_dn2 * gain),
            unused,
            pixeldq.copy(),
        )
        usable = unused.size - int(unused.sum())
        clips = check_sigma_clip_groups(len(unused), usable, TwoPointParams(jump_data))
        fewest = unused.shape[1] - int(unused.sum(axis=1).max()) - 1
        size = self._plan.band(unused.size, not clips and fewest < jump_data.min_diffs_single_pass)
        if clips:
            frame.clipped = self._groups_clipped_throughout(frame, size)
        counts = []
        before: _Found | None = None
        for found in side_by_side(frame.detect, self._bands(size), self._plan.threads):
            pixeldq[found.core] = found.pixeldq
            counts.append(found.count)
            # A band is written when the next has read its last row without the flags.
            if before is not None:
                self._write(before.core, before.groupdq)
            before = found
        if before is not None:
            self._write(before.core, before.groupdq)
        return _TOO_FEW if _TOO_FEW in counts else sum(counts)

    def _groups_clipped_throughout(self, frame: "_Frame", size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return in which groups (integrations, groups) the clip flags all pixels of the frame."""
        throughout = np.ones((len(self._integrations), self._planes.shape[1]), bool)
        for flagged in side_by_side(frame.clipped_throughout, self._bands(size), self._plan.threads):
            throughout &= flagged
            if not (throughout & ~frame.unused).any():
                return np.zeros_like(throughout)
        return throughout & ~frame.unused

    def _bands(self, size: tuple[int, int]) -> Iterator[_Band]:
        """Yield the bands of so many rows and columns, each with the pixels beside it."""
        _, _, ny, nx = self._planes.shape
        for rows, rows_around in _cuts(ny, size[0]):
            for columns, columns_around in _cuts(nx, size[1]):
                around = rows_around, columns_around
                yield _Band((rows, columns), around, *self._read(around))

    def _unused_groups(self) -> NDArray[np.bool_]:
        """Return in which groups (integrations, groups) all pixels are DO_NOT_USE."""
        unused = np.zeros((len(self._integrations), self._planes.shape[1]), bool)
        bit = GroupFlag.DO_NOT_USE.mask
        for number, integration in enumerate(self._integrations):
            for group, plane in enumerate(self._planes.groupdq[integration]):
                # A row tells nearly always.
                unused[number, group] = bool(np.all(plane[:1] & bit)) and bool(np.all(plane & bit))
        return unused

    def _read(self, window: _Window) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        rows, columns = window
        shape = (
            len(self._integrations),
            self._planes.shape[1],
            rows.stop - rows.start,
            columns.stop - columns.start,
        )
        data, groupdq = np.empty(shape, np.float32), np.empty(shape, np.uint8)
        # One integration at a time: the pages of the one before are let go of.
        for place, number in enumerate(self._integrations):
            data[place] = self._planes.data[number, :, rows, columns]
            groupdq[place] = self._planes.groupdq[number, :, rows, columns]
        self._planes.release()
        return data, groupdq

    def _write(self, window: _Window, groupdq: NDArray[np.uint8]) -> None:
        for place, number in enumerate(self._integrations):
            self._planes.groupdq[number, :, *window] = groupdq[place]
        self._planes.release()


def _cuts(length: int, step: int) -> Iterator[_Window]:
    """Yield the parts of an axis, each alone and with its neighbours."""
    for start in range(0, length, step):
        stop = min(start + step, length)
        yield slice(start, stop), slice(max(start - 1, 0), min(stop + 1, length))


class _Frame:
    """What a band needs to know of the whole frame.

    Parameters
    ----------
    jump_data : JumpData
        Of the whole frame.
    thresholds : (float, float)
        After a jump, e-.
    unused : ndarray of bool, 2D (integrations, groups)
        Groups in which all pixels are DO_NOT_USE.
    pixeldq : ndarray of uint32, 2D (y, x)

    Attributes
    ----------
    clipped : ndarray of bool, 2D (integrations, groups)
        Groups in which the clip flags all pixels, so that stcal takes its flags back.
    """

    def __init__(
        self,
        jump_data: Any,
        thresholds: tuple[Any, Any],
        unused: NDArray[np.bool_],
        pixeldq: NDArray[np.uint32],
    ) -> None:
        self._jump_data, self._thresholds = jump_data, thresholds
        self.unused, self._pixeldq = unused, pixeldq
        self.clipped = np.zeros_like(unused)

    def detect(self, band: _Band) -> _Found:
        """Detect the jumps of a band."""
        beside = np.ones(band.data.shape[2:], bool)
        beside[band.inside] = False
        extra = 0
        if beside.any():
            # As a row of their own.
            y, x = np.nonzero(beside)
            alone = (slice(None), slice(None), y[np.newaxis], x[np.newaxis])
            where = y[np.newaxis] + band.around[0].start, x[np.newaxis] + band.around[1].start
            _, _, extra = self._run(where, band.data[alone], band.groupdq[alone])
        flags, pixeldq, count = self._run(band.around, band.data, band.groupdq)
        return _Found(
            band.core,
            flags[:, :, *band.inside],
            pixeldq[band.inside],
            count if count == _TOO_FEW else count - extra,
        )

    def clipped_throughout(self, band: _Band) -> NDArray[np.bool_]:
        """Return in which groups (integrations, groups) the clip flags all pixels of a band."""
        clip = copy(self._jump_data)
        clip.flag_4_neighbors, clip.after_jump_flag_n1, clip.after_jump_flag_n2 = False, 0, 0
        own = _Frame(clip, self._thresholds, self.unused, self._pixeldq)
        flags, _, _ = own._run(band.around, band.data, band.groupdq)
        # Where a group is saturated, stcal takes off at its end what the clip met.
        flagged = (flags | band.groupdq) & (GroupFlag.JUMP_DET | GroupFlag.DO_NOT_USE).mask != 0
        return np.asarray(flagged.all(axis=(2, 3)))

    def _run(
        self, where: tuple[Any, Any], data: NDArray[np.float32], groupdq: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint32], int]:
        """Run stcal's detection on some pixels, and a last row that has the flags of the whole frame."""
        integrations, ngroups, count, nx = data.shape
        band = _BandOfFrame()
        for name, value in vars(self._jump_data).items():
            setattr(band, name, value)
        band.thresholds, band.expand_large_events = self._thresholds, False
        shape = (integrations, ngroups, count + 1, nx)
        band.data, band.gdq = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
        band.data[:, :, :count], band.gdq[:, :, :count] = data, groupdq
        band.data = band.data.view(QuickMedians)
        last = self.unused * GroupFlag.DO_NOT_USE.mask | self.clipped * GroupFlag.JUMP_DET.mask
        band.gdq[:, :, count] = last[:, :, np.newaxis]
        ones = np.ones((1, nx), np.float32)
        band.gain_2d = np.concatenate([self._jump_data.gain_2d[where], ones])
        band.rnoise_2d = np.concatenate([self._jump_data.rnoise_2d[where], ones])
        band.pdq = np.concatenate([self._pixeldq[where], np.zeros((1, nx), np.uint32)])
        flags, pixeldq, cosmic_rays, _ = detect_jumps_data(band)
        return flags[:, :, :count], pixeldq[:count], int(cosmic_rays)
