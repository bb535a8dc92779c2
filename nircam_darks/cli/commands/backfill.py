"""`nircam-darks backfill`."""

import json
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nircam_darks.cli.options import AsJson, usage


def backfill_command(
    source: Annotated[
        str | None, typer.Argument(metavar="s3://BUCKET/PREFIX/|FOLDER", help="Where to look for exposures.")
    ] = None,
    listed: Annotated[
        Path | None, typer.Option("--list", metavar="FILE", help="A file with one address per line, instead.")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="Only keys or paths that match; default: *_uncal.fits[.gz] in any case, all of a list."
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, metavar="N", help="Announce at most N exposures per second.")
    ] = None,
    max_ready: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Pause while N messages are waiting for ingest.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also announce exposures that were ingested or rejected before.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start from the beginning, not where the last run stopped.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Announce every exposure under a prefix, in a folder or on a list; a second run continues the first.

    DARKS_BROKER_URL and DARKS_STORE name broker and store, DARKS_ALLOWED_SOURCES what ingest accepts.
    """
    from nircam_darks.operations.backfill import Pace, backfill
    from nircam_darks.operations.backfill_sources import open_source
    from nircam_darks.operations.store_access import open_existing, operator_settings
    from shared.broker.opening import open_services_broker
    from shared.broker.rabbitmq.management import queue_states
    from shared.settings.broker import broker_settings

    if (source is None) == (listed is None):
        raise usage("give exactly one of s3://bucket/prefix/, a folder, and --list FILE")
    settings = operator_settings()

    def waiting() -> int:
        # During a drain, announcements wait in the queue of held ones.
        queues = queue_states(broker_settings())
        return sum(queue.ready for queue in queues if queue.name == "ingest" or queue.kind == "held")

    addresses = open_source(source, listed, pattern, settings)
    pace = Pace(rate=rate, max_ready=max_ready, waiting=waiting)
    outcomes: Counter[str] = Counter()
    with (
        closing(open_existing(settings)) as store,
        closing(open_services_broker()) as broker,
        closing(backfill(addresses, store, broker, settings, pace, restart, again)) as handled,
    ):
        for address in handled:
            outcomes[address.outcome] += 1
            if as_json:
                typer.echo(json.dumps(asdict(address)))
            elif address.outcome == "announced":
                typer.echo(f"announced {address.exposure_id} at {address.uri}")
    summary = {"announced": outcomes["announced"], "passed": outcomes["passed"]}
    if as_json:
        typer.echo(json.dumps({"summary": summary}))
    else:
        typer.echo(f"{summary['announced']} announced, {summary['passed']} skipped (already processed)")
