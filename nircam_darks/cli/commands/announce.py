"""`nircam-darks announce`."""

import json
from contextlib import closing
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from nircam_darks.cli.options import AsJson, select_files, stage_settings, usage


def announce_command(
    exposures: Annotated[
        list[str],
        typer.Argument(
            help="Dark exposures: files, folders that are searched for them, or addresses (s3://...) for the "
            "services."
        ),
    ],
    complete: Annotated[
        bool, typer.Option("--complete", help="Announce these as the only exposures of their sets.")
    ] = False,
    uri_prefix: Annotated[
        str | None,
        typer.Option(help="Where the services find these files, such as s3://bucket/darks/."),
    ] = None,
    epoch_gap_days: Annotated[
        float | None,
        typer.Option(
            min=0,
            show_default="that of the services",
            envvar="DARKS_EPOCH_GAP_DAYS",
            help="With --complete: days without an exposure after which a new set begins.",
        ),
    ] = None,
    truncate: Annotated[
        int | None,
        typer.Option(
            min=2,
            envvar="DARKS_TRUNCATE",
            help="As the services have it: longer exposures belong to the sets of this many groups.",
        ),
    ] = None,
    derive_keywords: Annotated[
        bool,
        typer.Option(
            "--derive-keywords",
            envvar="DARKS_DERIVE_KEYWORDS",
            help="As the services have it: keywords that a header lacks are derived.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Announce exposures to the services, through the broker that DARKS_BROKER_URL names."""
    from nircam_darks.operations.announce import announce, announce_addresses
    from nircam_darks.operations.set_remarks import odd_lengths
    from shared.broker.opening import open_services_broker
    from shared.settings.stage import StageSettings

    if epoch_gap_days is None:
        epoch_gap_days = StageSettings.model_fields["epoch_gap_days"].default
    addresses = [name for name in exposures if "://" in name]
    files = [Path(name) for name in exposures if "://" not in name]
    if addresses and complete:
        raise usage(
            f"--complete needs files, whose headers tell which set they belong to; {addresses[0]} is no file"
        )
    if addresses and uri_prefix is not None:
        raise usage(f"--uri-prefix is for files; {addresses[0]} is already an address")
    # The sets are those that the services will form: by the configuration after what they change.
    settings = stage_settings(store=Path.cwd(), truncate=truncate, derive_keywords=derive_keywords)
    selection = select_files(files, settings)
    with closing(open_services_broker()) as broker:
        for announced in chain(
            announce(selection.candidates, broker, complete, epoch_gap_days, uri_prefix),
            announce_addresses(addresses, broker),
        ):
            text = f"announced {announced.exposure_id} at {announced.uri}"
            typer.echo(json.dumps(asdict(announced)) if as_json else text)
    # On standard error: what is printed is for scripts.
    for unneeded in selection.not_needed:
        typer.echo(f"{unneeded.candidate.path}: {unneeded.reason}", err=True)
    if selection.passed_over:
        typer.echo(f"passed over {selection.passed_over}", err=True)
    for sentence in odd_lengths((each.key, each.path.name) for each in selection.candidates):
        typer.echo(sentence, err=True)
