"""Calibrates a validated exposure and writes its ramp as one file on this machine's disk."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from services.ingest.checks import first_failure
from services.ingest.exposure import ValidExposure
from services.ingest.header_checks import usable_check
from services.ingest.memory_plan import plan_stream
from services.ingest.persistence import BeginPersistence, PersistenceState
from services.ingest.plan import Plan
from services.ingest.probe import unusable
from services.ingest.step_parameters import describe_parameters
from shared.errors import EnvironmentFault, TransientError
from shared.nircam.detectors import detectors
from shared.nircam.dq import PixelFlag, flag_unused_pixels
from shared.nircam.geometry import science_pixels
from shared.products.ramp import CommonStep, StepRecord
from shared.ramps.ramp import Ramp
from shared.runtime.handler import Progress
from shared.store.sources import FileReader


@dataclass(frozen=True)
class RampFile:
    """A calibrated ramp on disk, and what its manifest records.

    Attributes
    ----------
    gain : float
        Median over science pixels, e-/DN.
    gain_source : str
        ``"reference"``, or ``"table"`` (`shared.nircam.detectors`) if no step needs a gain reference and
        there is none.
    flagged_fraction : float
        Part of the science pixels that PIXELDQ marks DO_NOT_USE.
    common_steps : list of CommonStep
        Steps that were subtracted from SCI.
    first_group_snowballs : int
        Snowballs that fell before group 0 was read, over all integrations; the rings around them are masked.
    state : PersistenceState or None
        As the persistence step left it, in the exposure's pixels; None if the step was not run.
    """

    path: Path
    integrations: int
    gain: float
    gain_source: Literal["reference", "table"]
    flagged_fraction: float
    steps: list[StepRecord]
    common_steps: list[CommonStep]
    first_group_snowballs: int
    references: dict[str, str]
    state: PersistenceState | None
    step_parameters: dict[str, dict[str, Any]]
    write_seconds: float


def make_ramp_file(
    exposure: ValidExposure,
    plan: Plan,
    begin_persistence: BeginPersistence,
    folder: Path,
    progress: Progress,
    threads: int = 1,
) -> RampFile:
    """Run the steps that an exposure needs, and write its ramp.

    Parameters
    ----------
    exposure : ValidExposure
    plan : Plan
    begin_persistence : callable
        Called once, when all is done but the persistence step, and only if that is to run: waits for the
        exposures before this one, and returns the state at its start in its pixels, if there is one.
    folder : Path
        For the ramp.
    progress : callable
    threads : int
        Pieces of the exposure that are calibrated at a time.

    Raises
    ------
    BadInput
        If jwst cannot open the file, or no science pixel is usable.
    EnvironmentFault, TransientError, PermanentError
        See `services.ingest.references` and `services.ingest.pipeline.calibrate`.
    """
    # Importing jwst takes seconds, which a redelivery or a rejection should not cost.
    from services.ingest import first_groups, pipeline, references
    from services.ingest.group_runs import RunSource

    where, total = exposure.path.name, len(plan.steps) + 1
    persistence = None
    if "persistence" in plan.steps:
        window = int(plan.parameters["persistence_time"])
        persistence = pipeline.PersistenceInput(window, begin_persistence)
    # jwst writes the file's name as FILENAME, by which the exposure is known later.
    path = folder / f"{exposure.exposure_id}_jump.fits"
    with (
        Ramp(FileReader(exposure.path), where) as ramp,
        first_groups.open_first_groups(ramp) as model,
    ):
        unflagged = "dq_init" not in plan.steps
        if unflagged:
            flag_unused_pixels(model.groupdq, model.pixeldq)
        gain, gain_source, files = _prepare_references(exposure, plan, model.get_crds_parameters())
        result = pipeline.calibrate(
            model,
            exposure,
            plan.steps,
            RunSource(ramp, exposure.telemetry, unflagged),
            pipeline.RampStream(
                path,
                plan_stream(exposure.key.subsize2, exposure.key.subsize1, threads),
                files,
                plan.overrides,
                plan.step_parameters,
            ),
            persistence,
            on_step=lambda done, _, name: progress(done, total, name),
        )
        calibrated, planes = result.model, result.planes
        progress(total - 1, total, "writing")
        science = science_pixels(exposure.key)
        unusable_count = unusable(calibrated.pixeldq, (flags[0] for flags in planes.groupdq), science)
        failure = first_failure([usable_check(unusable_count, int(science.sum()))], where)
        if failure is not None:
            raise failure
        for line in [*exposure.history, *describe_parameters(result.parameters)]:
            calibrated.add_history_entry(line)
        start = time.perf_counter()
        with references.quiet_pipeline():
            planes.finish(calibrated)
        return RampFile(
            path=path,
            integrations=planes.shape[0],
            gain=gain,
            gain_source=gain_source,
            flagged_fraction=float(np.mean((calibrated.pixeldq[science] & PixelFlag.DO_NOT_USE.mask) != 0)),
            steps=result.steps,
            common_steps=result.common_steps,
            first_group_snowballs=result.first_group_snowballs,
            references=result.references,
            state=result.state,
            step_parameters=result.parameters,
            write_seconds=time.perf_counter() - start,
        )


def _prepare_references(
    exposure: ValidExposure, plan: Plan, parameters: Mapping[str, Any]
) -> tuple[float, Literal["reference", "table"], dict[str, Path]]:
    """Check every reference file before any step runs; return the gain (e-/DN), its source, and the files."""
    from services.ingest import references

    where = exposure.path.name
    types = references.types_for(plan.steps)
    # By configuration: all its exposures have one and the same reason.
    files = references.find_references(parameters, types, plan.overrides, exposure.key.slug)
    if "gain" not in files:
        try:
            files |= references.find_references(parameters, ["gain"], plan.overrides, where)
        except (EnvironmentFault, TransientError):
            # A ramp with all steps done needs no reference; the gain only converts its values to electrons.
            return detectors()[exposure.key.detector].gain, "table", files
    for reftype, file in files.items():
        references.check_reference(reftype, file, exposure.key, where, reftype in plan.overrides)
    return references.median_gain(files["gain"], exposure.key), "reference", files
