"""An exposure that passed the checks, as the calibration takes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from services.ingest.telemetry import Telemetry
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.pedigree import SIMULATION, pedigree_of_data
from shared.products.ramp import SupersededRamp
from shared.store.manifest import InputDigest
from shared.store.sources import FileState


@dataclass(frozen=True)
class ValidExposure:
    """An exposure that passed every check that needs no calibration.

    Attributes
    ----------
    exposure_id : str
        See `shared.nircam.exposure_id`.
    path : Path
        The exposure as one file on this machine's disk.
    uri : str
        Where the exposure was announced to lie; where its first segment lies, if it came in segments.
    key : ConfigurationKey
    header : mapping
        Its primary header.
    telemetry : Telemetry or None
        What of it was never read; None if nothing is missing.
    files : tuple of InputDigest
        The files it was delivered in: one, or its segments in order.
    identity, revision, date, supersedes
        See `RampMetadata`.
    adaptations : tuple of str
        What was changed in it before, see `services.ingest.adapted`.
    delivered : FileState or None
        The file as it was before its digest was taken.
    """

    exposure_id: str
    path: Path
    uri: str
    key: ConfigurationKey
    header: Mapping[str, Any]
    telemetry: Telemetry | None = None
    files: tuple[InputDigest, ...] = ()
    identity: Literal["header", "announced"] = "announced"
    revision: str | None = None
    date: str = ""
    supersedes: tuple[SupersededRamp, ...] = ()
    adaptations: tuple[str, ...] = ()
    delivered: FileState | None = None

    @property
    def history(self) -> list[str]:
        """Lines for the HISTORY of the ramp: how it was delivered, if not as one file once, and changed."""
        joined = [f"Joined from {len(self.files)} segments."] if len(self.files) > 1 else []
        changed = [f"{each[0].upper()}{each[1:]}." for each in self.adaptations]
        return [*joined, *changed, *(f"Supersedes a ramp: {ramp}" for ramp in self.supersedes)]

    @property
    def start_mjd(self) -> float:
        """Start of the exposure, MJD (UTC)."""
        return float(self.header["EXPSTART"])

    @property
    def end_mjd(self) -> float:
        """End of the exposure, MJD (UTC)."""
        return float(self.header["EXPEND"])

    @property
    def pedigree(self) -> str:
        """``"SIMULATION"`` if the PEDIGREE of the file begins so, else by its date, GROUND or INFLIGHT."""
        pedigree = str(self.header.get("PEDIGREE", "")).strip().upper()
        return pedigree_of_data(pedigree.startswith(SIMULATION), self.end_mjd)
