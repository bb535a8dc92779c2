"""`nircam-darks reconcile`."""

import json
from contextlib import closing
from typing import Annotated

import typer

from services.cli_options import AsJson, usage


def reconcile_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be said again.")] = False,
    older_than: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Leave alone what is younger: it may be at work.")
    ] = 600.0,
    sweep: Annotated[
        bool,
        typer.Option("--sweep", help="Also remove what killed attempts left in the store; services stopped."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find work in the store that led to nothing, and announce it again.

    DARKS_BROKER_URL and DARKS_STORE say where. Set DARKS_SETTLE_SECONDS, DARKS_MIN_INTEGRATIONS and
    DARKS_EPOCH_GAP_DAYS as the services have them.
    """
    from datetime import UTC, datetime

    from services.operations.reconcile import gaps, say_again, sweep_leftovers
    from services.operations.setup import open_existing, operator_settings
    from services.operations.stored import read_stored
    from shared.broker.opening import open_broker
    from shared.broker.rabbitmq.queues import queue_states
    from shared.broker.rabbitmq.settings import broker_settings

    if dry_run and sweep:
        raise usage("--sweep removes things, --dry-run changes nothing: give one of them")
    settings = operator_settings()
    with closing(open_existing(settings)) as store:
        swept = sweep_leftovers(store, queue_states(broker_settings())) if sweep else None
        stored = read_stored(store)
        found = gaps(stored, settings, older_than, datetime.now(UTC))
        said = 0

        def tell(kind: str, subject: str, missing: str) -> None:
            if as_json:
                typer.echo(json.dumps({"kind": kind, "subject": subject, "missing": missing}))
            else:
                typer.echo(f"{'missing' if dry_run else 'announced again'}: {missing} ({subject})")

        if dry_run:
            for gap in found:
                tell(gap.kind, gap.subject, gap.missing)
        elif found:
            with closing(open_broker()) as broker:
                for gap in say_again(found, store, broker):
                    tell(gap.kind, gap.subject, gap.missing)
                    said += 1
    summary = {"missing": len(found), "announced": said, "swept": swept, "damaged": sorted(stored.damaged)}
    if as_json:
        typer.echo(json.dumps({"summary": summary}))
        return
    for address in stored.damaged:
        typer.echo(f"damaged: {address}; remove the folder it is in, and it is made again")
    if swept is not None:
        typer.echo(f"{swept} leftover object(s) removed")
    typer.echo(f"{len(found)} missing, {said} announced again" if found else "in order: nothing is missing")
