"""`nircam-darks drain`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from services.cli_options import AsJson, usage


def drain_command(
    resume: Annotated[
        bool, typer.Option("--resume", help="Let the held announcements, and those that come, in again.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait at most; default: as long as it takes.")
    ] = None,
    idle: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds without work after which all is done; the broker's figures age."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold new announcements, and wait until the services have done what they have.

    Exit code 3 if that took longer than --timeout. Announcements stay held until `drain --resume`.
    """
    from services.operations import drain as operation
    from shared.broker.rabbitmq.settings import broker_settings

    settings = broker_settings()
    idle = operation.IDLE_SECONDS if idle is None else idle
    if resume:
        if timeout is not None:
            raise usage("--timeout is of no use with --resume")
        moved = operation.resume(settings)
        text = f"announcements come in again; {moved} that were held are in ingest"
        typer.echo(json.dumps({"resumed": True, "moved": moved}, indent=1) if as_json else text)
        return
    if timeout is not None and timeout < idle:
        raise usage(
            f"--timeout {timeout:g}: it takes at least the {idle:g} s of --idle to see that all is done"
        )
    outcome = operation.drain(settings, lambda line: typer.echo(line, err=True), timeout, idle)
    typer.echo(json.dumps(asdict(outcome), indent=1) if as_json else outcome.text)
    raise typer.Exit(0 if outcome.drained else 3)
