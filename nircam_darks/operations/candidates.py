"""What the primary header of a file tells before the file is announced."""

from dataclasses import dataclass
from pathlib import Path

from services.ingest.adapted import Adaptation
from services.ingest.checks import ExposureProbe
from services.ingest.probe import open_exposure
from shared.errors import BadInput, DarksError
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.exposure_id import exposure_id
from shared.nircam.exposure_times import is_plausible_mjd
from shared.settings.stage import StageSettings


@dataclass(frozen=True)
class Candidate:
    """One file to be announced, with what its primary header tells.

    Attributes
    ----------
    configuration : str or None
        Slug of its configuration key; None if the header gives none, which ingest then reports.
    start_mjd, end_mjd : float or None
        Start and end (UTC, days).
    place : str
        Where it lies in the folder that was searched; empty if the file itself was named.
    """

    path: Path
    exposure_id: str
    detector: str | None = None
    configuration: str | None = None
    start_mjd: float | None = None
    end_mjd: float | None = None
    simulated: bool = False
    place: str = ""
    key: ConfigurationKey | None = None

    @property
    def uri(self) -> str:
        """The address under which it is announced."""
        return self.path.as_uri()


def peek(path: Path, settings: StageSettings | None = None) -> Candidate:
    """Read from the primary header what decides the order of announcements; never raises.

    Parameters
    ----------
    path : Path
    settings : StageSettings, optional
        By which ingest may change the exposure (`services.ingest.adapted`), and with it its configuration.
    """
    path = path.absolute()
    try:
        probe, ramp = open_exposure(path)
    except (DarksError, OSError):  # ingest examines the file and reports why
        return candidate_of(ExposureProbe(path.name), None, path)
    if ramp is not None:
        ramp.close()
    return candidate_of(probe, settings, path)


def candidate_of(probe: ExposureProbe, settings: StageSettings | None, path: Path) -> Candidate:
    """Return a file with what its primary header tells.

    Parameters
    ----------
    probe : ExposureProbe
        What was read of its headers.
    settings : StageSettings or None
        As for `peek`.
    path : Path
        Absolute.
    """
    header = probe.primary
    if settings is not None:
        adaptation = Adaptation.of(probe, settings)
        header = adaptation.header(adaptation.probe(probe).primary)
    try:
        key = ConfigurationKey.from_header(header, path.name)
    except BadInput:
        key = None
    start, end = header.get("EXPSTART"), header.get("EXPEND")
    return Candidate(
        path,
        exposure_id(path.name, header),
        detector=header.get("DETECTOR"),
        configuration=key.slug if key is not None else None,
        key=key,
        start_mjd=_mjd(start),
        end_mjd=_mjd(end),
        simulated=str(header.get("PEDIGREE", "")).strip().upper() == "SIMULATION",
    )


def _mjd(value: object) -> float | None:
    # Ingest rejects the exposure for it.
    return float(value) if isinstance(value, (int, float)) and is_plausible_mjd(value) else None
