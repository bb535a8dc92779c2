"""`nircam-darks watch-mast`."""

import json
import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli_options import AsJson, usage

if TYPE_CHECKING:
    from shared.broker.base import Broker

_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def watch_mast_command(
    program: Annotated[int, typer.Option(min=1, max=99999, help="JWST program, such as 1062.")],
    since: Annotated[datetime, typer.Option(formats=_DATES, help="Observed at or after, UTC.")],
    until: Annotated[
        datetime | None, typer.Option(formats=_DATES, help="Observed before, UTC; default: no end.")
    ] = None,
    every: Annotated[
        float | None, typer.Option(min=1, help="Look again after so many seconds, for ever; default: once.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be announced; nothing is downloaded.")
    ] = False,
    download_to: Annotated[
        str | None,
        typer.Option(help="Where files go that the public bucket has not: s3://bucket/prefix or a folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find new NIRCam darks in the archive (MAST) and announce them to the services.

    DARKS_BROKER_URL and DARKS_STORE say where. Ends with 3 if a file was refused, 2 if the archive was away.
    """
    from services.operations.mast import Watch
    from services.operations.mast_archive import MastArchive
    from services.operations.mast_places import Places
    from services.operations.mast_stop import Stop, Stopped
    from services.operations.setup import operator_settings
    from shared.mast_settings import MastSettings
    from shared.service_settings import read_settings
    from shared.store.opening import open_store

    since, until = since.replace(tzinfo=UTC), until.replace(tzinfo=UTC) if until else None
    if until is not None and until <= since:
        raise usage("--until must be later than --since")
    settings = operator_settings()
    mast = read_settings(MastSettings)
    refused = 0
    with ExitStack() as stack:
        broker = None if dry_run else stack.enter_context(closing(_broker()))
        stop = stack.enter_context(Stop())
        store = stack.enter_context(closing(open_store(settings)))
        archive = stack.enter_context(MastArchive(mast))
        places = stack.enter_context(Places(archive, settings, mast.public_bucket, store, download_to))
        overlap = timedelta(days=mast.overlap_days)
        watch = Watch(archive, places, store, broker, stop, program, since, until, overlap)
        try:
            for event in watch.look() if every is None else watch.look_again_and_again(every):
                refused += type(event).__name__ == "Refused"
                _tell(event, program, as_json)
        except Stopped:
            raise typer.Exit(130 if every is None else 0) from None
    raise typer.Exit(3 if refused else 0)


def _broker() -> "Broker":
    from shared.broker.opening import EMBEDDED, open_broker
    from shared.errors import EnvironmentFault

    if os.environ.get("DARKS_BROKER_URL") == EMBEDDED:
        raise EnvironmentFault(
            f"DARKS_BROKER_URL={EMBEDDED} is a broker that nobody else can reach: what is announced there is "
            "lost; name the services' broker, or use --dry-run"
        )
    return open_broker()


def _tell(event: Any, program: int, as_json: bool) -> None:
    kind = type(event).__name__.lower()
    if as_json:
        said = {"event": kind, "program": program} | asdict(event)
        typer.echo(json.dumps(said, default=lambda value: value.isoformat()))
    else:
        typer.echo(_LINES[kind](event, program), err=kind in ("refused", "away"))


def _announced(event: Any, program: int) -> str:
    if event.message_id is not None:
        return f"announced {event.exposure_id} at {event.uri}"
    where = f"at {event.uri}" if event.uri else "after a download"
    return f"would announce {event.exposure_id} {where}"


def _round(event: Any, program: int) -> str:
    said = (
        f"program {program} from {event.begin:%Y-%m-%dT%H:%M:%S}: {event.exposures} exposures, "
        f"{event.announced} files new, {event.known} announced before, {event.withheld} not public, "
        f"{event.refused} refused"
    )
    return said + (f", {event.without_files} exposures without raw files" if event.without_files else "")


_LINES: dict[str, Callable[[Any, int], str]] = {
    "announced": _announced,
    "refused": lambda event, program: f"refused {event.file}: {event.reason}",
    "round": _round,
    "away": lambda event, program: f"warning: {event.reason}; next look in {event.seconds:.0f} s",
}
