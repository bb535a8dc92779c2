"""The facts of ingest's products, as their manifests carry them."""

from typing import Literal

from pydantic import BaseModel

from shared.configuration import ConfigurationKey
from shared.messages import ObjectRef, SetMember

#: Object names of the ``ramp`` product.
RAMP = "ramp.fits"
#: Roles of a ramp's inputs in its manifest: the exposure; a reference file that overrides CRDS's choice,
#: with its type behind it.
EXPOSURE_ROLE = "exposure"
REFERENCE_ROLE = "reference:"


class StepRecord(BaseModel):
    """One pipeline step: `seconds` is 0 where it was ``already`` done in the input."""

    name: str
    status: Literal["complete", "already", "skipped"]
    seconds: float


class RampFacts(BaseModel):
    """A calibrated, jump-flagged exposure (product ``ramp``).

    Attributes
    ----------
    gain : float
        Median of the gain reference over science pixels, e-/DN.
    persistence_from : str or None
        Exposure whose persistence state was carried in; None if there was none.
    gain_source : str
        ``"reference"``, or ``"table"`` (`shared.detectors`) where no gain reference was to be had.
    persistence_pixels : int
        Pixels that were still in a persistence window when the exposure began; only with some of them
        does the ramp depend on the exposure in `persistence_from`.
    flagged_fraction : float
        Part of the science pixels that PIXELDQ marks DO_NOT_USE.
    pedigree : str
        ``"SIMULATION"`` or ``"INFLIGHT"``.
    """

    exposure_id: str
    uri: str
    file: str
    configuration: str
    key: ConfigurationKey
    integrations: int
    start_mjd: float
    end_mjd: float
    date_obs: str
    gain: float
    simulated: bool
    pedigree: str
    steps: list[StepRecord]
    references: dict[str, str]
    persistence_from: str | None
    flagged_fraction: float
    jwst_version: str
    crds_context: str
    gain_source: Literal["reference", "table"] = "reference"
    persistence_pixels: int = 0


class RejectionFacts(BaseModel):
    """An exposure that failed a check (product ``rejection``).

    Attributes
    ----------
    start_mjd : float or None
        UTC days; None where the header does not give it, or in a store of an earlier version.
    """

    exposure_id: str
    uri: str
    file: str
    configuration: str | None
    check: str
    reason: str
    start_mjd: float | None = None


class PersistenceFacts(BaseModel):
    """The persistence state of a detector when an exposure ended (product ``persistence``).

    Attributes
    ----------
    persistence_time : int
        Window in s; a state serves only exposures that are calibrated with the same one.
    pixels : int
        How many pixels are in a window.
    """

    detector: str
    exposure_id: str
    end_mjd: float
    persistence_time: int
    pixels: int


def configuration_prefix(configuration: str) -> str:
    """Return the key prefix of every ramp and rejection of one configuration."""
    return f"ingest/{configuration}/"


def member_of(facts: RampFacts, manifest_key: str, key: str, size: int, sha256: str) -> SetMember:
    """Return the set member that a committed ramp is."""
    return SetMember(
        exposure_id=facts.exposure_id,
        manifest=manifest_key,
        ramp=ObjectRef(key=key, size=size, sha256=sha256),
        integrations=facts.integrations,
        start_mjd=facts.start_mjd,
        end_mjd=facts.end_mjd,
    )
