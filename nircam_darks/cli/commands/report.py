"""`nircam-darks report`."""

from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import typer

from nircam_darks.cli.options import stage_settings, usage


def report_command(
    source: Annotated[
        str, typer.Argument(metavar="RESULTS|STORE", help="Results folder of `run --out`, or any store.")
    ],
    form: Annotated[Literal["html", "pdf"], typer.Option("--format", help="Format of the report.")] = "html",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file; default: report.html or report.pdf in the results folder (of a bucket: here)."
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Report everything in the store, not only the last run.")
    ] = False,
) -> None:
    """Write the report again, about the last run in a results folder or about everything in a store.

    An HTML report is an index with a folder of self-contained pages, one per set; a PDF is one file with the
    same content.
    """
    # The plots take seconds to import; `--help` and a usage error do not wait for them.
    from nircam_darks.operations.store_access import impatient, open_existing
    from nircam_darks.report.record import kept, of_store
    from shared.settings.service import read_settings_file
    from shared.store.faults import store_faults

    bucket = source.startswith("s3://")
    folder = Path() if bucket else Path(source).absolute()
    if not folder.is_dir():
        raise usage(f"{source}: no such folder; give the folder of `run --out`, or s3://bucket/prefix")
    path = (out or folder / f"report.{form}").absolute()
    if path.suffix != f".{form}":
        raise usage(f"--out {out}: the name of a {form.upper()} report must end in .{form}")
    if not path.parent.is_dir():
        raise usage(f"--out {out}: no such folder: {path.parent}; create it first")
    read_settings_file()
    settings = stage_settings(store=source if bucket else folder)
    with closing(open_existing(impatient(settings))) as store:
        record = None if bucket or everything else kept(folder / "report")
        record = record or of_store(store, settings)
        with store_faults(path.parent):
            if form == "html":
                from nircam_darks.report.html import write_report

                write_report(store, record, path)
            else:
                from nircam_darks.report.pdf import write_pdf

                write_pdf(store, record, path)
    subject = "the last run" if record.scope == "run" else "everything in the store"
    typer.echo(f"report on {subject}: {path}")
