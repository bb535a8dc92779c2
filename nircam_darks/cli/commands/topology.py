"""`nircam-darks topology`."""

import json
from typing import Annotated

import typer

from nircam_darks.cli.options import AsJson

app = typer.Typer(help="Set up exchange, queues and limits at the broker.", no_args_is_help=True)


@app.callback()
def _topology() -> None:
    """Set up exchange, queues and limits at the broker."""


@app.command("apply")
def apply_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create or update exchange, queues, bindings and policies of the broker that DARKS_BROKER_URL names."""
    from shared.broker.rabbitmq.topology import apply
    from shared.settings.broker import broker_settings

    differences = [str(difference) for difference in apply(broker_settings(), dry_run=dry_run)]
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, "differences": differences}, indent=1))
    else:
        typer.echo("\n".join(differences) or "Topology up to date")
