"""What ingest changes in an exposure before it calibrates it, because a person asked for it.

- ``--truncate N`` (``DARKS_TRUNCATE``): of exposures with more groups, the first N of every integration are
  used, so that exposures of different lengths form one set. The ramp is that of a file with only those
  groups; saturation in the groups that are left out is therefore unknown to the persistence of the exposures
  that follow.
- ``--derive-keywords``: see `services.ingest.derived_keywords`.

An exposure of which anything is changed is calibrated from a copy on this machine's scratch disk, which is
written in pieces; the changes are among the parameters of the ramp, and thus part of its key.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from services.ingest.checks import ExposureProbe
from services.ingest.derived_keywords import derived_keywords, integration_time
from services.ingest.segments import write_hdu
from shared.ramps.ramp import Ramp
from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.sources import FileReader

#: Names of the changes among the parameters of a ramp.
TRUNCATED_TO, DERIVED_KEYWORDS = "truncated_to", "derived_keywords"
#: Extensions whose second slowest axis is the group.
_BY_GROUP = frozenset({"SCI", "ERR", "GROUPDQ"})
#: Extensions that are left out: ASDF repeats the header as it was, and jwst makes it again; the table GROUP
#: has rows for the groups that are left out.
_STALE, _STALE_IF_CUT = frozenset({"PRIMARY", "ASDF"}), frozenset({"PRIMARY", "ASDF", "GROUP"})


@dataclass(frozen=True)
class Adaptation:
    """The changes to one exposure; empty for most.

    Attributes
    ----------
    derived : dict
        Keywords that were added to its header.
    groups : int or None
        The first groups of each integration that are used; None for all of them.
    of_groups : int
        How many groups an integration has.
    """

    derived: dict[str, Any] = field(default_factory=dict)
    groups: int | None = None
    of_groups: int = 0

    @classmethod
    def of(cls, probe: ExposureProbe, settings: StageSettings) -> "Adaptation":
        """Return what the settings change in an exposure."""
        derived: dict[str, Any] = {}
        if settings.derive_keywords:
            derived = derived_keywords(probe.primary, tuple(probe.shapes.get("SCI", ())))
        ngroups = {**probe.primary, **derived}.get("NGROUPS")
        longest = settings.truncate
        if longest is None or not isinstance(ngroups, int) or ngroups <= longest:
            return cls(derived)
        return cls(derived, longest, ngroups)

    @property
    def parameters(self) -> dict[str, Any]:
        """The changes among the parameters of the ramp."""
        parameters: dict[str, Any] = {DERIVED_KEYWORDS: self.derived} if self.derived else {}
        return parameters | ({} if self.groups is None else {TRUNCATED_TO: self.groups})

    @property
    def remarks(self) -> list[str]:
        """The changes, a sentence each, for the manifest and the HISTORY of the ramp."""
        derived = [f"{keyword} = {value!r}, derived" for keyword, value in self.derived.items()]
        cut = f"truncated to the first {self.groups} of {self.of_groups} groups"
        return derived if self.groups is None else [*derived, cut]

    def probe(self, probe: ExposureProbe) -> ExposureProbe:
        """Return the probe with the derived keywords in its header; its groups are those of the file."""
        return replace(probe, primary={**probe.primary, **self.derived}) if self.derived else probe

    def header(self, primary: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the header that the exposure is calibrated with."""
        header = {**primary, **self.derived}
        if self.groups is not None:
            header["NGROUPS"] = self.groups
            try:
                header["EFFINTTM"] = integration_time(header)
                header["EFFEXPTM"] = round(header["NINTS"] * header["EFFINTTM"], 5)
            except (KeyError, TypeError):
                pass  # the checks of the header say what is missing
        return header


def parameters_today(parameters: Mapping[str, Any], settings: StageSettings) -> dict[str, Any]:
    """Return the changes that today's settings make to an exposure whose ramp has these parameters."""
    today: dict[str, Any] = {}
    if TRUNCATED_TO in parameters and settings.truncate is not None:
        today[TRUNCATED_TO] = settings.truncate
    if DERIVED_KEYWORDS in parameters and settings.derive_keywords:
        today[DERIVED_KEYWORDS] = parameters[DERIVED_KEYWORDS]
    return today


@contextmanager
def adapted_file(ramp: Ramp, path: Path, adaptation: Adaptation, store: Store) -> Iterator[tuple[Path, Ramp]]:
    """Give the file that an exposure is calibrated from, as a context: the file itself if nothing is changed.

    Parameters
    ----------
    ramp : Ramp
        The open file.
    path : Path
        The same on this machine's disk.
    adaptation : Adaptation
    store : Store
        Whose scratch folder takes the copy.

    Yields
    ------
    (Path, Ramp)
        The file, and the same open.
    """
    if not adaptation.parameters:
        yield path, ramp
        return
    with tempfile.TemporaryDirectory(dir=store.scratch(), prefix="adapted-") as folder:
        target = Path(folder) / path.name
        write_adapted(ramp, target, adaptation)
        with Ramp(FileReader(target), target.name) as copy:
            yield target, copy


def write_adapted(ramp: Ramp, target: Path, adaptation: Adaptation) -> None:
    """Write an exposure with the changes of `adaptation`, in bounded memory.

    Parameters
    ----------
    ramp : Ramp
    target : Path
    adaptation : Adaptation
    """
    primary = ramp.primary.copy()
    values = adaptation.header({keyword: primary.get(keyword) for keyword in primary if keyword})
    for keyword in (*adaptation.derived, *(("NGROUPS", "EFFINTTM", "EFFEXPTM") if adaptation.groups else ())):
        primary[keyword] = values[keyword]
    stale = _STALE if adaptation.groups is None else _STALE_IF_CUT
    with target.open("wb") as file:
        write_hdu(file, primary, ())
        for name, header in ramp.headers.items():
            if name in stale:
                continue
            data: Iterable[bytes] = ramp.stored_bytes(name)
            by_group = name in _BY_GROUP and ramp.has(name) and ramp.shape(name) == ramp.shape("SCI")
            if adaptation.groups is not None and by_group:
                plane = abs(header["BITPIX"]) // 8 * header["NAXIS1"] * header["NAXIS2"]
                data = _first_of_each(data, adaptation.groups * plane, header["NAXIS3"] * plane)
                header = header.copy()
                header["NAXIS3"] = adaptation.groups
            write_hdu(file, header, data)


def _first_of_each(pieces: Iterable[bytes], keep: int, of: int) -> Iterator[bytes]:
    """Yield the first `keep` of every `of` bytes."""
    position = 0
    for piece in pieces:
        start = 0
        while start < len(piece):
            place = (position + start) % of
            end = min(start + of - place, len(piece))
            if place < keep:
                yield piece[start : min(end, start + keep - place)]
            start = end
        position += len(piece)
