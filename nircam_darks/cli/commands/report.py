"""`nircam-darks report`."""

from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import typer

from services.cli_options import stage_settings, usage


def report_command(
    source: Annotated[
        str, typer.Argument(metavar="RESULTS|STORE", help="Folder that `run --out` named, or any store.")
    ],
    form: Annotated[Literal["html", "pdf"], typer.Option("--format", help="What to write.")] = "html",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file; default: report.html or report.pdf in that folder, or here for a bucket."
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Report all that the store holds, not only what was run there last.")
    ] = False,
) -> None:
    """Write the report again: of the run whose results lie there, else of all that a store holds.

    HTML is an index with a folder of pages beside it, one for each set and each whole in itself; PDF is
    one file with the same content.
    """
    # The plots take seconds to import; `--help` and a usage error do not wait for them.
    from services.operations.setup import impatient, open_existing
    from services.report.record import kept, of_store
    from shared.service_settings import read_settings_file
    from shared.store.faults import store_faults

    bucket = source.startswith("s3://")
    folder = Path() if bucket else Path(source).absolute()
    if not folder.is_dir():
        raise usage(f"{source}: there is no such folder; give what `run --out` named, or s3://bucket/prefix")
    path = (out or folder / f"report.{form}").absolute()
    if path.suffix != f".{form}":
        raise usage(f"--out {out}: a report as {form.upper()} is a file that ends in .{form}")
    if not path.parent.is_dir():
        raise usage(f"--out {out}: there is no folder {path.parent}; make it first")
    read_settings_file()
    settings = stage_settings(store=source if bucket else folder)
    with closing(open_existing(impatient(settings))) as store:
        record = None if bucket or everything else kept(folder / "report")
        record = record or of_store(store, settings)
        with store_faults(path.parent):
            if form == "html":
                from services.report.page import write_report

                write_report(store, record, path)
            else:
                from services.report.pdf import write_pdf

                write_pdf(store, record, path)
    of = "of the last run there" if record.scope == "run" else "of all that the store holds"
    typer.echo(f"report {of}: {path}")
