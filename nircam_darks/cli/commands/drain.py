"""`nircam-darks drain`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from nircam_darks.cli.options import AsJson, usage
from nircam_darks.report.text import count


def drain_command(
    resume: Annotated[
        bool, typer.Option("--resume", help="Let held and new announcements through again.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Maximum wait; default: no limit.")
    ] = None,
    idle: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="How long all queues must stay empty; default: the age of statistics.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold new announcements, and wait until the services have finished their work.

    Exit code 3 if that takes longer than --timeout. Announcements stay held until `drain --resume`.
    """
    from nircam_darks.operations import drain as operation
    from shared.settings.broker import broker_settings

    settings = broker_settings()
    idle = operation.IDLE_SECONDS if idle is None else idle
    if resume:
        if timeout is not None:
            raise usage("--timeout cannot be combined with --resume")
        moved = operation.resume(settings)
        text = f"Announcements go through again; {count(moved, 'held announcement')} moved to ingest"
        typer.echo(json.dumps({"resumed": True, "moved": moved}, indent=1) if as_json else text)
        return
    if timeout is not None and timeout < idle:
        raise usage(
            f"--timeout {timeout:g}: must be at least the {idle:g} s of --idle, needed to confirm that the "
            "queues are empty"
        )
    outcome = operation.drain(settings, lambda line: typer.echo(line, err=True), timeout, idle)
    typer.echo(json.dumps(asdict(outcome), indent=1) if as_json else outcome.text)
    raise typer.Exit(0 if outcome.drained else 3)
