"""The index of a report: the verdicts of all sets side by side, and what they have in common."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nircam_darks.operations.find_exposures import PassedOver
from nircam_darks.report.content import Chapter, Index, Paragraph, Properties, SetEntry, Table, text_rows
from nircam_darks.report.exposure_entries import ExposureEntry, rows_of_rejections
from nircam_darks.report.exposure_sets import ExposureSet
from nircam_darks.report.record import ReportRecord
from nircam_darks.report.set_page import set_entry
from nircam_darks.report.store_wide import STABILITY, coverage_chapter, stability_chapter
from nircam_darks.report.summary import Summary
from nircam_darks.report.tables import set as tables
from nircam_darks.report.text import count, listed, seconds, span, when

#: How the figures are defined and how to read them.
READING = (
    Paragraph(
        "is the slope of the mean ramp of all integrations, times the gain: its median over the science "
        "pixels, hot pixels excluded.",
        "The dark current",
    ),
    Paragraph("is the scatter of the difference of two successive groups.", "CDS noise"),
    Paragraph(
        "is the scatter of the slope fitted to a whole ramp, times the duration of the ramp: spatial noise "
        "from pixel to pixel within a ramp, temporal noise from ramp to ramp in a pixel, which requires at "
        "least 10 ramps. Groups after a jump are excluded from every noise figure.",
        "Effective noise",
    ),
    Paragraph("was flagged JUMP_DET at least once.", "A pixel with a jump"),
    Paragraph(
        "says whether a value lies within the expected range, by how many sigma it is off, or that there are "
        "not enough data to tell. Every value is given with its 1-sigma error. Expected values are those of "
        "the NRC-09 notebook for the detector's channel. The expected number of jumps is scaled to the "
        "duration of these ramps; effective noise is compared with the table only for ramps of 1000 s.",
        "A verdict",
    ),
    Paragraph(
        "is in the store beside its manifest, which records its inputs, parameters, versions and checksums. "
        "The same numbers are in summary.json.",
        "Every product behind this report",
    ),
)


def index(record: ReportRecord, sets: Sequence[ExposureSet], address: Callable[[str], str]) -> Index:
    """Return the index of a report; nothing is drawn.

    Parameters
    ----------
    record : ReportRecord
    sets : sequence of ExposureSet
    address : callable
        Takes the name of a page and returns the link to it.
    """
    summary = record.summary
    entries = [set_entry(each) for each in sets]
    ingested, rejected, waiting = summary.ingested, summary.rejected, summary.waiting
    refused = f", {len(rejected)} rejected" if rejected else ""
    refused += f", {len({entry.id for entry in waiting})} waiting for segments" if waiting else ""
    return Index(
        lead=f"{count(ingested, 'exposure')} in {count(len(sets), 'set')} ingested{refused}. "
        f"{summary.mode.capitalize()} mode. {when(summary.finished)}.",
        finished=when(summary.finished),
        version=summary.versions["nircam-darks"],
        warning=warning(summary, entries),
        figures=[figure.name for figure in entries[0].figures] if entries else tables.HEADLINES,
        sets=entries,
        chapters=list(_chapters(record, rejected, waiting, ingested, address)),
    )


def warning(summary: Summary, entries: Sequence[SetEntry]) -> str:
    """Return the warning about simulated data in the banner; empty if there are none."""
    if not summary.simulated:
        return ""
    flight = [entry.title for entry in entries if not entry.simulated]
    exception = f", except those of {'; '.join(flight)}" if flight else ""
    return f"none of these numbers is a flight result{exception}"


def _chapters(
    record: ReportRecord,
    rejected: Sequence[ExposureEntry],
    waiting: Sequence[ExposureEntry],
    ingested: int,
    address: Callable[[str], str],
) -> Iterator[Chapter]:
    summary = record.summary
    if rejected:
        lines = rows_of_rejections(rejected)
        table = Table(
            ["File", "Failed check", "Reason"], text_rows(*lines, files=(0,)), widths=(0.34, 0.14, 0.52)
        )
        yield Chapter("Rejected exposures", [table])
    if waiting:
        segments = [(Path(entry.file).name, _reason(entry)) for entry in waiting]
        table = Table(["File", "What it waits for"], text_rows(*segments, files=(0,)), widths=(0.4, 0.6))
        yield Chapter("Waiting for segments", [table])
    if summary.set_remarks:
        remarks = [Paragraph(f"{remark}.", weight="missing") for remark in summary.set_remarks]
        yield Chapter("Exposures that form no common set", remarks)
    if summary.failures:
        failed = [
            (failure.service, failure.configuration or failure.subject, failure.reason)
            for failure in summary.failures
        ]
        table = Table(
            ["Service", "Work on", "Reason"], text_rows(*failed, files=(1,)), widths=(0.14, 0.34, 0.52)
        )
        yield Chapter("Failed work", [table])
    if record.stability.tested:
        yield stability_chapter(record.stability, address(STABILITY))
    yield Chapter("Run", [Properties(_properties(record, ingested))])
    yield coverage_chapter(record.coverage)
    yield Chapter("How to read this", READING)


def _properties(record: ReportRecord, ingested: int) -> list[tuple[str, str]]:
    summary = record.summary
    if record.scope == "run":
        took = ("Duration", seconds((summary.finished - summary.started).total_seconds()))
        passed_over = PassedOver(Counter(summary.passed_over))
        unneeded = sum(entry.status == "not needed" for entry in summary.exposures)
        files = (
            "Files",
            f"{len(summary.exposures)} given, {count(ingested, 'exposure')} ingested"
            + (f", {count(unneeded, 'file')} not needed" if unneeded else "")
            + (f"; passed over {passed_over}" if passed_over else ""),
        )
    else:
        took = ("Products made", span(summary.started, summary.finished))
        files = (
            "Exposures in the store",
            f"{ingested} ingested, {len(summary.exposures) - ingested} rejected",
        )
    properties = [
        files,
        ("Mode", summary.mode),
        ("Integrations required per set", f"at least {record.min_integrations}"),
        took,
    ]
    if record.overrides:
        overrides = ", ".join(f"{name}={file}" for name, file in record.overrides.items())
        properties.append(("Reference files overridden", overrides))
    return properties + listed(summary.versions)


def _reason(entry: ExposureEntry) -> str:
    """Return why an exposure was rejected, without its file, which has a column of its own."""
    return (entry.reason or "").removeprefix(f"{Path(entry.file).name}: ")
