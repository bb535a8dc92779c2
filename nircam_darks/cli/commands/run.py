"""`nircam-darks run`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from nircam_darks.cli.options import (
    FieldOption,
    ResultsFolder,
    binary_size,
    earlier_reference,
    field_options,
    override,
    pixel_place,
    select_files,
    size_in_bytes,
    stage_settings,
    step_parameter,
)
from shared.settings.stage import StageSettings

_COMBINE, _FILE = "Building a dark reference", "Header of the reference file"
_EXPOSURES = "Choosing exposures"
_REPORT, _CRDS, _MACHINE = "Noise report", "CRDS references and steps", "Memory and processes"

#: The settings that `run` takes as options.
RUN_OPTIONS = (
    FieldOption("use_problem_data", _EXPOSURES),
    FieldOption("derive_keywords", _EXPOSURES),
    FieldOption("truncate", _EXPOSURES, metavar="N"),
    FieldOption("mode", _COMBINE),
    FieldOption("min_integrations", _COMBINE),
    FieldOption("min_valid", _COMBINE, ("--min-valid", "--min-measurements")),
    FieldOption("persistence_time", _COMBINE),
    FieldOption(
        "previous_references", _COMBINE, ("--compare-with",), metavar="FILE", parser=earlier_reference
    ),
    FieldOption("author", _FILE),
    FieldOption("descrip", _FILE),
    FieldOption("pedigree", _FILE),
    FieldOption("useafter", _FILE),
    FieldOption("emulate", _REPORT, metavar="READPATT"),
    FieldOption("pixels", _REPORT, ("--pixel",), metavar="X,Y", parser=pixel_place),
    FieldOption("overrides", _CRDS, ("--override",), metavar="REFTYPE=PATH", parser=override),
    FieldOption("steps", _CRDS, ("--step",), metavar="STEP.PARAMETER=VALUE", parser=step_parameter),
    FieldOption("max_memory", _MACHINE, metavar="SIZE", parser=size_in_bytes, shown=binary_size),
    FieldOption("max_fullframe_groups", _MACHINE, ("--max-fullframe-groups", "--max-equivalent-groups")),
)


@field_options(StageSettings, RUN_OPTIONS)
def run_command(
    files: Annotated[
        list[Path],
        typer.Argument(help="Dark exposures, or folders that are searched for them, at any depth."),
    ],
    out: ResultsFolder,
    values: dict[str, Any],
    jobs: Annotated[
        int, typer.Option(min=1, help="Number of worker processes.", rich_help_panel=_MACHINE)
    ] = max(1, os.cpu_count() or 1),
    crds_path: Annotated[
        Path | None,
        typer.Option(
            help="CRDS cache; by default the one beside simulated exposures, otherwise CRDS_PATH.",
            rich_help_panel=_CRDS,
        ),
    ] = None,
    crds_context: Annotated[
        str | None,
        typer.Option(
            help="CRDS context; by default that of a simulated cache, otherwise CRDS_CONTEXT.",
            rich_help_panel=_CRDS,
        ),
    ] = None,
) -> None:
    """Turn dark exposures into dark reference files and a noise report."""
    # The pipeline takes seconds to import; `--help` and a usage error do not wait for it.
    from rich.console import Console

    from nircam_darks.cli.progress import StageBars
    from nircam_darks.cli.run.crds_choice import choose_crds
    from nircam_darks.cli.run.local_run import run_local
    from nircam_darks.cli.tables import terminal_table
    from nircam_darks.operations.set_remarks import odd_lengths
    from services.ingest.prefetch import fetch_references
    from services.ingest.step_parameters import check_step_parameters

    out = out.absolute()
    settings = stage_settings(RUN_OPTIONS, store=out, **values)
    selection = select_files(files, settings)
    candidates = selection.candidates
    console = Console()
    for sentence in odd_lengths((each.key, each.path.name) for each in candidates):
        console.print(sentence, soft_wrap=True, highlight=False)
    crds = choose_crds(candidates, crds_path, crds_context)
    for line in crds.lines:
        console.print(line, soft_wrap=True, highlight=False)
    for name in crds.ignored:
        os.environ.pop(name, None)
    check_step_parameters(settings.steps)
    exposures = [(each.configuration, each.path) for each in candidates if each.configuration is not None]
    references = fetch_references(exposures, settings, crds.environment)
    for reason in references.missing.values():
        console.print(f"left out: {reason}", soft_wrap=True, highlight=False)
    with StageBars(console, len(candidates)) as bars:
        outcome = run_local(
            candidates, out, settings, jobs, crds.environment, bars, selection, references.missing
        )
    for renderable in terminal_table(outcome.summary):
        console.print(renderable)
    console.print(f"summary: {outcome.summary_path}", soft_wrap=True, highlight=False)
    console.print(f"report:  {outcome.report_path}", soft_wrap=True, highlight=False)
    raise typer.Exit(0 if outcome.summary.all_well else 3)
