"""Runs the steps of the JWST pipeline that an exposure still needs, on one model in memory."""

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
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
from stdatamodels.jwst.datamodels import RampModel

from services.ingest import steps as chain
from services.ingest.products import StepRecord
from services.ingest.references import crds_faults, quiet
from shared.errors import BadInput, DarksError, EnvironmentFault, PermanentError, TransientError

# stpipe collects garbage before every step; what jwst's modules made at import need not be searched each
# time. On a small subarray that search is a third of the whole calibration.
gc.freeze()

#: ``on_step(done, total, name)`` before each step.
OnStep = Callable[[int, int, str], None]


@dataclass(frozen=True)
class PersistenceFiles:
    """What the persistence step is given and leaves.

    Attributes
    ----------
    time : int
        Window in s.
    before : Path or None
        State to carry in, in the exposure's pixels.
    after : Path
        Where the step writes the state that the exposure leaves.
    """

    time: int
    after: Path
    before: Path | None = None


@dataclass(frozen=True)
class Calibrated:
    """A calibrated exposure; `references` are those in its header, by type."""

    model: Any
    steps: list[StepRecord]
    references: dict[str, str] = field(default_factory=dict)


class DarkRampPipeline(JwstPipeline):  # type: ignore[misc]  # jwst has no types
    """The steps of `chain.STEPS` as one jwst pipeline.

    As its children, the steps hand one model along: a step called by itself deep-copies its input.
    Parameters come from where a step called by itself takes them too: CRDS's parameter references
    (unless STPIPE_DISABLE_CRDS_STEPPARS), then jwst's defaults.
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

    # Each step asks for the references it uses; a pipeline would also fetch those it might use.
    prefetch_references = False
    wanted: Sequence[str] = ()
    on_step: OnStep | None = None

    def process(self, model: Any) -> Any:
        """Run the wanted steps in order on `model`, in place; record what each took."""
        self.records: list[StepRecord] = []
        for number, name in enumerate(self.wanted):
            if self.on_step is not None:
                self.on_step(number, len(self.wanted), name)
            self.current = name
            start = time.perf_counter()
            model = getattr(self, name).run(model)
            seconds = time.perf_counter() - start
            said = getattr(model.meta.cal_step, name)
            self.records.append(
                StepRecord(name=name, status="complete" if said == "COMPLETE" else "skipped", seconds=seconds)
            )
        return model


def open_model(path: Path) -> Any:
    """Open a validated exposure as the model that the steps work on; the caller closes it.

    Raises
    ------
    BadInput
        If jwst cannot open it (check ``"data model"``).
    TransientError
        If memory is short.
    """
    with quiet():
        try:
            return RampModel(path)
        except MemoryError as error:
            raise TransientError(f"{path.name}: not enough memory to open it") from error
        except Exception as error:  # whatever the data model layer makes of a strange file
            raise BadInput("data model", f"{path.name}: jwst cannot open it: {_line(error)}") from error


def calibrate(
    model: Any,
    where: str,
    wanted: Sequence[str],
    references: Mapping[str, Path],
    header: Mapping[str, Any],
    persistence: PersistenceFiles | None = None,
    on_step: OnStep | None = None,
) -> Calibrated:
    """Bring an exposure through the steps it still needs.

    Parameters
    ----------
    model : RampModel
        A validated exposure, see `open_model`; it is worked on in place.
    where : str
        Name of its file, for errors.
    wanted : sequence of str
        Steps to run, in order, see `services.ingest.steps.to_run`.
    references : mapping of str to Path
        Reference files that override CRDS's choice, by type.
    header : mapping
        Primary header of the file.
    persistence : PersistenceFiles, optional
        Needed if persistence is wanted.
    on_step : callable, optional

    Returns
    -------
    Calibrated

    Raises
    ------
    EnvironmentFault
        If CRDS is not set up, or a reference file does not serve.
    PermanentError
        If a step fails on the exposure; names the step.
    TransientError
        If memory or disk is short.
    """
    pipeline = None
    with quiet(), crds_faults(where):
        try:
            if wanted:
                config, config_file = DarkRampPipeline.build_config(
                    model, steps=_step_parameters(wanted, references, persistence)
                )
                pipeline = DarkRampPipeline.from_config_section(config, config_file=config_file)
                pipeline.wanted = tuple(wanted)
                pipeline.on_step = on_step
                model = pipeline.run(model)
        except (DarksError, CrdsError):
            raise
        except Exception as error:
            raise _step_fault(where, getattr(pipeline, "current", "(none yet)"), error) from error
    records = pipeline.records if pipeline is not None else []
    for record in records:
        _check_status(record, where)
    return Calibrated(model, _all_records(records, header), _references(model))


def _step_parameters(
    wanted: Sequence[str], references: Mapping[str, Path], persistence: PersistenceFiles | None
) -> dict[str, dict[str, Any]]:
    # A skipped step asks for no references.
    parameters: dict[str, dict[str, Any]] = {name: {"skip": name not in wanted} for name in chain.STEPS}
    for name in wanted:
        for reftype in chain.REFERENCE_TYPES[name]:
            if reftype in references:
                parameters[name][f"override_{reftype}"] = os.fspath(references[reftype])
    if persistence is not None:
        parameters["persistence"] |= {
            "persistence_time": persistence.time,
            "save_persistence": os.fspath(persistence.after),
        }
        if persistence.before is not None:
            parameters["persistence"]["persistence_array_file"] = os.fspath(persistence.before)
    return parameters


def _check_status(record: StepRecord, where: str) -> None:
    # jwst skips refpix by itself where a subarray has no reference pixels.
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
    found = model.meta.ref_file.instance or {}
    return {
        reftype: said["name"]
        for reftype, said in sorted(found.items())
        if isinstance(said, dict) and said.get("name") not in (None, "", "N/A")
    }


def _step_fault(where: str, step: str, error: Exception) -> DarksError:
    if isinstance(error, MemoryError):
        return TransientError(f"{where}: not enough memory for the step {step}")
    if isinstance(error, OSError) and error.filename is not None:
        return EnvironmentFault(f"{where}: step {step}: {_line(error)}; check --override and CRDS_PATH")
    return PermanentError(f"{where}: step {step} of jwst failed: {type(error).__name__}: {_line(error)}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
