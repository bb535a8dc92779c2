"""Makes the calibrated ramp of a validated exposure, as one file on this machine's disk."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from services.ingest.checks import first_failure
from services.ingest.evidence import DO_NOT_USE, unusable
from services.ingest.persistence.state import PersistenceState, read_state, write_state
from services.ingest.plan import Plan
from services.ingest.products import StepRecord
from services.ingest.validation import usable_check
from shared.configuration import ConfigurationKey
from shared.detectors import detectors
from shared.errors import EnvironmentFault, TransientError
from shared.geometry import science_pixels
from shared.stage import Progress

#: PEDIGREE that the simulator writes, and that is never to be lost.
SIMULATION = "SIMULATION"


@dataclass(frozen=True)
class ValidExposure:
    """An exposure that passed every check that can be made before work.

    Attributes
    ----------
    header : mapping
        Its primary header.
    """

    exposure_id: str
    path: Path
    uri: str
    sha256: str
    key: ConfigurationKey
    header: Mapping[str, Any]

    @property
    def start_mjd(self) -> float:
        """When it began, UTC."""
        return float(self.header["EXPSTART"])

    @property
    def end_mjd(self) -> float:
        """When it ended, UTC."""
        return float(self.header["EXPEND"])

    @property
    def pedigree(self) -> str:
        """``"SIMULATION"`` where the input says so, else ``"INFLIGHT"``."""
        said = str(self.header.get("PEDIGREE", "")).strip().upper()
        return SIMULATION if said.startswith(SIMULATION) else "INFLIGHT"


@dataclass(frozen=True)
class RampFile:
    """A calibrated ramp on disk, and what is to be said of it.

    Attributes
    ----------
    gain : float
        Median over science pixels, e-/DN.
    gain_source : str
        ``"reference"``, or ``"table"`` where no step needs a gain reference and none is to be had.
    flagged_fraction : float
        Part of the science pixels that PIXELDQ marks DO_NOT_USE.
    state : PersistenceState or None
        What the persistence step left, in the exposure's pixels; None if it was not run.
    """

    path: Path
    integrations: int
    gain: float
    gain_source: Literal["reference", "table"]
    flagged_fraction: float
    steps: list[StepRecord]
    references: dict[str, str]
    state: PersistenceState | None
    write_seconds: float


def make_ramp_file(
    exposure: ValidExposure, plan: Plan, carried: PersistenceState | None, folder: Path, progress: Progress
) -> RampFile:
    """Run the steps that the exposure needs, and write the one file.

    Parameters
    ----------
    exposure : ValidExposure
    plan : Plan
    carried : PersistenceState or None
        State to carry in, in the exposure's pixels.
    folder : Path
        For the file and what the steps leave beside it.
    progress : callable

    Raises
    ------
    BadInput
        If jwst cannot open the file, or no science pixel is left to measure.
    EnvironmentFault, TransientError, PermanentError
        See `services.ingest.references` and `services.ingest.calibration.calibrate`.
    """
    # Importing jwst takes seconds, which a redelivery or a rejection need not spend.
    from services.ingest import calibration, references

    where, total = exposure.path.name, len(plan.steps) + 1
    files = _persistence_files(exposure, plan, carried, folder)
    with calibration.open_model(exposure.path) as model:
        gain, gain_source = _prepare_references(exposure, plan, model.get_crds_parameters())
        result = calibration.calibrate(
            model,
            where,
            plan.steps,
            plan.overrides,
            exposure.header,
            calibration.PersistenceFiles(*files) if files else None,
            on_step=lambda done, _, name: progress(done, total, name),
        )
        calibrated = result.model
        progress(total - 1, total, "writing")
        science = science_pixels(exposure.key)
        unusable_count = unusable(calibrated.pixeldq, calibrated.groupdq[:, 0], science)
        failure = first_failure([usable_check(unusable_count, int(science.sum()))], where)
        if failure is not None:
            raise failure
        start = time.perf_counter()
        # The data model gives the file's own name as FILENAME, by which the exposure is known later.
        path = folder / f"{exposure.exposure_id}_jump.fits"
        with references.quiet():
            calibrated.save(path)
        return RampFile(
            path=path,
            integrations=int(calibrated.data.shape[0]),
            gain=gain,
            gain_source=gain_source,
            flagged_fraction=float(np.mean((calibrated.pixeldq[science] & DO_NOT_USE) != 0)),
            steps=result.steps,
            references=result.references,
            state=read_state(files[1], exposure.key.detector) if files else None,
            write_seconds=time.perf_counter() - start,
        )


def _prepare_references(
    exposure: ValidExposure, plan: Plan, parameters: Mapping[str, Any]
) -> tuple[float, Literal["reference", "table"]]:
    """Check every reference file before any work is done with it; return the gain and its source."""
    from services.ingest import references

    where = exposure.path.name
    types = references.types_for(plan.steps)
    found = references.find_references(parameters, types, plan.overrides, where)
    if "gain" not in found:
        try:
            found |= references.find_references(parameters, ["gain"], plan.overrides, where)
        except (EnvironmentFault, TransientError):
            # A finished ramp needs no reference; the gain only turns its numbers into electrons.
            return detectors()[exposure.key.detector].gain, "table"
    for reftype, file in found.items():
        references.check_reference(reftype, file, exposure.key, where)
    return references.median_gain(found["gain"], exposure.key), "reference"


def _persistence_files(
    exposure: ValidExposure, plan: Plan, carried: PersistenceState | None, folder: Path
) -> tuple[int, Path, Path | None] | None:
    if "persistence" not in plan.steps:
        return None
    window = int(plan.parameters["persistence_time"])
    before = None
    if carried is not None and len(carried):
        before = folder / "before.asdf"
        write_state(before, carried, exposure.key.detector, window, exposure.path.name)
    return window, folder / "after.asdf", before
