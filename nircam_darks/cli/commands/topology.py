"""`nircam-darks topology`."""

import json
from typing import Annotated

import typer

from services.cli_options import AsJson

app = typer.Typer(help="Exchange, queues and limits at the broker.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Exchange, queues and limits at the broker."""


@app.command("apply")
def apply_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be changed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring RabbitMQ's exchange, queues, bindings and policies in order; DARKS_BROKER_URL says where."""
    from shared.broker.rabbitmq.settings import broker_settings
    from shared.broker.rabbitmq.topology import apply

    differences = [str(difference) for difference in apply(broker_settings(), dry_run=dry_run)]
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, "differences": differences}, indent=1))
    else:
        typer.echo("\n".join(differences) or "in order: nothing to do")
