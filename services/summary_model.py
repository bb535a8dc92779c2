"""The names and types of `summary.json`."""

import math
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


#: A figure, or null where there is none. JSON has no NaN.
Number = Annotated[float | None, BeforeValidator(_finite)]


class ExposureEntry(BaseModel):
    """One file given to the run."""

    id: str
    file: str
    configuration: str | None
    status: Literal["ingested", "rejected"]
    reason: str | None
    check: str | None = None
    integrations: int | None = None
    simulated: bool | None = None


class ReferenceEntry(BaseModel):
    """One dark reference, or the reason why a set gave none (`path` is null then).

    `accepted` is the verdict of its verification, which `verification` says in a sentence; both are null
    where it was not verified.
    """

    configuration: str
    path: str | None
    mode: str
    exposures: int
    integrations: int
    dark_current_e_per_ks: Number
    dark_current_error_e_per_ks: Number
    expected_e_per_ks: Number
    verdict: str
    expected_sigma_e_per_ks: Number = None
    set_id: str | None = None
    exposure_ids: list[str] = []
    simulated: bool | None = None
    accepted: bool | None = None
    verification: str | None = None


class NoiseEntry(BaseModel):
    """The noise of one set; every figure is null where it could not be measured."""

    configuration: str
    ramps: int
    cds_noise_e: Number
    spatial_effective_noise_e: Number
    temporal_effective_noise_e: Number
    jump_flags: int | None
    jump_pixel_percent: Number
    verdict: str
    cds_noise_error_e: Number = None
    spatial_effective_noise_error_e: Number = None
    temporal_effective_noise_error_e: Number = None
    jump_flags_error: Number = None
    jump_pixel_percent_error: Number = None
    hits_per_cm2_s: Number = None
    hits_per_cm2_s_error: Number = None
    set_id: str | None = None
    exposure_ids: list[str] = []
    simulated: bool | None = None


class FailureEntry(BaseModel):
    """A message that was dead-lettered: work that did not get done."""

    service: str
    subject: str
    configuration: str | None
    reason: str


class Summary(BaseModel):
    """`summary.json`. `simulated` is true if any exposure of the run is simulated."""

    exposures: list[ExposureEntry]
    references: list[ReferenceEntry]
    noise: list[NoiseEntry]
    failures: list[FailureEntry]
    simulated: bool
    mode: str
    started: datetime
    finished: datetime
    versions: dict[str, str]

    @property
    def all_well(self) -> bool:
        """True if every exposure was ingested and every set gave what it should, a reference that passed."""
        return (
            not self.failures
            and all(exposure.status == "ingested" for exposure in self.exposures)
            and all(reference.accepted is not False for reference in self.references)
        )
