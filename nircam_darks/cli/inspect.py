"""What a file holds, whether ingest would accept it, and a quick look at its pixels.

Of a large exposure only a sample of its groups is read, so that the answer comes within seconds; whatever was
seen in a sample is called that. Checks of headers and shapes are those of ingest in any case.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nircam_darks.cli.file_kind import kind_of_file, kind_of_headers
from services.ingest import steps
from services.ingest.checks import Check, ExposureProbe
from services.ingest.file_sums import read_sums
from services.ingest.header_checks import finite_check, header_checks, usable_check
from services.ingest.probe import not_finite, open_exposure, unusable_pixels
from services.ingest.telemetry import Telemetry, find_lost_telemetry, telemetry_check
from services.noise.read_noise.cds import CdsSummary, cds_summary
from shared.errors import BadInput
from shared.nircam.configuration import KEYWORDS, ConfigurationKey
from shared.nircam.dq import GroupFlag, PixelFlag
from shared.nircam.geometry import science_pixels
from shared.ramps.ramp import Ramp
from shared.ramps.sample import RampSample
from shared.statistics.medians import median
from shared.store.sources import FileReader

#: Keywords that identify a file.
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
#: Values of SCI that are read of a large exposure: 40 groups of the full frame, about two seconds.
_SAMPLE = 40 * 2048 * 2048
#: Size of the largest file that is read to its end for its checksums anyway: half a second.
_ALL_BYTES = 2 * _SAMPLE
_MARKS = {True: ("passed", "green"), False: ("FAILED", "bold red"), None: ("n.a.", "dim")}


@dataclass(frozen=True)
class QuickLook:
    """Statistics of a ramp over all pixels of the groups that were read.

    Attributes
    ----------
    integrations, groups : list of int
        Those that were read, 0-based.
    groups_read, groups_of_file : int
        Their number, and that of all groups in the file, over all integrations.
    group_medians : list of list of float
        Median per (integration, group) in DN.
    cds : CdsSummary
        CDS statistics of the first two groups.
    group_flags, pixel_flags : dict of str to int
        Number of occurrences of each flag in GROUPDQ and PIXELDQ; empty if the file has no such array.
    """

    integrations: list[int]
    groups: list[int]
    groups_read: int
    groups_of_file: int
    group_medians: list[list[float]]
    cds: CdsSummary
    group_flags: dict[str, int]
    pixel_flags: dict[str, int]


@dataclass(frozen=True)
class Inspection:
    """Everything that could be read from a file.

    Attributes
    ----------
    kind : str
        What the file is, in one line.
    identity : dict
        Value by keyword, for the keywords that identify a file.
    configuration : dict
        The keywords of the configuration key that could be read.
    slug : str or None
        Name of the configuration; None if its key is incomplete.
    steps : dict of str to str
        Status by step; empty if the header does not mention the step.
    quick_look : QuickLook or None
        None if the pixels could not be read; `quick_look_note` says why.
    """

    file: str
    kind: str
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
        """True if no check failed, so that ingest would accept the file."""
        return all(check.passed is not False for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the inspection as JSON values; numbers that are not finite become None."""
        return {**_plain(dataclasses.asdict(self)), "passed": self.passed}


def inspect_file(path: Path, full: bool = False) -> Inspection:
    """Inspect any file, above all any JWST up-the-ramp file, from any instrument and in any condition.

    Parameters
    ----------
    path : Path
    full : bool
        Whether to read all groups of a large exposure, rather than a sample of `_SAMPLE` values.

    Returns
    -------
    Inspection
        For a file that cannot be read at all, it has one failed check, which says so.
    """
    try:
        with FileReader(path) as file:
            whole = full or file.size <= _ALL_BYTES
        probe, ramp = open_exposure(path, read_sums(path) if whole else None)
    except BadInput as fault:
        checks = [Check(fault.check, False, fault.message)]
        return Inspection(str(path), kind_of_file(path), checks=checks)
    checks = header_checks(probe)
    look, note = None, "the file cannot be read to its end"
    kind = _kind(path, probe, ramp)
    if ramp is not None:
        with ramp:
            try:
                sample = _sample(ramp, full)
                checks += _pixel_checks(sample, probe)
                look, note = _quick_look(sample), ""
            except BadInput as fault:
                note = fault.message
    header = probe.primary
    return Inspection(
        file=str(path),
        kind=kind,
        size=probe.size,
        shapes=probe.shapes,
        identity={keyword: header[keyword] for keyword in _IDENTITY if keyword in header},
        configuration={keyword: header[keyword] for keyword in KEYWORDS.values() if keyword in header},
        slug=_slug(probe),
        steps={step: steps.step_status(header, step) for step in steps.STEPS} if header else {},
        checks=checks,
        quick_look=look,
        quick_look_note=note,
    )


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Print the inspection; its first line says what the file is, in one line however narrow the terminal."""
    what = Text(f"{Path(inspection.file).name}: {inspection.kind}", style="bold")
    console.print(what, soft_wrap=True)
    console.print(_identity_table(inspection))
    console.print(_check_table(inspection))
    if inspection.quick_look is not None:
        console.print(*_quick_look_tables(inspection.quick_look), sep="\n")
    else:
        why = inspection.quick_look_note or "the file could not be opened"
        console.print(Text(f"No quick look: {why}"))


def _kind(path: Path, probe: ExposureProbe, ramp: Ramp | None) -> str:
    if not probe.primary:
        return kind_of_file(path)
    shapes, packed = dict(probe.shapes), False
    for name, header in ramp.headers.items() if ramp is not None else ():
        if header.get("ZIMAGE"):
            shapes[name] = tuple(header[f"ZNAXIS{axis}"] for axis in range(header["ZNAXIS"], 0, -1))
            packed = True
    kind = kind_of_headers(probe.primary, shapes, probe.where)
    if packed:
        kind += ", compressed by fpack"
    return kind if probe.fault is None else f"{kind}, incomplete ({probe.fault.check})"


def _sample(ramp: Ramp, full: bool) -> RampSample:
    integrations, groups, *frame = ramp.shape("SCI")
    planes = integrations * groups if full else _SAMPLE // max(math.prod(frame), 1)
    return RampSample(ramp, planes)


def _pixel_checks(sample: RampSample, probe: ExposureProbe) -> list[Check]:
    science, telemetry = None, None
    try:
        key = ConfigurationKey.from_header(probe.primary, probe.where)
        science = science_pixels(key)
    except BadInput:
        pass
    values, count = not_finite(sample), None
    if values is not None and values.first is not None:
        integration, group, y, x = values.first
        first = (sample.integrations[integration], sample.groups[group], y, x)
        values = dataclasses.replace(values, first=first)
    if science is not None and probe.shapes.get("SCI", ())[2:] == science.shape:
        count = unusable_pixels(sample, science)
        if "dq_init" in steps.to_run(probe.primary, persistence=False):
            telemetry = _in_file(find_lost_telemetry(sample, key), sample, probe.shapes["SCI"])
    checks = [
        finite_check(values),
        usable_check(count, int(science.sum()) if science is not None else 0),
        telemetry_check(telemetry),
    ]
    if sample.is_whole:
        return checks
    seen, of_file = sample.planes
    return [
        dataclasses.replace(check, detail=f"in {seen} of {of_file} groups: {check.detail}")
        if check.passed is not None
        else check
        for check in checks
    ]


def _in_file(telemetry: Telemetry, sample: RampSample, shape: tuple[int, ...]) -> Telemetry:
    """Return what a sample has lost, in the numbers of the file, without guesses about what lies between."""
    if sample.is_whole:
        return telemetry
    lost = [
        entry.model_copy(
            update={
                "integration": sample.integrations[entry.integration],
                "first_group": sample.groups[group],
                "last_group": sample.groups[group],
            }
        )
        for entry in telemetry.lost
        for group in range(entry.first_group, entry.last_group + 1)
    ]
    integrations, groups, rows, columns = shape
    return dataclasses.replace(telemetry, lost=lost, shape=(integrations, groups, rows, columns))


def _quick_look(sample: RampSample) -> QuickLook:
    summary = cds_summary(sample)
    integrations, groups = sample.shape("SCI")[:2]
    medians: list[list[float]] = []
    counts: dict[int, int] = {}
    has_flags = sample.has("GROUPDQ") and sample.shape("GROUPDQ") == sample.shape("SCI")
    for integration in range(integrations):
        medians.append([])
        for group in range(groups):
            plane = sample.read("SCI", integration, slice(group, group + 1))[0]
            medians[-1].append(median(plane[np.isfinite(plane)]))
            if has_flags:
                flags = sample.read("GROUPDQ", integration, slice(group, group + 1))
                for value, count in enumerate(np.bincount(flags.ravel(), minlength=256)):
                    counts[value] = counts.get(value, 0) + int(count)
    return QuickLook(
        list(sample.integrations),
        list(sample.groups),
        *sample.planes,
        medians,
        summary,
        _by_name(GroupFlag, counts),
        _pixel_flags(sample),
    )


def _pixel_flags(ramp: Ramp) -> dict[str, int]:
    if not ramp.has("PIXELDQ") or len(ramp.shape("PIXELDQ")) != 2:
        return {}
    values, counts = np.unique(ramp.read_image("PIXELDQ"), return_counts=True)
    return _by_name(PixelFlag, dict(zip(map(int, values), map(int, counts), strict=True)))


def _by_name(flags: type[IntFlag], counts: Mapping[int, int]) -> dict[str, int]:
    by_name = {
        str(flag.name): sum(count for value, count in counts.items() if value & flag) for flag in flags
    }
    return {name: count for name, count in by_name.items() if count}


def _slug(probe: ExposureProbe) -> str | None:
    try:
        return ConfigurationKey.from_header(probe.primary, probe.where).slug
    except BadInput:
        return None


def _identity_table(inspection: Inspection) -> Table:
    table = Table(title=escape(Path(inspection.file).name), show_header=False, title_justify="left")
    size = f"{inspection.size:,} bytes" if inspection.size is not None else "unreadable"
    table.add_row("file", escape(f"{inspection.file} ({size})"))
    identity = ", ".join(f"{keyword} {value}" for keyword, value in inspection.identity.items())
    table.add_row("identity", escape(identity) or "no header could be read")
    shapes = ", ".join(f"{name} {tuple(shape)}" for name, shape in inspection.shapes.items() if shape)
    table.add_row("arrays", escape(shapes) or "none could be read")
    key = ", ".join(f"{keyword} {value}" for keyword, value in inspection.configuration.items())
    table.add_row(
        "configuration", escape(inspection.slug or "incomplete") + (f"\n{escape(key)}" if key else "")
    )
    steps_done = ", ".join(f"{step} {status}" for step, status in inspection.steps.items() if status)
    table.add_row("steps", steps_done or "none done")
    return table


def _check_table(inspection: Inspection) -> Table:
    table = Table(title="Checks", title_justify="left")
    for heading in ("check", "result", "details"):
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
        table.add_row(str(look.integrations[number] + 1), f"{medians[0]:.2f}", f"{medians[-1]:.2f}", cds)
    lines: list[RenderableType] = [table]
    if look.groups_read < look.groups_of_file:
        seen = f"from {look.groups_read} of {look.groups_of_file} groups"
        lines.append(Text(f"Pixels: {seen}, spread evenly (--full reads all)", style="yellow"))
    raw, removed = look.cds.temporal_std_dn, look.cds.temporal_std_median_removed_dn
    if raw is not None and removed is not None:
        lines.append(
            Text(
                f"CDS noise over integrations, median over pixels: {raw:.2f} DN; "
                f"{removed:.2f} DN after subtraction of the median of each integration"
            )
        )
    else:
        lines.append(Text("CDS noise over integrations: requires two integrations of two groups"))
    for name, flags in (("GROUPDQ", look.group_flags), ("PIXELDQ", look.pixel_flags)):
        counts = ", ".join(f"{flag} {count}" for flag, count in flags.items())
        where = " in these groups" if name == "GROUPDQ" and look.groups_read < look.groups_of_file else ""
        lines.append(Text(f"{name} flags{where}: {counts or 'none'}"))
    return lines


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
