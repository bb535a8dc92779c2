"""`nircam-darks backfill`."""

import json
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from services.cli_options import AsJson, usage


def backfill_command(
    source: Annotated[
        str | None, typer.Argument(metavar="[s3://BUCKET/PREFIX/ | FOLDER]", help="Where exposures lie.")
    ] = None,
    listed: Annotated[
        Path | None, typer.Option("--list", metavar="FILE", help="A file with an address a line, instead.")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(help="Only keys or paths that fit; default '*_uncal.fits', and all of a list."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, metavar="N", help="Announce at most N a second.")
    ] = None,
    max_ready: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Wait while N messages wait for ingest.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also exposures that have a ramp or a rejection.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, not where the last one stopped.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Announce every exposure under a prefix, in a folder or on a list; stopped, it goes on from there.

    DARKS_BROKER_URL and DARKS_STORE say where, DARKS_ALLOWED_SOURCES what ingest would refuse.
    """
    from services.operations.backfill import Pace, backfill
    from services.operations.backfill_sources import open_source
    from services.operations.setup import open_existing, operator_settings
    from shared.broker.opening import open_broker
    from shared.broker.rabbitmq.queues import queue_states
    from shared.broker.rabbitmq.settings import broker_settings

    if (source is None) == (listed is None):
        raise usage("give s3://bucket/prefix/, a folder, or --list FILE, and only one of them")
    settings = operator_settings()

    def waiting() -> int:
        # While the services are drained, announcements are held elsewhere.
        queues = queue_states(broker_settings())
        return sum(queue.ready for queue in queues if queue.name == "ingest" or queue.kind == "held")

    opened = open_source(source, listed, pattern, settings)
    pace = Pace(rate=rate, max_ready=max_ready, waiting=waiting)
    outcomes: Counter[str] = Counter()
    with (
        closing(open_existing(settings)) as store,
        closing(open_broker()) as broker,
        closing(backfill(opened, store, broker, settings, pace, restart, again)) as saying,
    ):
        for said in saying:
            outcomes[said.outcome] += 1
            if as_json:
                typer.echo(json.dumps(asdict(said)))
            elif said.outcome == "announced":
                typer.echo(f"announced {said.exposure_id} at {said.uri}")
    summary = {"announced": outcomes["announced"], "passed": outcomes["passed"]}
    if as_json:
        typer.echo(json.dumps({"summary": summary}))
    else:
        typer.echo(
            f"{summary['announced']} announced, {summary['passed']} passed over: their exposures came before"
        )
