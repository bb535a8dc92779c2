"""`nircam-darks announce`."""

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from services.cli_options import AsJson, exposure_files


def announce_command(
    files: Annotated[list[Path], typer.Argument(help="Dark exposures, or folders of them (*.fits).")],
    complete: Annotated[
        bool, typer.Option("--complete", help="These are all exposures of their sets.")
    ] = False,
    uri_prefix: Annotated[
        str | None, typer.Option(help="Where the services find them, such as s3://bucket/darks/.")
    ] = None,
    epoch_gap_days: Annotated[
        float | None,
        typer.Option(
            min=0,
            show_default="as the services",
            envvar="DARKS_EPOCH_GAP_DAYS",
            help="With --complete: a longer gap begins a new set.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Announce exposures to the services; DARKS_BROKER_URL says where."""
    from services.operations.announce import announce
    from services.schedule import peek
    from shared.broker.opening import open_broker
    from shared.settings import StageSettings

    if epoch_gap_days is None:
        epoch_gap_days = StageSettings.model_fields["epoch_gap_days"].default
    candidates = [peek(path) for path in exposure_files(files)]
    with closing(open_broker()) as broker:
        for announced in announce(candidates, broker, complete, epoch_gap_days, uri_prefix):
            said = asdict(announced)
            typer.echo(
                json.dumps(said) if as_json else f"announced {announced.exposure_id} at {announced.uri}"
            )
