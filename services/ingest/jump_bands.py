"""Runs jwst's jump step on bands of rows of a ramp on disk.

The step looks at each pixel through all groups of all integrations, and at its four neighbours: a band is
given with the row before and the row after it. Three things are not in the band and are given with it:

- whether there are enough usable groups is decided by the groups in which *all* pixels of the frame are
  DO_NOT_USE. A further row that is so in just these groups gives a band the answer of the frame;
- the thresholds for groups after a large jump use the median gain of the frame;
- the number of cosmic rays has those of the neighbour rows, which are counted again by themselves and taken
  off.

Large events (snowballs) are looked for on the whole, plane by plane. Sigma clipping and showers look at whole
frames in other ways: they are given the exposure as one band.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stcal.jump.jump import detect_jumps_data, flag_large_events
from stcal.jump.jump_class import JumpData

from services.ingest.memory_plan import StreamPlan
from services.ingest.quick_medians import QuickMedians
from services.ingest.ramp_planes import RampPlanes
from services.ingest.side_by_side import side_by_side
from shared.nircam.dq import GroupFlag

#: What stcal returns in place of a number of cosmic rays if there are too few groups.
_TOO_FEW = -99
#: Rows of a band, the same with those beside it, and SCI and GROUPDQ of the latter.
_BandData = tuple[slice, slice, NDArray[np.float32], NDArray[np.uint8]]


class _Band(JumpData):  # type: ignore[misc]  # stcal has no types
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
        if self._looks_at_frames(jump_data):
            jump_data.data, jump_data.gdq = self._read(slice(0, ny))
            groupdq, model.pixeldq, cosmic_rays, events = detect_jumps_data(jump_data)
            self._write(slice(0, ny), groupdq)
        else:
            cosmic_rays, events = self._detect(jump_data, model.pixeldq), 0
            if jump_data.expand_large_events:
                events = self._flag_large_events(jump_data)
        # As JumpStep.process reports them.
        exposure = model.meta.exposure
        groups = len(self._integrations) * (ngroups - 1) - int(self._unused_groups().sum())
        if groups >= 1:
            pixel_time = exposure.group_time * groups * (ny * nx)
            exposure.primary_cosmic_rays = 1000 * cosmic_rays / pixel_time
            exposure.extended_emission_events = 1e6 * events / pixel_time
        model.meta.cal_step.jump = "COMPLETE"
        return model

    def _looks_at_frames(self, jump_data: Any) -> bool:
        count = len(self._integrations)
        compared = count if jump_data.only_use_ints else count * self._planes.shape[1]
        return bool(jump_data.find_showers or compared >= jump_data.minimum_sigclip_groups)

    def _detect(self, jump_data: Any, pixeldq: NDArray[np.uint32]) -> int:
        """Flag jumps band by band; return the number of cosmic rays."""
        height = self._plan.rows(len(self._integrations) * self._planes.shape[1])
        gain = np.nanmedian(jump_data.gain_2d)
        frame = _Frame(
            jump_data,
            (jump_data.after_jump_flag_dn1 * gain, jump_data.after_jump_flag_dn2 * gain),
            self._unused_groups(),
            pixeldq.copy(),
        )
        counts = []
        before: tuple[slice, NDArray[np.uint8]] | None = None
        for core, groupdq, dq, count in side_by_side(
            lambda band: frame.detect(*band), self._bands(height), self._plan.threads
        ):
            pixeldq[core] = dq
            counts.append(count)
            # A band is written when the next has read its last row without the flags.
            if before is not None:
                self._write(*before)
            before = core, groupdq
        if before is not None:
            self._write(*before)
        return _TOO_FEW if _TOO_FEW in counts else sum(counts)

    def _bands(self, height: int) -> Iterator[_BandData]:
        """Yield the bands, each with the rows beside it."""
        ny = self._planes.shape[2]
        for start in range(0, ny, height):
            core = slice(start, min(start + height, ny))
            around = slice(max(start - 1, 0), min(core.stop + 1, ny))
            yield core, around, *self._read(around)

    def _flag_large_events(self, jump_data: Any) -> int:
        """Expand snowballs on the whole exposure; return their number."""
        flags = GroupFlag.JUMP_DET.mask, GroupFlag.SATURATED.mask
        groupdq, usable = self._planes.groupdq, self._integrations
        with self._planes.releasing():
            if len(usable) == len(groupdq):
                return int(flag_large_events(groupdq, *flags, jump_data)[1])
            with tempfile.NamedTemporaryFile(dir=self._planes.path.parent) as file:
                shape = (len(usable), *groupdq.shape[1:])
                kept = np.memmap(Path(file.name), "u1", "w+", shape=shape)
                for number, integration in enumerate(usable):
                    kept[number] = groupdq[integration]
                events = int(flag_large_events(kept, *flags, jump_data)[1])
                for number, integration in enumerate(usable):
                    groupdq[integration] = kept[number]
                return events

    def _unused_groups(self) -> NDArray[np.bool_]:
        """Return in which groups (integrations, groups) all pixels are DO_NOT_USE."""
        unused = np.zeros((len(self._integrations), self._planes.shape[1]), bool)
        bit = GroupFlag.DO_NOT_USE.mask
        for number, integration in enumerate(self._integrations):
            for group, plane in enumerate(self._planes.groupdq[integration]):
                # A row tells nearly always.
                unused[number, group] = bool(np.all(plane[:1] & bit)) and bool(np.all(plane & bit))
        return unused

    def _read(self, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        chosen = self._integrations
        data = np.stack([self._planes.data[number, :, rows] for number in chosen]).astype(np.float32)
        groupdq = np.stack([self._planes.groupdq[number, :, rows] for number in chosen])
        self._planes.release()
        return data, groupdq

    def _write(self, rows: slice, groupdq: NDArray[np.uint8]) -> None:
        for number, integration in enumerate(self._integrations):
            self._planes.groupdq[integration, :, rows] = groupdq[number]
        self._planes.release()


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
    """

    def __init__(
        self,
        jump_data: Any,
        thresholds: tuple[Any, Any],
        unused: NDArray[np.bool_],
        pixeldq: NDArray[np.uint32],
    ) -> None:
        self._jump_data, self._thresholds = jump_data, thresholds
        self._unused, self._pixeldq = unused, pixeldq

    def detect(
        self, core: slice, around: slice, data: NDArray[np.float32], groupdq: NDArray[np.uint8]
    ) -> tuple[slice, NDArray[np.uint8], NDArray[np.uint32], int]:
        """Detect the jumps of a band.

        Parameters
        ----------
        core : slice
            Rows of the band.
        around : slice
            The same with their neighbours.
        data, groupdq : ndarray, 4D (integrations, groups, rows around, x)

        Returns
        -------
        core : slice
        groupdq : ndarray of uint8, 4D (integrations, groups, rows of the band, x)
        pixeldq : ndarray of uint32, 2D (rows of the band, x)
        count : int
            Cosmic rays in the band.
        """
        rows = np.arange(around.start, around.stop)
        inside = slice(core.start - around.start, core.stop - around.start)
        neighbours = np.flatnonzero((rows < core.start) | (rows >= core.stop))
        extra = 0
        if neighbours.size:
            _, _, extra = self._run(rows[neighbours], data[:, :, neighbours], groupdq[:, :, neighbours])
        flags, pixeldq, count = self._run(rows, data, groupdq)
        return core, flags[:, :, inside], pixeldq[inside], count if count == _TOO_FEW else count - extra

    def _run(
        self, rows: NDArray[np.int64], data: NDArray[np.float32], groupdq: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint32], int]:
        """Run stcal's detection on some rows, and a last one that is unused where the frame is."""
        integrations, ngroups, count, nx = data.shape
        band = _Band()
        for name, value in vars(self._jump_data).items():
            setattr(band, name, value)
        band.thresholds, band.expand_large_events = self._thresholds, False
        shape = (integrations, ngroups, count + 1, nx)
        band.data, band.gdq = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
        band.data[:, :, :count], band.gdq[:, :, :count] = data, groupdq
        band.data = band.data.view(QuickMedians)
        band.gdq[:, :, count] = self._unused[:, :, np.newaxis] * GroupFlag.DO_NOT_USE.mask
        band.gain_2d = np.concatenate([self._jump_data.gain_2d[rows], np.ones((1, nx), np.float32)])
        band.rnoise_2d = np.concatenate([self._jump_data.rnoise_2d[rows], np.ones((1, nx), np.float32)])
        band.pdq = np.concatenate([self._pixeldq[rows], np.zeros((1, nx), np.uint32)])
        flags, pixeldq, cosmic_rays, _ = detect_jumps_data(band)
        return flags[:, :, :count], pixeldq[:count], int(cosmic_rays)
