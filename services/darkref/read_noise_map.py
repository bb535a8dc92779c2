"""Where the READNOISE reference of a set lies on this machine, if it does.

The jump step of ingest used it, so each ramp names it. A darkref worker reads it too, to know what read noise
each amplifier should have (`services.darkref.verification.expectations`), from where ingest had it: an
override of the settings, else the CRDS cache at CRDS_PATH. No file is fetched: a worker without a cache holds
the read noise against the table of the detector.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.settings.stage import StageSettings
from shared.store.manifest import InputDigest
from shared.store.sources import sha256_of

#: Role of the map among the inputs of a reference.
READ_NOISE_ROLE = "read noise"
_TYPE = "readnoise"
#: Folders of a CRDS cache in which the references of NIRCam lie, by its layout.
_FOLDERS = ("references/jwst/nircam", "references/jwst")


@dataclass(frozen=True)
class ReadNoiseMap:
    """A READNOISE reference on this machine's disk, and its identity."""

    path: Path
    sha256: str

    @property
    def digest(self) -> InputDigest:
        """The map as an input of a product."""
        return InputDigest(role=READ_NOISE_ROLE, uri=self.path.name, sha256=self.sha256)


def read_noise_map(ramp: Mapping[str, Any], settings: StageSettings) -> ReadNoiseMap | None:
    """Return the READNOISE reference that a ramp was made with; None where it is not on this machine.

    Parameters
    ----------
    ramp : mapping
        Results in the manifest of one ramp of the set.
    settings : StageSettings
        With the overrides that ingest has too.
    """
    path = settings.overrides.get(_TYPE)
    if path is None:
        references = ramp.get("references")
        if not isinstance(references, Mapping):
            return None
        path = _in_cache(str(references.get(_TYPE, "")).removeprefix("crds://"))
    if path is None or not path.is_file():
        return None
    return ReadNoiseMap(path, sha256_of(path))


def _in_cache(name: str) -> Path | None:
    cache = os.environ.get("CRDS_PATH")
    if not cache or not name or Path(name).name != name:
        return None
    places = (Path(cache) / folder / name for folder in _FOLDERS)
    return next((place for place in places if place.is_file()), None)
