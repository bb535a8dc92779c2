"""The index of a report: the verdicts of all sets side by side, and what is true of all of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from services.report import tables
from services.report.chapters import set_entry
from services.report.content import Chapter, Facts, Index, SetEntry, Table, Words, rows
from services.report.exposure_sets import ExposureSet
from services.report.record import ReportRecord
from services.report.store_wide import coverage_chapter, stability_chapter
from services.report.wording import count, listed, seconds, span, when
from services.summary_model import ExposureEntry, Summary

#: How to read the figures: what is said, and what it is said of.
READING = (
    Words(
        "is the slope of the mean ramp of all integrations times the gain, its median over science pixels, "
        "hot ones left out.",
        "The dark current",
    ),
    Words("is the scatter of the difference of two successive groups.", "CDS noise"),
    Words(
        "is the scatter of the slope fitted to a whole ramp, times the time the ramp lasts: spatial from "
        "pixel to pixel within a ramp, temporal from ramp to ramp in a pixel, for which at least 10 ramps "
        "are needed. Groups after a jump are left out of every noise figure.",
        "Effective noise",
    ),
    Words("was flagged JUMP_DET at least once.", "A pixel with a jump"),
    Words(
        "says whether a value lies within the expected range, by how many sigma it is off, or that there is "
        "not enough data to say. Each value is followed by its 1-sigma error. Expected values are those of "
        "the NRC-09 notebook for the detector's channel; the jumps are brought to the length of these ramps, "
        "effective noise is held against the table only for ramps of 1000 s.",
        "A verdict",
    ),
    Words(
        "lies in the store beside its manifest, which names its inputs, parameters, versions and checksums. "
        "The same numbers are in summary.json.",
        "Every product this report was made from",
    ),
)


def index(record: ReportRecord, sets: Sequence[ExposureSet], pages: str = "") -> Index:
    """Return the index of a report on some sets, whose pages lie in the folder `pages`; nothing is drawn."""
    summary = record.summary
    entries = [set_entry(summary, one) for one in sets]
    ingested = sum(entry.status == "ingested" for entry in summary.exposures)
    rejected = [entry for entry in summary.exposures if entry.status == "rejected"]
    refused = f", {len(rejected)} rejected" if rejected else ""
    return Index(
        lead=f"{count(ingested, 'exposure')} in {count(len(sets), 'set')} ingested{refused}. "
        f"{summary.mode.capitalize()} mode. {when(summary.finished)}.",
        finished=when(summary.finished),
        version=summary.versions["nircam-darks"],
        warning=warning(summary, entries),
        figures=[figure.name for figure in entries[0].figures] if entries else tables.HEADLINES,
        sets=entries,
        chapters=list(_chapters(record, rejected, ingested, pages)),
    )


def warning(summary: Summary, entries: Sequence[SetEntry]) -> str:
    """Return what the banner says of simulated data; nothing if there is none."""
    if not summary.simulated:
        return ""
    true_ones = [one.title for one in entries if not one.simulated]
    besides = f", except those of {'; '.join(true_ones)}" if true_ones else ""
    return f"none of these numbers is a flight result{besides}"


def _chapters(
    record: ReportRecord, rejected: Sequence[ExposureEntry], ingested: int, pages: str
) -> Iterator[Chapter]:
    summary = record.summary
    if rejected:
        lines = [(Path(one.file).name, one.check or "–", _reason(one)) for one in rejected]
        table = Table(["File", "Check", "Why"], rows(*lines, files=(0,)), widths=(0.34, 0.14, 0.52))
        yield Chapter("Rejected exposures", [table])
    if summary.failures:
        failed = [(one.service, one.configuration or one.subject, one.reason) for one in summary.failures]
        table = Table(["Service", "About", "Why"], rows(*failed, files=(1,)), widths=(0.14, 0.34, 0.52))
        yield Chapter("Work that failed", [table])
    if record.stability.tested:
        yield stability_chapter(record.stability, pages)
    yield Chapter("What was run", [Facts(_facts(record, ingested))])
    yield coverage_chapter(record.coverage)
    yield Chapter("How to read this", READING)


def _facts(record: ReportRecord, ingested: int) -> list[tuple[str, str]]:
    summary = record.summary
    if record.scope == "run":
        took = ("Took", seconds((summary.finished - summary.started).total_seconds()))
        files = ("Files", f"{len(summary.exposures)} given, {ingested} ingested")
    else:
        took = ("Products made", span(summary.started, summary.finished))
        files = (
            "Exposures in the store",
            f"{ingested} ingested, {len(summary.exposures) - ingested} rejected",
        )
    facts = [
        files,
        ("Mode", summary.mode),
        ("Integrations asked of a set", f"at least {record.min_integrations}"),
        took,
    ]
    if record.overrides:
        overrides = ", ".join(f"{name}={file}" for name, file in record.overrides.items())
        facts.append(("Reference files overridden", overrides))
    return facts + listed(summary.versions)


def _reason(entry: ExposureEntry) -> str:
    """Return why an exposure was rejected; its file stands in the column beside it."""
    return (entry.reason or "").removeprefix(f"{Path(entry.file).name}: ")
