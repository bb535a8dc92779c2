"""Runs what is local to a group, from dq_init to linearity, on a few groups at a time.

The first groups of an exposure go through the steps of jwst as they are, for the metadata that the ramp is to
have (`services.ingest.pipeline`). All groups, these again, go through the functions by which the steps do
their work, with the reference files read once. Some of them look beyond a group:

- **Saturation.** A saturated pixel stays so in all later groups: the largest value of all earlier groups is
  given as one group before the run, which is saturated where any of them was. In frame-averaged patterns a
  group before a saturated one is compared with a lower threshold that depends on its number: the run is
  given with the group after it, and with its own place in the read pattern. Groups 0 to 2 of an integration
  have a rule of their own: they are always in one run, and two groups are put before any other. Flags grow
  to neighbours, so a band of rows is given with the rows that they can come from.
- **Reference pixels.** jwst works on a frame that it keeps from group to group. A subarray is put into it,
  and what the correction of a group leaves around it is still there for the next. The correction from the
  sides leaves it in double precision, so only the first group of an exposure is corrected in single
  precision. The frame is therefore kept from run to run.
- **Linearity** of frame-averaged patterns, where the reference has inverse coefficients, follows each pixel
  through its integration. It then goes by bands of rows, when all groups are on disk.

ZEROFRAME follows when all groups are done, as in jwst.
"""

import time
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from jwst.datamodels import dqflags
from jwst.dq_init.dq_initialization import do_dqinit
from jwst.lib import reffile_utils
from jwst.linearity import linearity
from jwst.refpix import reference_pixels
from jwst.saturation.saturation import ATOD_LIMIT
from jwst.superbias import bias_sub
from numpy.typing import NDArray
from stcal.saturation.saturation import flag_saturated_pixels
from stdatamodels.jwst import datamodels

from services.ingest.memory_plan import LEAST_RUN, StreamPlan
from services.ingest.quick_medians import running_median
from services.ingest.ramp_planes import RampPlanes
from services.ingest.side_by_side import side_by_side
from services.ingest.telemetry import Telemetry, fill_in
from shared.nircam.dq import flag_unused_pixels
from shared.ramps.ramp import Ramp

#: The steps that are run on a few groups at a time.
GROUP_STEPS = ("dq_init", "saturation", "superbias", "refpix", "linearity")
#: Groups put before a run for the saturation step, so that its rule for groups 0 to 2 meets none of the run.
_BEFORE = 2


@dataclass(frozen=True)
class RunSource:
    """Gives the groups of an exposure as the steps are to see them.

    Attributes
    ----------
    ramp : Ramp
        The exposure's file.
    telemetry : Telemetry or None
        What was never read, and is filled in.
    flag_unused : bool
        Whether GROUPDQ is to follow PIXELDQ, as it does after dq_init.
    """

    ramp: Ramp
    telemetry: Telemetry | None
    flag_unused: bool

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of SCI: (integrations, groups, y, x)."""
        integrations, groups, ny, nx = self.ramp.shape("SCI")
        return integrations, groups, ny, nx

    @property
    def has_zeroframe(self) -> bool:
        """Whether there is a ZEROFRAME for each integration."""
        return self.ramp.has("ZEROFRAME")

    def read_zeroframe(self, integration: int) -> NDArray[np.float32]:
        """Return ZEROFRAME (DN) of an integration, 2D (y, x)."""
        return self.ramp.read_frame("ZEROFRAME", integration).astype(np.float32, copy=False)

    def read(
        self, integration: int, groups: slice, pixeldq: NDArray[np.uint32]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return SCI (DN) and GROUPDQ of some groups, 4D (1, groups, y, x)."""
        count, (ny, nx) = groups.stop - groups.start, self.shape[2:]
        # A group at a time: what a conversion makes on the way stays in the processor's cache.
        data = np.empty((count, ny, nx), np.float32)
        for number in range(count):
            group = groups.start + number
            data[number] = self.ramp.read("SCI", integration, slice(group, group + 1))[0]
        if self.telemetry is not None:
            fill_in(data, self.telemetry, integration, groups, self.ramp)
        if self.ramp.has("GROUPDQ"):
            groupdq = self.ramp.read("GROUPDQ", integration, groups).astype(np.uint8, copy=False)
        else:
            groupdq = np.zeros(data.shape, np.uint8)
        if self.flag_unused:
            flag_unused_pixels(groupdq[np.newaxis], pixeldq)
        return data[np.newaxis], groupdq[np.newaxis]


@dataclass(frozen=True)
class _Run:
    """Groups of an integration as they are given to the steps, with what they need of the groups before.

    Attributes
    ----------
    integration : int
    groups : slice
    data, groupdq : ndarray, 4D (1, groups, y, x)
        These groups, and the next for the saturation step.
    earlier : ndarray of float32, 2D (y, x), or None
        The largest value of all earlier groups of the integration (DN, as read); None at its first group.
    """

    integration: int
    groups: slice
    data: NDArray[np.float32]
    groupdq: NDArray[np.uint8]
    earlier: NDArray[np.float32] | None


@dataclass
class _Bench:
    """What one run at a time works on: a model of its own, and jwst's working frame."""

    model: Any
    refpix: Any = None


@dataclass(frozen=True)
class CorrectedRun:
    """Groups of an integration after the steps: SCI and GROUPDQ, 3D (groups, y, x)."""

    integration: int
    groups: slice
    data: NDArray[np.float32]
    groupdq: NDArray[np.uint8]


class GroupRuns:
    """The steps of one exposure that go by runs of groups.

    Parameters
    ----------
    pipeline : JwstPipeline
        With the steps and their parameters.
    names : sequence of str
        Steps to run, of `GROUP_STEPS`.
    source : RunSource
    references : mapping of str to Path
        Reference files by type.
    model : RampModel
        With the exposure's metadata, but ``zero_frame`` off, and its PIXELDQ as in the input.
    plan : StreamPlan
        Groups of a run, and runs at a time.
    """

    def __init__(
        self,
        pipeline: Any,
        names: tuple[str, ...],
        source: RunSource,
        references: Mapping[str, Path],
        model: Any,
        plan: StreamPlan,
    ) -> None:
        self._pipeline, self._names, self._source = pipeline, names, source
        self._references, self._length = references, max(plan.groups, LEAST_RUN)
        # Saturation goes by bands of rows within a run: its planes stay in the processor's cache.
        self._threads, self._rows = plan.threads, plan.highest
        self._loaded: dict[str, Any] = {}
        self._pixeldq = model.pixeldq.copy()
        self._benches = [_Bench(model)]
        #: Of each step, over all runs.
        self.seconds: dict[str, float] = dict.fromkeys(names, 0.0)

    def linearity_by_rows(self, model: Any) -> bool:
        """Return whether the linearity step follows pixels through all groups of an integration."""
        times = model.meta.exposure.read_times
        return (
            "linearity" in self._names
            and model.meta.exposure.nframes > 1
            and (times is None or len(times) == 0)
            and self._reference("linearity").inv_coeffs is not None
        )

    def run(self) -> Iterator[CorrectedRun]:
        """Run the steps on all groups of the exposure, but linearity by rows; yield the runs in order."""
        runs = self._read()
        # By itself: it loads the references, and what jwst works on is as it stays from the second group on.
        yield self._correct(next(runs))
        [first] = self._benches
        threads = self._threads
        if first.refpix is not None and first.refpix.is_subarray:
            # What the correction of a group leaves around a subarray is there for the next.
            threads = 1
        for _ in range(1, threads):
            refpix = copy(first.refpix)
            if refpix is not None:
                refpix.group = refpix.group.copy()
                _hasten(refpix)
            self._benches.append(_Bench(first.model.copy(), refpix))
        yield from side_by_side(self._correct, runs, threads)

    def _read(self) -> Iterator[_Run]:
        """Read the runs; the first of an integration has at least `LEAST_RUN` groups if there are so many."""
        integrations, ngroups = self._source.shape[:2]
        for integration in range(integrations):
            earlier = None
            for start in range(0, ngroups, self._length):
                groups = slice(start, min(start + self._length, ngroups))
                after = 1 if "saturation" in self._names and groups.stop < ngroups else 0
                read = slice(groups.start, groups.stop + after)
                data, groupdq = self._source.read(integration, read, self._pixeldq)
                peak = np.fmax.reduce(data[0, : groups.stop - groups.start])
                yield _Run(integration, groups, data, groupdq, earlier)
                earlier = peak if earlier is None else np.fmax(peak, earlier)

    def _correct(self, run: _Run) -> CorrectedRun:
        """Run the steps on a run of groups."""
        count, groups = run.groups.stop - run.groups.start, run.groups
        bench = self._benches.pop()
        model = bench.model
        model.data, model.groupdq, model.pixeldq = run.data, run.groupdq, self._pixeldq.copy()
        for name in self._names:
            start = time.perf_counter()
            self._run(name, bench, groups.start, run.earlier)
            self.seconds[name] += time.perf_counter() - start
            if name == "saturation":
                model.data, model.groupdq = model.data[:, :count], model.groupdq[:, :count]
        corrected = CorrectedRun(run.integration, groups, model.data[0], model.groupdq[0])
        self._benches.append(bench)
        return corrected

    def _run(self, name: str, bench: _Bench, first_group: int, earlier: NDArray[np.float32] | None) -> None:
        model = bench.model
        if name == "dq_init":
            user_dq = self._pipeline.dq_init.user_supplied_dq
            do_dqinit(
                model, self._reference("mask"), user_dq=None if user_dq is None else fits.getdata(user_dq)
            )
        elif name == "saturation":
            self._flag_saturation(model, first_group, earlier)
        elif name == "superbias":
            bias_sub.do_correction(model, self._reference("superbias"))
        elif name == "refpix":
            self._correct_reference_pixels(bench)
        elif not self.linearity_by_rows(model):
            linearity.do_correction(model, self._reference("linearity"))

    def run_zeroframe(self, zeroframe: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the steps on the ZEROFRAME (y, x) of an integration, after all groups, and return it."""
        bench = self._benches[0]
        model = bench.model
        model.pixeldq = self._pixeldq.copy()
        shape = (1, LEAST_RUN, *zeroframe.shape)
        model.data, model.groupdq = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
        model.zeroframe, model.meta.exposure.zero_frame = zeroframe[np.newaxis].copy(), True
        for name in self._names:
            if name == "linearity":
                linearity.do_correction(model, self._reference("linearity"))
            elif name == "refpix" and bench.refpix is not None:
                bench.refpix.input_model = model
                reference_pixels.process_zeroframe_correction(bench.refpix)
            else:
                self._run(name, bench, 0, None)
        model.meta.exposure.zero_frame = False
        corrected: NDArray[np.float32] = model.zeroframe[0]
        return corrected

    def _correct_reference_pixels(self, bench: _Bench) -> None:
        """Correct with reference pixels, from the state that the groups before left, as in jwst."""
        if bench.refpix is None:
            bench.refpix = self._reference_pixels(bench.model)
        dataset = bench.refpix
        if dataset is not None:
            dataset.input_model = bench.model
            dataset.nints, dataset.ngroups = bench.model.data.shape[:2]
            dataset.pixeldq = dataset.get_pixeldq()
            dataset.do_corrections()

    def _reference_pixels(self, model: Any) -> Any:
        """Return what jwst's step works with; None if it leaves such exposures as they are."""
        step = self._pipeline.refpix
        kernel = None
        if step.refpix_algorithm == "sirs" and not reffile_utils.is_subarray(model):
            # As the step does it; without a reference it uses the running median.
            path = step.get_reference_file(model, "sirskernel")
            if path != "N/A":
                kernel = self._loaded["sirskernel"] = datamodels.SIRSKernelModel(path)
        dataset = reference_pixels.create_dataset(
            model,
            step.odd_even_columns,
            step.use_side_ref_pixels,
            step.side_smoothing_length,
            step.side_gain,
            step.odd_even_rows,
            {
                "refpix_algorithm": step.refpix_algorithm,
                "sirs_kernel_model": kernel,
                "sigreject": step.sigreject,
                "gaussmooth": step.gaussmooth,
                "halfwidth": step.halfwidth,
            },
            step.siglimit,
        )
        if dataset is not None:
            _hasten(dataset)
        return dataset

    def _flag_saturation(self, model: Any, first_group: int, earlier: NDArray[np.float32] | None) -> None:
        """Flag saturation as `jwst.saturation.saturation.flag_saturation` does, from any group on."""
        step = self._pipeline.saturation
        planes = self._saturation_planes(model)
        frames, (_, count, ny, _) = model.meta.exposure.nframes, model.data.shape
        pattern = [
            [frame + 1 + group * frames for frame in range(frames)]
            for group in range(first_group, first_group + count)
        ]
        before = 0 if earlier is None else _BEFORE
        # A pattern of one frame: the groups before are not compared with a lower threshold.
        pattern = [[1]] * before + pattern
        zeroframe = model.zeroframe if model.meta.exposure.zero_frame else None
        groupdq, pixeldq = np.empty_like(model.groupdq), np.empty_like(model.pixeldq)
        grown = None if zeroframe is None else np.empty_like(zeroframe)
        for rows, around in self._saturation_bands(ny, step.n_pix_grow_sat):
            inside = slice(rows.start - around.start, rows.stop - around.start)
            data = model.data[:, :, around]
            if earlier is not None:
                data = np.concatenate([np.stack([[earlier[around]] * before]), data], axis=1)
            threshold, threshold_dq, bias = (plane[around] for plane in planes)
            flags, dq, zero = flag_saturated_pixels(
                data,
                np.pad(model.groupdq[:, :, around], ((0, 0), (before, 0), (0, 0), (0, 0))),
                model.pixeldq[around],
                threshold,
                threshold_dq,
                ATOD_LIMIT,
                dqflags.pixel,
                n_pix_grow_sat=step.n_pix_grow_sat,
                read_pattern=pattern if step.use_readpatt else None,
                zframe=None if zeroframe is None else zeroframe[:, around].copy(),
                bias=bias,
            )
            groupdq[:, :, rows], pixeldq[rows] = flags[:, before:, inside], dq[inside]
            if grown is not None:
                grown[:, rows] = zero[:, inside]
        model.groupdq, model.pixeldq = groupdq, pixeldq
        if grown is not None:
            model.zeroframe = grown

    def _saturation_bands(self, ny: int, reach: int) -> Iterator[tuple[slice, slice]]:
        """Yield bands of rows, and the same with those beside them from which flags can grow into them."""
        for start in range(0, ny, self._rows):
            stop = min(start + self._rows, ny)
            # A flag grows by `reach`, and what it makes DO_NOT_USE in the group before grows once more.
            yield slice(start, stop), slice(max(start - 2 * reach, 0), min(stop + 2 * reach, ny))

    def _saturation_planes(self, model: Any) -> tuple[Any, Any, Any]:
        """Return the thresholds, their flags, and the superbias with its NaN, which superbias replaces."""
        if "saturation planes" not in self._loaded:
            with datamodels.SaturationModel(self._references["saturation"]) as reference:
                own = _own_pixels(model, reference)
                threshold, threshold_dq = own.data.copy(), own.dq.copy()
            with datamodels.SuperBiasModel(self._references["superbias"]) as reference:
                bias = _own_pixels(model, reference).data.copy()
            self._loaded["saturation planes"] = threshold, threshold_dq, bias
        planes: tuple[Any, Any, Any] = self._loaded["saturation planes"]
        return planes

    def _reference(self, reftype: str) -> Any:
        classes = {
            "mask": datamodels.MaskModel,
            "superbias": datamodels.SuperBiasModel,
            "linearity": datamodels.LinearityModel,
        }
        if reftype not in self._loaded:
            self._loaded[reftype] = classes[reftype](self._references[reftype])
        return self._loaded[reftype]

    def correct_linearity_by_rows(self, model: Any, planes: RampPlanes, rows: int) -> None:
        """Run linearity on bands of rows of an exposure whose other groups are on disk."""
        integrations, _, ny, nx = planes.shape
        subarray = model.meta.subarray
        place = subarray.ystart, subarray.ysize
        for integration in range(integrations):
            for start in range(0, ny, rows):
                band = slice(start, min(start + rows, ny))
                # A band is a subarray, for which jwst cuts the pixels out of the reference.
                subarray.ystart, subarray.ysize = place[0] + start, band.stop - start
                model.data = planes.data[integration : integration + 1, :, band].astype(np.float32)
                model.groupdq = np.array(planes.groupdq[integration : integration + 1, :, band])
                model.pixeldq = np.zeros((band.stop - start, nx), np.uint32)
                linearity.do_correction(model, self._reference("linearity"))
                planes.data[integration, :, band] = model.data[0]
                planes.release()
        subarray.ystart, subarray.ysize = place

    def close(self) -> None:
        """Close the reference files."""
        for model in self._loaded.values():
            if hasattr(model, "close"):
                model.close()
        self._loaded.clear()


def _own_pixels(model: Any, reference: Any) -> Any:
    """Return the reference in the exposure's pixels."""
    if reffile_utils.ref_matches_sci(model, reference):
        return reference
    return reffile_utils.get_subarray_model(model, reference)


def _hasten(dataset: Any) -> None:
    """Have jwst's data set of reference pixels compute the same in less time, see `quick_medians`."""
    original = type(dataset).median_filter.__get__(dataset)
    dataset.median_filter = partial(running_median, original)
    # A column, where jwst has the frame that repeats it: numpy subtracts the same.
    dataset.combine_ref_signals = lambda left, right: dataset.combine_with_nans(left, right)[:, np.newaxis]
