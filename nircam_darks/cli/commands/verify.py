"""`nircam-darks verify`."""

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nircam_darks.cli.options import AsJson, stage_settings, usage
from nircam_darks.report.text import count


def verify_command(
    source: Annotated[
        str, typer.Argument(metavar="RESULTS|STORE", help="Results folder of `run --out`, or any store.")
    ],
    as_json: AsJson = False,
) -> None:
    """Read everything in a store, and compare it with what the manifests say was written.

    Of a damaged ramp it says which rows of which groups. What no manifest names is listed too: leftovers of
    killed jobs, and, while services run, what they are just making.

    Exit code 3 if anything is damaged or missing. Leftovers alone are no damage.
    """
    from rich.console import Console
    from rich.progress import FileSizeColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from nircam_darks.operations.store_access import impatient, open_existing
    from nircam_darks.operations.verify import VerifiedStore, verify_store
    from shared.settings.service import read_settings_file

    bucket = source.startswith("s3://")
    folder = Path() if bucket else Path(source).absolute()
    if not folder.is_dir():
        raise usage(f"{source}: no such folder; give the folder of `run --out`, or s3://bucket/prefix")
    read_settings_file()
    settings = stage_settings(store=source if bucket else folder)
    result = VerifiedStore()
    columns = (SpinnerColumn(), TextColumn("reading"), FileSizeColumn(), TimeElapsedColumn())
    with (
        closing(open_existing(impatient(settings))) as store,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        task = progress.add_task("reading", total=None)
        for fault in verify_store(store, result, lambda size: progress.advance(task, size)):
            if as_json:
                typer.echo(json.dumps(asdict(fault)))
            else:
                typer.echo(f"{fault.kind}: {fault.key}: {fault.detail}")
    if as_json:
        typer.echo(json.dumps({"summary": asdict(result)}))
    else:
        typer.echo(
            f"{count(result.products, 'product')}, {count(result.objects, 'object')}, "
            f"{result.bytes_read} bytes read: {result.damaged} damaged, {result.orphans} left over"
        )
        if result.without_digests:
            typer.echo(f"{count(result.without_digests, 'ramp')} without digests: made by an earlier version")
    raise typer.Exit(3 if result.damaged else 0)
