"""What a file is, whether it would be ingested, and a quick look at its pixels."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from stdatamodels.jwst.datamodels import dqflags

from services.ingest import steps
from services.ingest.checks import Check, Evidence
from services.ingest.evidence import not_finite, open_exposure, unusable_pixels
from services.ingest.validation import finite_check, header_checks, usable_check
from services.noise.cds import CdsSummary, cds_summary
from shared.configuration import KEYWORDS, ConfigurationKey
from shared.errors import BadInput
from shared.geometry import science_pixels
from shared.medians import median
from shared.ramps import Ramp

#: Keywords that say what a file is.
_IDENTITY = (
    "TELESCOP",
    "INSTRUME",
    "DETECTOR",
    "EXP_TYPE",
    "DATAMODL",
    "PEDIGREE",
    "DATE-OBS",
    "TIME-OBS",
    "NINTS",
)
_MARKS = {True: ("passed", "green"), False: ("FAILED", "bold red"), None: ("n.a.", "dim")}


@dataclass(frozen=True)
class QuickLook:
    """Numbers of a ramp over all its pixels.

    Attributes
    ----------
    group_medians : list of list of float
        Median per (integration, group), DN.
    cds : CdsSummary
        Of the first two groups.
    group_flags, pixel_flags : dict of str to int
        How often each flag is set in GROUPDQ and PIXELDQ; empty where the file has none.
    """

    group_medians: list[list[float]]
    cds: CdsSummary
    group_flags: dict[str, int]
    pixel_flags: dict[str, int]


@dataclass(frozen=True)
class Inspection:
    """Everything that could be found out about a file.

    Attributes
    ----------
    identity : dict
        Keyword -> value, of those that say what it is.
    configuration : dict
        The keywords of the configuration key that could be read.
    slug : str or None
        Name of the configuration; None where its key is incomplete.
    steps : dict of str to str
        Step -> its status, ``""`` where the header says nothing.
    quick_look : QuickLook or None
        None where the pixels could not be read; `quick_look_note` says why.
    """

    file: str
    size: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)
    slug: str | None = None
    steps: dict[str, str] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    quick_look: QuickLook | None = None
    quick_look_note: str = ""

    @property
    def passed(self) -> bool:
        """True if no check failed: ingest would take the file."""
        return all(check.passed is not False for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it; what is not finite becomes None."""
        return {**_plain(dataclasses.asdict(self)), "passed": self.passed}


def inspect_file(path: Path) -> Inspection:
    """Look at any JWST up-the-ramp file, whatever its instrument and however broken.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Inspection
        A file that cannot be read at all has one failed check that says so.
    """
    try:
        evidence, ramp = open_exposure(path)
    except BadInput as fault:
        return Inspection(str(path), checks=[Check(fault.check, False, fault.message)])
    checks = header_checks(evidence)
    look, note = None, "the file cannot be read to its end"
    if ramp is not None:
        with ramp:
            checks += _pixel_checks(ramp, evidence)
            try:
                look, note = _quick_look(ramp), ""
            except BadInput as fault:
                note = fault.message
    header = evidence.primary
    return Inspection(
        file=str(path),
        size=evidence.size,
        shapes=evidence.shapes,
        identity={keyword: header[keyword] for keyword in _IDENTITY if keyword in header},
        configuration={keyword: header[keyword] for keyword in KEYWORDS.values() if keyword in header},
        slug=_slug(evidence),
        steps={step: steps.status(header, step) for step in steps.STEPS} if header else {},
        checks=checks,
        quick_look=look,
        quick_look_note=note,
    )


def render(inspection: Inspection) -> RenderableType:
    """Return the inspection for a terminal."""
    parts: list[RenderableType] = [_identity_table(inspection), _check_table(inspection)]
    if inspection.quick_look is not None:
        parts += _quick_look_tables(inspection.quick_look)
    else:
        parts.append(Text(f"No quick look: {inspection.quick_look_note or 'the file could not be opened'}"))
    return Group(*parts)


def _pixel_checks(ramp: Ramp, evidence: Evidence) -> list[Check]:
    science = None
    try:
        key = ConfigurationKey.from_header(evidence.primary, evidence.where)
        science = science_pixels(key)
    except BadInput:
        pass
    found, count = not_finite(ramp), None
    if science is not None and evidence.shapes.get("SCI", ())[2:] == science.shape:
        count = unusable_pixels(ramp, science)
    return [finite_check(found), usable_check(count, int(science.sum()) if science is not None else 0)]


def _quick_look(ramp: Ramp) -> QuickLook:
    summary = cds_summary(ramp)
    integrations, groups = ramp.shape("SCI")[:2]
    medians: list[list[float]] = []
    counts: dict[int, int] = {}
    has_flags = ramp.has("GROUPDQ") and ramp.shape("GROUPDQ") == ramp.shape("SCI")
    for integration in range(integrations):
        medians.append([])
        for group in range(groups):
            plane = ramp.read("SCI", integration, slice(group, group + 1))[0]
            medians[-1].append(median(plane[np.isfinite(plane)]))
            if has_flags:
                flags = ramp.read("GROUPDQ", integration, slice(group, group + 1))
                for value, count in enumerate(np.bincount(flags.ravel(), minlength=256)):
                    counts[value] = counts.get(value, 0) + int(count)
    return QuickLook(medians, summary, _by_name(dqflags.group, counts), _pixel_flags(ramp))


def _pixel_flags(ramp: Ramp) -> dict[str, int]:
    if not ramp.has("PIXELDQ") or len(ramp.shape("PIXELDQ")) != 2:
        return {}
    values, counts = np.unique(ramp.read_image("PIXELDQ"), return_counts=True)
    return _by_name(dqflags.pixel, dict(zip(map(int, values), map(int, counts), strict=True)))


def _by_name(names: Mapping[str, int], counts: Mapping[int, int]) -> dict[str, int]:
    found = {
        name: sum(count for value, count in counts.items() if value & bit)
        for name, bit in sorted(names.items(), key=lambda item: item[1])
    }
    return {name: count for name, count in found.items() if count}


def _slug(evidence: Evidence) -> str | None:
    try:
        return ConfigurationKey.from_header(evidence.primary, evidence.where).slug
    except BadInput:
        return None


def _identity_table(inspection: Inspection) -> Table:
    table = Table(title=escape(Path(inspection.file).name), show_header=False, title_justify="left")
    size = f"{inspection.size:,} bytes" if inspection.size is not None else "not readable"
    table.add_row("file", escape(f"{inspection.file} ({size})"))
    said = ", ".join(f"{keyword} {value}" for keyword, value in inspection.identity.items())
    table.add_row("is", escape(said) or "no header could be read")
    shapes = ", ".join(f"{name} {tuple(shape)}" for name, shape in inspection.shapes.items() if shape)
    table.add_row("holds", escape(shapes) or "nothing that could be read")
    key = ", ".join(f"{keyword} {value}" for keyword, value in inspection.configuration.items())
    table.add_row(
        "configuration", escape(inspection.slug or "incomplete") + (f"\n{escape(key)}" if key else "")
    )
    done = ", ".join(f"{step} {said}" for step, said in inspection.steps.items() if said)
    table.add_row("steps", done or "none done")
    return table


def _check_table(inspection: Inspection) -> Table:
    table = Table(title="Checks", title_justify="left")
    for heading in ("check", "", "found"):
        table.add_column(heading)
    for check in inspection.checks:
        word, style = _MARKS[check.passed]
        table.add_row(escape(check.name), Text(word, style=style), escape(check.detail))
    return table


def _quick_look_tables(look: QuickLook) -> list[RenderableType]:
    table = Table(title="Quick look, medians over all pixels (DN)", title_justify="left")
    for heading in ("integration", "group 1", "last group", "group 2 - group 1"):
        table.add_column(heading, justify="right")
    for number, medians in enumerate(look.group_medians):
        cds = f"{look.cds.cds_medians[number]:+.2f}" if number < len(look.cds.cds_medians) else "-"
        table.add_row(str(number + 1), f"{medians[0]:.2f}", f"{medians[-1]:.2f}", cds)
    lines: list[RenderableType] = [table]
    raw, removed = look.cds.temporal_std_dn, look.cds.temporal_std_median_removed_dn
    if raw is not None and removed is not None:
        lines.append(
            Text(
                f"CDS noise over integrations, median over pixels: {raw:.2f} DN; "
                f"{removed:.2f} DN after each integration's median was taken away"
            )
        )
    else:
        lines.append(Text("CDS noise over integrations: needs two integrations of two groups"))
    for name, flags in (("GROUPDQ", look.group_flags), ("PIXELDQ", look.pixel_flags)):
        said = ", ".join(f"{flag} {count}" for flag, count in flags.items())
        lines.append(Text(f"{name} flags: {said or 'none'}"))
    return lines


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
