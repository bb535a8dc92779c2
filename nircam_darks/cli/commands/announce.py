"""`nircam-darks announce`."""

import json
from contextlib import closing
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from services.cli_options import AsJson, exposure_files, usage


def announce_command(
    exposures: Annotated[
        list[str],
        typer.Argument(
            help="Dark exposures: files, folders of them (*.fits), or addresses that the services see (s3://...)."
        ),
    ],
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
    from services.operations.announce import announce, announce_addresses
    from services.schedule import peek
    from shared.broker.opening import open_broker
    from shared.settings import StageSettings

    if epoch_gap_days is None:
        epoch_gap_days = StageSettings.model_fields["epoch_gap_days"].default
    addresses = [name for name in exposures if "://" in name]
    files = [Path(name) for name in exposures if "://" not in name]
    if addresses and complete:
        raise usage(
            f"--complete needs files, whose headers say which belong together; {addresses[0]} is none"
        )
    if addresses and uri_prefix is not None:
        raise usage(f"--uri-prefix is for files; {addresses[0]} says itself where it is")
    candidates = [peek(path) for path in exposure_files(files)]
    with closing(open_broker()) as broker:
        for announced in chain(
            announce(candidates, broker, complete, epoch_gap_days, uri_prefix),
            announce_addresses(addresses, broker),
        ):
            said = asdict(announced)
            typer.echo(
                json.dumps(said) if as_json else f"announced {announced.exposure_id} at {announced.uri}"
            )
