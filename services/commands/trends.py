"""`nircam-darks stability`."""

import typer

from services.cli_options import AsJson


def stability_command(as_json: AsJson = False) -> None:
    """Say whether dark rate, noise and jump rate of every detector and configuration are steady in time.

    Over all products of the store that DARKS_STORE names; a results folder of `run` is a store too. Ends
    with 3 if it did not answer.
    """
    from rich.console import Console
    from rich.text import Text

    from services.operations.setup import impatient, open_existing, operator_settings
    from services.operations.trends import stability
    from services.operations.trends_tables import stability_tables

    settings = operator_settings()
    found = stability(lambda: open_existing(impatient(settings)))
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        console = Console()
        for renderable in stability_tables(found):
            console.print(renderable, soft_wrap=isinstance(renderable, Text))
    raise typer.Exit(0 if found.stability is not None else 3)
