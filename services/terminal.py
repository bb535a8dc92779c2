"""The tables that end a run on the terminal."""

from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from services.report.wording import count, measured, number, short_verdict, tone
from services.report.wording import expected as expectation
from services.summary_model import NoiseEntry, ReferenceEntry, Summary


def terminal_table(summary: Summary) -> list[RenderableType]:
    """Return what a person at the terminal is told: what went in, what was refused, what came out.

    Fits 80 columns; a wider terminal wraps less.
    """
    return list(_renderables(summary))


def _renderables(summary: Summary) -> Iterator[RenderableType]:
    yield _head(summary)
    rejected = [entry for entry in summary.exposures if entry.status == "rejected"]
    if rejected:
        table = titled_table("Rejected", "file", "why")
        for entry in rejected:
            name = Path(entry.file).name
            table.add_row(name, Text((entry.reason or "").removeprefix(f"{name}: ")))
        yield table
    measured_sets: list[ReferenceEntry | NoiseEntry] = [*summary.references, *summary.noise]
    short = short_names({entry.configuration for entry in measured_sets})
    if summary.references:
        titles = ("configuration", "e-/1000 s", "expected", "verdict", "reference")
        table = titled_table("Dark references", *titles)
        for reference in summary.references:
            table.add_row(
                short[reference.configuration],
                measured(reference.dark_current_e_per_ks, reference.dark_current_error_e_per_ks),
                expectation(reference.expected_e_per_ks, reference.expected_sigma_e_per_ks),
                _verdict(reference.verdict),
                _acceptance(reference),
            )
        yield table
    if summary.noise:
        table = titled_table(
            "Noise (e-)", "configuration", "ramps", "CDS", "spatial", "temporal", "jumps %", "verdict"
        )
        for noise in summary.noise:
            table.add_row(
                short[noise.configuration],
                str(noise.ramps),
                number(noise.cds_noise_e, 4),
                number(noise.spatial_effective_noise_e),
                number(noise.temporal_effective_noise_e),
                number(noise.jump_pixel_percent),
                _verdict(noise.verdict),
            )
        yield table
    told = " ".join([entry.verdict for entry in measured_sets] + [entry.reason or "" for entry in rejected])
    untold = [failure for failure in summary.failures if failure.reason not in told]
    if untold:
        table = titled_table("Work that failed", "service", "about", "why")
        for failure in untold:
            about = failure.configuration or Path(failure.subject).name
            table.add_row(failure.service, about, Text(failure.reason))
        yield table


def _head(summary: Summary) -> Text:
    rejected = sum(entry.status == "rejected" for entry in summary.exposures)
    head = Text(f"{count(len(summary.exposures) - rejected, 'exposure')} ingested, ")
    head.append(f"{rejected} rejected", style="bold red" if rejected else "")
    if summary.simulated:
        head.append("\nSIMULATED DATA: no number here is a flight result", style="bold yellow")
    return head


def short_names(configurations: set[str]) -> dict[str, str]:
    """Return names without the digest at their end, where the rest tells them apart."""
    cut = {slug: slug.rpartition("_")[0] or slug for slug in configurations}
    return {slug: name if list(cut.values()).count(name) == 1 else slug for slug, name in cut.items()}


def titled_table(title: str, *columns: str) -> Table:
    """Return an empty table in the one style of this program's tables."""
    table = Table(
        title=f"\n{title}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _acceptance(reference: ReferenceEntry) -> Text:
    if reference.path is None:
        return Text("–", style="dim")
    if reference.accepted is None:
        return Text("not verified", style="dim")
    if reference.accepted:
        return Text("accepted", style="green")
    return Text(reference.verification or "rejected", style="red")


def _verdict(verdict: str) -> Text:
    """Return a verdict without its numbers; of one on several figures only the parts that are not within."""
    if verdict.startswith(("not built", "not measured")):
        return Text(verdict, style="dim")
    parts = [short_verdict(part) for part in verdict.split("; ")]
    telling = [part for part in parts if not part.endswith("within")]
    if not telling:
        return Text("within", style="green")
    return Text("; ".join(telling), style="red" if any(tone(part) == "off" for part in telling) else "dim")
