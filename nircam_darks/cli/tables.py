"""Tables on the terminal: those that end a run, and what the tables of all commands share."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from nircam_darks.report.text import count, measured, number, verdict_note
from nircam_darks.report.text import expected as expectation
from shared.products.figures import REFERENCE_FIGURES, SET_FIGURES
from shared.statistics.verdicts import Acceptance, VerdictState, overall

if TYPE_CHECKING:
    from pydantic import BaseModel

    from nircam_darks.report.summary import NoiseEntry, ReferenceEntry, Summary

_STYLES = {
    VerdictState.WITHIN: "green",
    VerdictState.ABOVE: "red",
    VerdictState.BELOW: "red",
    VerdictState.NOT_ENOUGH: "dim",
    VerdictState.NOT_COMPARED: "dim",
}


def terminal_table(summary: "Summary") -> list[RenderableType]:
    """Return what the terminal shows after a run: exposures, references, noise, what is off, failures.

    Fits 80 columns; a wider terminal wraps less.
    """
    return list(_renderables(summary))


def _renderables(summary: "Summary") -> Iterator[RenderableType]:
    yield _head(summary)
    # Imported here: it takes too long for commands that print no summary.
    from nircam_darks.report.exposure_entries import rows_of_rejections

    for title, entries in (("Rejected", summary.rejected), ("Waiting for segments", summary.waiting)):
        if entries:
            table = titled_table(title, "file", "reason")
            for name, _, reason in rows_of_rejections(entries):
                table.add_row(name, Text(reason))
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
                _reference_verdict(reference),
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
                _noise_verdict(noise),
            )
        yield table
    reasons = list(_reasons(measured_sets, short))
    if reasons:
        table = titled_table("Not within", "configuration", "figure", "measured", "verdict")
        for row in reasons:
            table.add_row(*row)
        yield table
    shown = {reason for entry in measured_sets for reason in entry.reasons}
    shown |= {entry.reason for entry in summary.rejected if entry.reason is not None}
    failures = [failure for failure in summary.failures if failure.reason not in shown]
    if failures:
        table = titled_table("Failed jobs", "service", "subject", "reason")
        for failure in failures:
            about = failure.configuration or Path(failure.subject).name
            table.add_row(failure.service, about, Text(failure.reason))
        yield table


def _reasons(
    entries: list["ReferenceEntry | NoiseEntry"], short: dict[str, str]
) -> Iterator[tuple[str, str, str, Text]]:
    """Yield the figures that are not within: the value, what was compared, against what, or why nothing."""
    for entry in entries:
        for row in (*REFERENCE_FIGURES, *SET_FIGURES):
            figure = entry.figures.get(row.name)
            if figure is None or row.chapter != "verdicts" or figure.comparison.state == VerdictState.WITHIN:
                continue
            value = measured(figure.value, figure.error)
            aim = expectation(figure.expected, figure.expected_sigma)
            against = f", expected {aim}" if figure.expected is not None else ""
            note = verdict_note(figure)
            yield (
                short[entry.configuration],
                row.label,
                value if figure.value is None else f"{value} {row.unit}",
                Text(
                    f"{figure.comparison.short}{against}{f': {note}' if note else ''}",
                    style=_STYLES[figure.comparison.state],
                ),
            )


def _head(summary: "Summary") -> Text:
    rejected = len(summary.rejected)
    head = Text(f"{count(summary.ingested, 'exposure')} ingested, ")
    head.append(f"{rejected} rejected", style="bold red" if rejected else "")
    if waiting := len({entry.id for entry in summary.waiting}):
        head.append(f", {waiting} waiting for segments", style="bold red")
    unneeded = sum(entry.status == "not needed" for entry in summary.exposures)
    if unneeded:
        head.append(f"; {count(unneeded, 'file')} not needed, as another file of the exposure counts")
    if summary.passed_over:
        # astropy, which it needs, takes too long for commands that print no summary.
        from nircam_darks.operations.find_exposures import PassedOver

        head.append(f"\nPassed over {PassedOver(Counter(summary.passed_over))}", style="dim")
    for remark in summary.set_remarks:
        head.append(f"\n{remark}", style="yellow")
    if summary.simulated:
        head.append("\nSIMULATED DATA: no number here is a flight result", style="bold yellow")
    return head


def damaged_manifest(address: str) -> Text:
    """Return the line about a manifest that cannot be read."""
    return Text(
        f"Damaged manifest: {address}; announce its exposure or set again, and the product is made anew",
        style="red",
    )


def short_names(configurations: set[str]) -> dict[str, str]:
    """Return each configuration's name without the digest at its end, unless two would then be the same."""
    cut = {slug: slug.rpartition("_")[0] or slug for slug in configurations}
    return {slug: name if list(cut.values()).count(name) == 1 else slug for slug, name in cut.items()}


def titled_table(title: str, *columns: str) -> Table:
    """Return an empty table in the style of all tables of this program."""
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


def _acceptance(reference: "ReferenceEntry") -> Text:
    if reference.path is None:
        return Text("–", style="dim")
    if reference.accepted is None:
        return Text("not verified", style="dim")
    if reference.sign_off is not None:
        return Text(str(reference.sign_off), style="green")
    undecided = () if reference.verification_outcome is None else reference.verification_outcome.undecided
    if reference.accepted:
        blind = f"; not enough data for {', '.join(undecided)}" if undecided else ""
        return Text(f"accepted{blind}", style="green")
    held = reference.acceptance == Acceptance.HELD
    return Text(reference.verification or "rejected", style="yellow" if held else "red")


def _reference_verdict(reference: "ReferenceEntry") -> Text:
    """Return the verdict on a dark current, without its numbers."""
    if reference.path is None or reference.comparison is None:
        return Text(reference.verdict, style="dim")
    return Text(reference.comparison.short, style=_STYLES[reference.comparison.state])


def _noise_verdict(noise: "NoiseEntry") -> Text:
    """Return the verdicts on the figures of a set that are not within their expectations."""
    if noise.set_id is None or not noise.verdicts:
        return Text(noise.verdict, style="dim")
    others = {name: each for name, each in noise.verdicts.items() if each.state != VerdictState.WITHIN}
    if not others:
        return Text("within", style="green")
    return Text(overall(others), style="red" if any(each.is_off for each in others.values()) else "dim")


def print_answer(answer: "BaseModel", tables: Iterable[RenderableType], as_json: bool) -> None:
    """Print what a command was asked: as JSON for programs, or as tables, whose lines of text are not cut.

    Parameters
    ----------
    answer : BaseModel
    tables : iterable of renderables
        The same answer for people; not looked at with `as_json`.
    as_json : bool
    """
    if as_json:
        typer.echo(answer.model_dump_json(indent=1))
        return
    console = Console()
    for renderable in tables:
        console.print(renderable, soft_wrap=isinstance(renderable, Text))
