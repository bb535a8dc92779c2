"""`nircam-darks dead-letters`."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from nircam_darks.cli.options import AsJson, usage
from nircam_darks.report.text import count
from shared.contracts.routing import BINDINGS

app = typer.Typer(help="Inspect dead letters, export them, and requeue them.", no_args_is_help=True)

Queues = Annotated[
    list[str] | None, typer.Argument(metavar="QUEUE", help=f"{', '.join(BINDINGS)}; all by default.")
]
OnlyQueues = Annotated[
    list[str] | None, typer.Option("--queue", help="Only letters of this queue; may be repeated.")
]

_SHOWN = 20_000


@app.callback()
def _dead_letters() -> None:
    """Inspect dead letters (messages that failed for good), export them, and requeue them."""


@app.command("list")
def list_command(queues: Queues = None, as_json: AsJson = False) -> None:
    """List dead letters, oldest first, and count them by queue."""
    from nircam_darks.operations.dead_letters import escaped, letters, service_queues, summary
    from shared.contracts.routing import dead_letter_queue
    from shared.settings.broker import broker_settings

    names = service_queues(queues or [])
    counts = Counter({dead_letter_queue(name): 0 for name in names})
    listed: list[dict[str, Any]] = []
    for stored in letters(broker_settings(), names):
        entry = summary(stored)
        counts[entry["queue"]] += 1
        if as_json:
            listed.append(entry)
        else:
            attempts = count(entry["attempts"], "attempt")
            line = f"{{id}}  {{queue}}  {{routing_key}}  {{died}}  {attempts}  {{reason}}".format_map(entry)
            typer.echo(escaped(line))
    if as_json:
        typer.echo(json.dumps({"queues": counts, "letters": listed}, indent=1))
    else:
        typer.echo(", ".join(f"{name}: {number}" for name, number in counts.items()))


@app.command("show")
def show_command(
    letter: Annotated[str, typer.Argument(metavar="ID", help="The letter's id, as `list` prints it.")],
    queues: OnlyQueues = None,
    as_json: AsJson = False,
) -> None:
    """Show everything known about a dead letter: body, headers, reason, crash report."""
    from nircam_darks.operations.dead_letters import detail, escaped, letters_of_id, service_queues
    from shared.settings.broker import broker_settings

    details = [
        detail(each) for each in letters_of_id(broker_settings(), service_queues(queues or []), letter)
    ]
    if as_json:
        typer.echo(json.dumps(details, indent=1))
        return
    for entry in details:
        body, kind, evidence = (entry.pop(name) for name in ("body", "body_is", "evidence"))
        text = json.dumps(body, indent=1) if kind == "json" else body
        more = kind == "beginning" or len(text) > _SHOWN
        for name, value in entry.items():
            typer.echo(escaped(f"{name + ':':<13}{value if isinstance(value, str) else json.dumps(value)}"))
        typer.echo(
            f"body:\n{text[:_SHOWN]}" + ("\n(only the beginning; `export` writes all of it)" if more else "")
        )
        if evidence:
            typer.echo(f"crash report:\n{escaped(evidence)}")


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Option(help="Folder for the files; created if it does not exist.")],
    queues: Queues = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove each letter from its queue once it is on disk.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write each dead letter to two files: its body, and a JSON record with everything else."""
    from nircam_darks.operations.dead_letters import export, service_queues
    from shared.settings.broker import broker_settings

    exported = 0
    names = service_queues(queues or [])
    for stored, path in export(broker_settings(), names, out.absolute(), remove):
        exported += 1
        _print({"id": stored.id, "queue": stored.letter.queue, "file": str(path), "removed": remove}, as_json)
    if not as_json:
        removed = " and removed from the broker" if remove else ""
        typer.echo(f"{count(exported, 'dead letter')} exported to {out}{removed}")


@app.command("replay")
def replay_command(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Ids of letters, as `list` prints them.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Requeue all dead letters.")] = False,
    queues: OnlyQueues = None,
    folder: Annotated[
        Path | None, typer.Option("--from", help="Requeue the letters in this folder, which `export` wrote.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Requeue dead letters for their services, with all attempts reset."""
    from nircam_darks.operations.dead_letters import replay, replay_files, service_queues
    from shared.settings.broker import broker_settings

    if sum((bool(ids), every, folder is not None)) != 1:
        raise usage("give exactly one of IDs, --all and --from FOLDER")
    if folder is not None and queues:
        raise usage("--queue cannot be combined with --from; export that queue to a folder of its own")
    names = service_queues(queues or [])
    settings = broker_settings()
    requeued = 0
    if folder is not None:
        for file in replay_files(settings, folder.absolute()):
            requeued += 1
            _print({"id": file.id, "queue": file.queue, "file": str(file.path)}, as_json)
    else:
        for stored in replay(settings, names, None if every else ids):
            requeued += 1
            _print({"id": stored.id, "queue": stored.letter.queue}, as_json)
    if not as_json:
        typer.echo(f"{count(requeued, 'dead letter')} requeued")


def _print(done: dict[str, Any], as_json: bool) -> None:
    """Print at once what happened to one letter, as one line of JSON or of text."""
    words = (str(value) for value in done.values() if not isinstance(value, bool))
    typer.echo(json.dumps(done) if as_json else "  ".join(words))
