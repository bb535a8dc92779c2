"""`nircam-darks coverage`."""

import typer

from services.cli_options import AsJson


def coverage_command(as_json: AsJson = False) -> None:
    """Say what NRC-09 asks for: how many ramps and which references are there, and what is missing.

    DARKS_STORE says where; a results folder of `run` is a store too. Ends with 3 if it did not answer.
    """
    from rich.console import Console
    from rich.text import Text

    from services.operations.coverage import coverage
    from services.operations.coverage_tables import coverage_tables
    from services.operations.setup import impatient, open_existing, operator_settings

    settings = operator_settings()
    found = coverage(lambda: open_existing(impatient(settings)), settings)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        console = Console()
        for renderable in coverage_tables(found):
            console.print(renderable, soft_wrap=isinstance(renderable, Text))
    raise typer.Exit(0 if found.coverage is not None else 3)
