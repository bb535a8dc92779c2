"""`nircam-darks reconcile`."""

import json
from contextlib import closing
from typing import Annotated

import typer

from nircam_darks.cli.options import AsJson, usage
from nircam_darks.cli.tables import damaged_manifest
from nircam_darks.report.text import count


def reconcile_command(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be announced again.")
    ] = False,
    older_than: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="Ignore anything younger, which may still be in progress."
        ),
    ] = 600.0,
    sweep: Annotated[
        bool,
        typer.Option("--sweep", help="Also remove leftovers of killed jobs; stop all services first."),
    ] = False,
    outdated: Annotated[
        bool,
        typer.Option(
            "--outdated",
            help="Also announce exposures whose ramps were made in another way than the newest of their "
            "configuration, such as with an earlier CRDS context.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find products whose next stage is missing, and announce them again.

    It also makes the index that sets are formed from, and the catalog that `status`, `coverage` and
    `stability` go by, agree with the manifests.

    DARKS_BROKER_URL and DARKS_STORE name broker and store. DARKS_SETTLE_SECONDS, DARKS_MIN_INTEGRATIONS and
    DARKS_EPOCH_GAP_DAYS must have the values that the services have.
    """
    from datetime import UTC, datetime

    from nircam_darks.operations.reconcile import gaps, remake_indexes, republish, sweep_leftovers
    from nircam_darks.operations.store_access import open_existing, operator_settings
    from shared.broker.opening import open_services_broker
    from shared.broker.rabbitmq.management import queue_states
    from shared.catalog.packs import Catalog
    from shared.catalog.store_contents import read_stored
    from shared.settings.broker import broker_settings

    if dry_run and sweep:
        raise usage("--sweep removes objects and --dry-run changes nothing; give only one of them")
    settings = operator_settings()
    with closing(open_existing(settings)) as store:
        swept = sweep_leftovers(store, queue_states(broker_settings())) if sweep else None
        # Of the index, and of the catalog that `status` goes by, the manifests are the truth.
        stored = read_stored(store) if dry_run else Catalog(store).remake()
        missing = gaps(stored, settings, older_than, datetime.now(UTC), outdated)
        # Before a service forms any set: it goes by the index.
        added, removed = (0, 0) if dry_run else remake_indexes(stored, store)
        announced = 0

        def show(kind: str, subject: str, missing: str) -> None:
            if as_json:
                typer.echo(json.dumps({"kind": kind, "subject": subject, "missing": missing}))
            else:
                typer.echo(f"{'missing' if dry_run else 'announced again'}: {missing} ({subject})")

        if dry_run:
            for gap in missing:
                show(gap.kind, gap.subject, gap.missing)
        elif missing:
            with closing(open_services_broker()) as broker:
                for gap in republish(missing, store, broker):
                    show(gap.kind, gap.subject, gap.missing)
                    announced += 1
    summary = {
        "missing": len(missing),
        "announced": announced,
        "swept": swept,
        "indexed": added,
        "unindexed": removed,
        "damaged": sorted(stored.damaged),
    }
    if as_json:
        typer.echo(json.dumps({"summary": summary}))
        return
    for address in stored.damaged:
        typer.echo(damaged_manifest(address).plain)
    if swept is not None:
        typer.echo(f"{count(swept, 'leftover object')} removed")
    if added or removed:
        typer.echo(
            f"Index: {count(added, 'entry', 'entries')} added, {removed} removed; the manifests are the truth"
        )
    typer.echo(f"{len(missing)} missing, {announced} announced again" if missing else "Nothing to recover")
