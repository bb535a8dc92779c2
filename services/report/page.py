"""The report: one HTML file with everything in it."""

from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from services.report.collect import RunProducts
from services.report.exposure_sets import exposure_sets
from services.report.sections import section
from services.report.wording import count, listed, seconds, when
from services.summary import RunResult, Summary, write_atomically
from shared.store.base import Store


def write_report(store: Store, summary: Summary, run: RunResult, path: Path) -> None:
    """Write the report of a run, all at once.

    Parameters
    ----------
    store : Store
        Holds the products that `run` names.
    summary : Summary
        What `services.summary.build_summary` made of the same run.
    run : RunResult
    path : Path
        The HTML file; one that is there already is replaced.
    """
    write_atomically(path, render(store, summary, run))


def render(store: Store, summary: Summary, run: RunResult) -> str:
    """Return the report as HTML that needs nothing beside it: no script, no address, no file."""
    sets = exposure_sets(RunProducts.of(store, run.manifests))
    environment = Environment(
        loader=PackageLoader("services.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    settings = run.settings
    facts = [
        ("Files", f"{len(run.files)} given, {_ingested(summary)} ingested"),
        ("Mode", summary.mode),
        ("Integrations asked of a set", f"at least {settings.min_integrations}"),
        ("Took", seconds((run.finished - run.started).total_seconds())),
    ]
    if settings.overrides:
        overrides = ", ".join(f"{name}={path.name}" for name, path in sorted(settings.overrides.items()))
        facts.append(("Reference files overridden", overrides))
    return environment.get_template("report.html.j2").render(
        summary=summary,
        rejected=[entry for entry in summary.exposures if entry.status == "rejected"],
        ingested=_ingested(summary),
        sections=[section(store, summary, one, f"set-{n}") for n, one in enumerate(sets, start=1)],
        facts=facts + listed(summary.versions),
        finished=when(run.finished),
        count=count,
        name=lambda file: Path(file).name,
        # The file stands in the column beside it.
        reason=lambda entry: (entry.reason or "").removeprefix(f"{Path(entry.file).name}: "),
        style=resources.files("services.report").joinpath("templates/report.css").read_text("utf-8"),
    )


def _ingested(summary: Summary) -> int:
    return sum(entry.status == "ingested" for entry in summary.exposures)
