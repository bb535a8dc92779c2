"""Runs the steps of the JWST pipeline that an exposure still needs, in bounded memory.

An exposure of any number of integrations and groups is never in memory. The steps up to linearity go by runs
of groups (`services.ingest.group_runs`), the jump step by bands of rows (`services.ingest.jump_bands`), and
what looks at the whole passes over planes on scratch (`services.ingest.ramp_planes`). The ramp is, to the
last bit, the one that the steps make of the whole exposure.
"""

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from crds.core.exceptions import CrdsError
from jwst.dq_init import DQInitStep
from jwst.jump import JumpStep
from jwst.linearity import LinearityStep
from jwst.persistence import PersistenceStep
from jwst.refpix import RefPixStep
from jwst.saturation import SaturationStep
from jwst.stpipe.core import JwstPipeline
from jwst.superbias import SuperBiasStep

from services.ingest import steps as chain
from services.ingest.common_step import StepSearch
from services.ingest.exposure import ValidExposure
from services.ingest.first_group_snowball import mask_first_group_snowballs
from services.ingest.group_runs import GROUP_STEPS, GroupRuns, RunSource
from services.ingest.jump_bands import JumpBands
from services.ingest.memory_plan import StreamPlan
from services.ingest.persistence import BeginPersistence, PersistenceState
from services.ingest.persistence_flags import flag_persistence, window_openers
from services.ingest.ramp_planes import RampPlanes
from services.ingest.references import crds_faults, quiet_pipeline
from services.ingest.step_parameters import effective_parameters
from services.ingest.telemetry import Telemetry, blank, mask
from shared.errors import DarksError, EnvironmentFault, PermanentError, TransientError
from shared.products.ramp import CommonStep, StepRecord
from shared.runtime.heap import reusing_memory

# stpipe collects garbage before every step. Freezing what jwst's modules created at import keeps it out of
# that search, which otherwise takes a third of the calibration of a small subarray.
gc.freeze()

#: ``on_step(done, total, name)`` before each step.
OnStep = Callable[[int, int, str], None]


@dataclass(frozen=True)
class PersistenceInput:
    """What the persistence step needs besides the exposure.

    Attributes
    ----------
    time : int
        Length of the persistence window, s.
    begin : callable
        Called once, right before the step: waits for the exposures before this one, and returns the state at
        its start in its pixels, if there is one.
    """

    time: int
    begin: BeginPersistence


@dataclass(frozen=True)
class RampStream:
    """How an exposure is calibrated piece by piece, and where its ramp goes.

    Attributes
    ----------
    path : Path
        The ramp's file, on scratch.
    plan : StreamPlan
    references : mapping of str to Path
        Reference files by type, whoever selected them.
    overrides : mapping of str to Path
        Those in place of what CRDS selects.
    parameters : mapping of str to mapping
        Parameters of steps that differ from jwst's defaults, by step.
    """

    path: Path
    plan: StreamPlan
    references: Mapping[str, Path]
    overrides: Mapping[str, Path]
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class CalibratedRamp:
    """A calibrated exposure, of which SCI and GROUPDQ are in `planes` on disk and all else is in `model`.

    `references` are the reference files named in its header, by type. `common_steps` were subtracted from
    it; `first_group_snowballs` is the number of those whose rings are masked. `state` is what the persistence
    step left, in the exposure's pixels; None if it was not run. `parameters` are those with which the steps
    ran, by step.
    """

    model: Any
    planes: RampPlanes
    steps: list[StepRecord]
    references: dict[str, str] = field(default_factory=dict)
    common_steps: list[CommonStep] = field(default_factory=list)
    first_group_snowballs: int = 0
    state: PersistenceState | None = None
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)


class DarkRampPipeline(JwstPipeline):  # type: ignore[misc]  # jwst has no types
    """The steps of `chain.STEPS` as one jwst pipeline.

    Within a pipeline the steps pass on one model, whereas a step called by itself makes a deep copy of its
    input. Parameters are those given, then jwst's defaults; see `services.ingest.step_parameters`.
    """

    step_defs: ClassVar[dict[str, Any]] = {
        "dq_init": DQInitStep,
        "saturation": SaturationStep,
        "superbias": SuperBiasStep,
        "refpix": RefPixStep,
        "linearity": LinearityStep,
        "jump": JumpStep,
        "persistence": PersistenceStep,
    }

    # Each step fetches the references it uses; prefetching would also fetch those it might use.
    prefetch_references = False
    wanted: Sequence[str] = ()
    on_step: OnStep | None = None
    search: StepSearch | None = None
    begin_persistence: BeginPersistence | None = None
    source: RunSource
    stream: RampStream
    current = "(none yet)"

    def process(self, model: Any) -> Any:
        """Run the wanted steps in order, and record the seconds that each takes.

        `model` has the first run of groups; it is returned with what the header of the ramp will say.
        """
        self.seconds: dict[str, float] = dict.fromkeys(self.wanted, 0.0)
        self.common_steps: list[CommonStep] = []
        self.first_group_snowballs = 0
        self.state: PersistenceState | None = None
        telemetry = self.source.telemetry
        model = self._run_groups(model)
        groupdq = self.planes.groupdq
        if "jump" in self.wanted:
            with self._timed("jump"):
                if telemetry is not None:
                    mask(groupdq, telemetry)
                model = self._flag_jumps(model, telemetry)
        if "persistence" in self.wanted:
            if telemetry is not None:
                mask(groupdq, telemetry)
            self._flag_persistence(model)
        if telemetry is not None:
            with self.planes.releasing():
                mask(groupdq, telemetry)
                blank(self.planes.data, telemetry)
            for entry in telemetry.lost:
                model.add_history_entry(f"Lost telemetry, DO_NOT_USE and NaN: {entry}")
        for common in self.common_steps:
            model.add_history_entry(f"Common step subtracted from SCI: {common}")
        if self.first_group_snowballs:
            model.add_history_entry(
                f"Rings of snowballs in the first group, DO_NOT_USE: {self.first_group_snowballs}"
            )
        return model

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        if self.on_step is not None:
            self.on_step(self.wanted.index(name), len(self.wanted), name)
        self.current = name
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start

    def _run_groups(self, model: Any) -> Any:
        """Run the steps up to linearity; return the model of the first run, as these steps leave it."""
        names = tuple(name for name in self.wanted if name in GROUP_STEPS)
        uses_zeroframe = bool(model.meta.exposure.zero_frame)
        others = model.copy()
        for name in names:
            with self._timed(name):
                model = getattr(self, name).run(model)
        has_zeroframe = self.source.has_zeroframe
        self.planes = RampPlanes(self.stream.path, model, self.source.shape, has_zeroframe)
        others.meta.exposure.zero_frame = False
        runs = GroupRuns(self, names, self.source, self.stream.references, others, self.stream.plan)
        self.current = names[-1] if names else "reading"
        for run in runs.run():
            self.planes.put(run.integration, run.groups, run.data, run.groupdq)
        for number in range(self.source.shape[0] if has_zeroframe else 0):
            frame = self.source.read_zeroframe(number)
            self.planes.zeroframe[number] = runs.run_zeroframe(frame) if uses_zeroframe else frame
            self.planes.release()
        if runs.linearity_by_rows(others):
            with self._timed("linearity"):
                runs.correct_linearity_by_rows(
                    others, self.planes, self.stream.plan.rows(self.source.shape[1])
                )
        for name, seconds in runs.seconds.items():
            self.seconds[name] += seconds
        runs.close()
        return model

    def _flag_jumps(self, model: Any, telemetry: Telemetry | None) -> Any:
        data, groupdq, search = self.planes.data, self.planes.groupdq, self.search
        with self.planes.releasing():
            if search is not None:
                self.common_steps = search.find(data, groupdq)
                search.subtract(data, self.common_steps)
        # The fewest groups of any integration decide whether the step looks for jumps in all of them.
        usable = range(len(data)) if telemetry is None else telemetry.usable
        self.jump.process = JumpBands(self.jump, self.planes, usable, self.stream.plan).process
        model = self.jump.run(model)
        with self.planes.releasing():
            if search is not None:
                search.take_back(data, groupdq, self.common_steps)
                self.first_group_snowballs = mask_first_group_snowballs(groupdq)
        return model

    def _flag_persistence(self, model: Any) -> None:
        """Run the persistence step; the time of waiting for its input does not count."""
        step, groupdq = self.persistence, self.planes.groupdq
        data = self.planes.data if step.dn_threshold is not None else None
        with self._timed("persistence"), self.planes.releasing():
            openers = window_openers(groupdq, data, step.dn_threshold)
        assert self.begin_persistence is not None
        before = self.begin_persistence()
        start = time.perf_counter()
        with self.planes.releasing():
            self.state = flag_persistence(step, model, groupdq, openers, before, data)
        self.seconds["persistence"] += time.perf_counter() - start
        model.meta.cal_step.persistence = "COMPLETE"


def calibrate(
    model: Any,
    exposure: ValidExposure,
    wanted: Sequence[str],
    source: RunSource,
    stream: RampStream,
    persistence: PersistenceInput | None = None,
    on_step: OnStep | None = None,
) -> CalibratedRamp:
    """Run the steps that an exposure still needs.

    Parameters
    ----------
    model : RampModel
        The first groups of a validated exposure, see `services.ingest.first_groups`; changed in place.
    exposure : ValidExposure
        The same: its file, header and lost telemetry.
    wanted : sequence of str
        Steps to run, in order, see `services.ingest.steps.to_run`.
    source : RunSource
        Gives its groups.
    stream : RampStream
    persistence : PersistenceInput, optional
        Required if the persistence step is to run.
    on_step : callable, optional

    Returns
    -------
    CalibratedRamp

    Raises
    ------
    EnvironmentFault
        If CRDS is not set up, or a reference file does not fit the exposure.
    PermanentError
        If a step fails on the exposure; the message names the step.
    TransientError
        If memory or disk is short.
    """
    pipeline, where = None, exposure.path.name
    with quiet_pipeline(), crds_faults(where), reusing_memory():
        try:
            if wanted:
                config, config_file = DarkRampPipeline.build_config(
                    # Given the model, it would ask CRDS for parameters.
                    None,
                    steps=_step_parameters(wanted, stream.overrides, persistence, stream.parameters),
                )
                pipeline = DarkRampPipeline.from_config_section(config, config_file=config_file)
            else:
                pipeline = DarkRampPipeline()
            pipeline.wanted = tuple(wanted)
            pipeline.on_step = on_step
            pipeline.source, pipeline.stream = source, stream
            pipeline.search = StepSearch.of(exposure.key)
            pipeline.begin_persistence = persistence.begin if persistence is not None else None
            # With no step to run, the header says nothing of this version of jwst.
            model = pipeline.run(model) if wanted else pipeline.process(model)
        except (DarksError, CrdsError):
            raise
        except Exception as error:
            raise _step_fault(where, getattr(pipeline, "current", "(none yet)"), error) from error
    records = [
        StepRecord(
            name=name,
            status="complete" if getattr(model.meta.cal_step, name) == "COMPLETE" else "skipped",
            seconds=seconds,
        )
        for name, seconds in pipeline.seconds.items()
    ]
    for record in records:
        _check_status(record, where)
    return CalibratedRamp(
        model=model,
        planes=pipeline.planes,
        steps=_all_records(records, exposure.header),
        references=_references(model),
        common_steps=pipeline.common_steps,
        first_group_snowballs=pipeline.first_group_snowballs,
        state=pipeline.state,
        parameters=effective_parameters(pipeline, wanted),
    )


def _step_parameters(
    wanted: Sequence[str],
    references: Mapping[str, Path],
    persistence: PersistenceInput | None,
    given: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    # A skipped step fetches no references.
    parameters: dict[str, dict[str, Any]] = {name: {"skip": name not in wanted} for name in chain.STEPS}
    for name in wanted:
        parameters[name] |= given.get(name, {})
        for reftype in chain.REFERENCE_TYPES[name]:
            if reftype in references:
                parameters[name][f"override_{reftype}"] = os.fspath(references[reftype])
    if persistence is not None:
        parameters["persistence"]["persistence_time"] = persistence.time
    return parameters


def _check_status(record: StepRecord, where: str) -> None:
    # jwst itself skips refpix for subarrays without reference pixels.
    if record.status == "skipped" and record.name != "refpix":
        raise EnvironmentFault(
            f"{where}: jwst skipped the step {record.name}: its reference files do not serve; see the log, "
            "and choose another CRDS_CONTEXT or --override"
        )


def _all_records(records: Sequence[StepRecord], header: Mapping[str, Any]) -> list[StepRecord]:
    ran = {record.name: record for record in records}
    done = chain.completed(header)
    return [
        ran.get(name) or StepRecord(name=name, status="already" if name in done else "skipped", seconds=0.0)
        for name in chain.STEPS
    ]


def _references(model: Any) -> dict[str, str]:
    recorded = model.meta.ref_file.instance or {}
    return {
        reftype: entry["name"]
        for reftype, entry in sorted(recorded.items())
        if isinstance(entry, dict) and entry.get("name") not in (None, "", "N/A")
    }


def _step_fault(where: str, step: str, error: Exception) -> DarksError:
    if isinstance(error, MemoryError):
        return TransientError(f"{where}: not enough memory for the step {step}")
    if isinstance(error, OSError) and error.filename is not None:
        return EnvironmentFault(f"{where}: step {step}: {_line(error)}; check --override and CRDS_PATH")
    return PermanentError(f"{where}: step {step} of jwst failed: {type(error).__name__}: {_line(error)}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
