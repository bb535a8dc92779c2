"""`nircam-darks status`."""

from typing import Annotated

import typer

from services.cli_options import AsJson


def status_command(
    last: Annotated[int, typer.Option(min=0, help="How many of the newest products to show.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Say what waits in the queues, what the sets wait for and why, and what was made last.

    DARKS_BROKER_URL and DARKS_STORE say where. Ends with 3 if broker or store did not answer.
    """
    from rich.console import Console
    from rich.text import Text

    from services.operations.setup import impatient, open_existing, operator_settings
    from services.operations.status import status
    from services.operations.status_tables import status_tables
    from shared.broker.rabbitmq.queues import queue_states
    from shared.broker.rabbitmq.settings import broker_settings

    settings = operator_settings()
    found = status(
        lambda: queue_states(broker_settings()), lambda: open_existing(impatient(settings)), settings, last
    )
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        console = Console()
        for renderable in status_tables(found):
            console.print(renderable, soft_wrap=isinstance(renderable, Text))
    raise typer.Exit(0 if found.whole else 3)
