"""`nircam-darks dead-letters`."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli_options import AsJson, usage

app = typer.Typer(
    help="Messages that were given up: look at them, put them back to work.", no_args_is_help=True
)

Queues = Annotated[
    list[str] | None, typer.Argument(metavar="[QUEUE]...", help="ingest, darkref, noise; default: all.")
]
OnlyQueues = Annotated[
    list[str] | None, typer.Option("--queue", help="Only of this queue; may be given again.")
]

_SHOWN = 20_000


@app.callback()
def group() -> None:
    """Messages that were given up: look at them, put them back to work."""


@app.command("list")
def list_command(queues: Queues = None, as_json: AsJson = False) -> None:
    """List dead letters, oldest first, and count them."""
    from services.operations.dead_letters import escaped, letters, service_queues, summary
    from shared.broker.rabbitmq.settings import broker_settings
    from shared.topology import dead_letter_queue

    names = service_queues(queues or [])
    counts = Counter({dead_letter_queue(name): 0 for name in names})
    found: list[dict[str, Any]] = []
    for stored in letters(broker_settings(), names):
        said = summary(stored)
        counts[said["queue"]] += 1
        if as_json:
            found.append(said)
        else:
            line = "{id}  {queue}  {routing_key}  {died}  {attempts} attempts  {reason}".format_map(said)
            typer.echo(escaped(line))
    if as_json:
        typer.echo(json.dumps({"queues": counts, "letters": found}, indent=1))
    else:
        typer.echo(", ".join(f"{name}: {count}" for name, count in counts.items()))


@app.command("show")
def show_command(
    letter: Annotated[str, typer.Argument(metavar="ID", help="As `list` prints it.")],
    queues: OnlyQueues = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of a dead letter: body, headers, reason, evidence."""
    from services.operations.dead_letters import detail, escaped, named, service_queues
    from shared.broker.rabbitmq.settings import broker_settings

    found = [detail(each) for each in named(broker_settings(), service_queues(queues or []), letter)]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for said in found:
        body, kind, evidence = (said.pop(name) for name in ("body", "body_is", "evidence"))
        text = json.dumps(body, indent=1) if kind == "json" else body
        more = kind == "beginning" or len(text) > _SHOWN
        for name, value in said.items():
            typer.echo(escaped(f"{name + ':':<13}{value if isinstance(value, str) else json.dumps(value)}"))
        typer.echo(f"body:\n{text[:_SHOWN]}" + ("\n(its beginning; `export` writes all)" if more else ""))
        if evidence:
            typer.echo(f"evidence:\n{escaped(evidence)}")


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Option(help="Folder for the files; made if it is not there.")],
    queues: Queues = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take each off its queue once it is on the disk.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write each dead letter to files: its body, and a JSON file with all else."""
    from services.operations.dead_letters import export, service_queues
    from shared.broker.rabbitmq.settings import broker_settings

    count = 0
    names = service_queues(queues or [])
    for stored, path in export(broker_settings(), names, out.absolute(), remove):
        count += 1
        _say({"id": stored.id, "queue": stored.letter.queue, "file": str(path), "removed": remove}, as_json)
    if not as_json:
        typer.echo(f"{count} exported to {out}" + (" and removed" if remove else ""))


@app.command("replay")
def replay_command(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `list` prints them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    queues: OnlyQueues = None,
    folder: Annotated[
        Path | None, typer.Option("--from", help="Folder of `export`: replay its letters instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put dead letters back into their services' queues, with attempts anew."""
    from services.operations.dead_letters import replay, replay_files, service_queues
    from shared.broker.rabbitmq.settings import broker_settings

    if sum((bool(ids), every, folder is not None)) != 1:
        raise usage("give either IDs, or --all, or --from FOLDER")
    if folder is not None and queues:
        raise usage("--queue is of no use with --from; export the queue to a folder of its own")
    names = service_queues(queues or [])
    settings = broker_settings()
    count = 0
    if folder is not None:
        for file in replay_files(settings, folder.absolute()):
            count += 1
            _say({"id": file.id, "queue": file.queue, "file": str(file.path)}, as_json)
    else:
        for stored in replay(settings, names, None if every else ids):
            count += 1
            _say({"id": stored.id, "queue": stored.letter.queue}, as_json)
    if not as_json:
        typer.echo(f"{count} put back to work")


def _say(done: dict[str, Any], as_json: bool) -> None:
    """Say at once what became of one letter: a JSON object a line, or words."""
    words = (str(value) for value in done.values() if not isinstance(value, bool))
    typer.echo(json.dumps(done) if as_json else "  ".join(words))
