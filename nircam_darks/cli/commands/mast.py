"""`nircam-darks watch-mast`."""

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nircam_darks.cli.options import AsJson, usage
from nircam_darks.report.text import count

if TYPE_CHECKING:
    pass

_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def watch_mast_command(
    program: Annotated[int, typer.Option(min=1, max=99999, help="JWST program, such as 1062.")],
    since: Annotated[datetime, typer.Option(formats=_DATES, help="Only exposures from this UTC time on.")],
    until: Annotated[
        datetime | None,
        typer.Option(formats=_DATES, help="Only exposures before this UTC time; default: no limit."),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="Keep watching, at this interval; default: look once."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be announced; download and announce nothing."),
    ] = False,
    download_to: Annotated[
        str | None,
        typer.Option(
            help="Folder or s3://bucket/prefix for files missing from the public bucket; default: the store."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find new NIRCam darks in the archive (MAST) and announce them to the services.

    DARKS_BROKER_URL and DARKS_STORE name broker and store. Exit code 3 if a file was refused, 2 if the
    archive did not answer.
    """
    from nircam_darks.operations.mast.client import MastArchive
    from nircam_darks.operations.mast.locations import Places
    from nircam_darks.operations.mast.signals import Stop, Stopped
    from nircam_darks.operations.mast.watch import ArchiveWatch, RefusedFile
    from nircam_darks.operations.store_access import operator_settings
    from shared.broker.opening import open_services_broker
    from shared.settings.mast import MastSettings
    from shared.settings.service import read_settings
    from shared.store.opening import open_store

    since, until = since.replace(tzinfo=UTC), until.replace(tzinfo=UTC) if until else None
    if until is not None and until <= since:
        raise usage("--until must be later than --since")
    settings = operator_settings()
    mast = read_settings(MastSettings)
    refused = 0
    with ExitStack() as stack:
        broker = None if dry_run else stack.enter_context(closing(open_services_broker()))
        stop = stack.enter_context(Stop())
        store = stack.enter_context(closing(open_store(settings)))
        archive = stack.enter_context(MastArchive(mast))
        places = stack.enter_context(Places(archive, settings, mast.public_bucket, store, download_to))
        overlap = timedelta(days=mast.overlap_days)
        watch = ArchiveWatch(archive, places, store, broker, stop, program, since, until, overlap)
        try:
            for event in watch.look() if every is None else watch.keep_looking(every):
                refused += isinstance(event, RefusedFile)
                _print(event, program, as_json)
        except Stopped:
            raise typer.Exit(130 if every is None else 0) from None
    raise typer.Exit(3 if refused else 0)


def _print(event: Any, program: int, as_json: bool) -> None:
    if as_json:
        line = {"event": event.event, "program": program} | asdict(event)
        typer.echo(json.dumps(line, default=lambda value: value.isoformat()))
    else:
        typer.echo(_LINES[event.event](event, program), err=event.event in ("refused", "away"))


def _announced(event: Any, program: int) -> str:
    if event.message_id is not None:
        return f"announced {event.exposure_id} at {event.uri}"
    where = f"at {event.uri}" if event.uri else "after a download"
    return f"would announce {event.exposure_id} {where}"


def _round(event: Any, program: int) -> str:
    line = (
        f"program {program} from {event.begin:%Y-%m-%dT%H:%M:%S}: {count(event.exposures, 'exposure')}; "
        f"files: {event.announced} new, {event.known} announced before, {event.withheld} not public, "
        f"{event.refused} refused"
    )
    without = f"; {count(event.without_files, 'exposure')} without raw files"
    return line + (without if event.without_files else "")


_LINES: dict[str, Callable[[Any, int], str]] = {
    "announced": _announced,
    "refused": lambda event, program: f"refused {event.file}: {event.reason}",
    "round": _round,
    "away": lambda event, program: f"warning: {event.reason}; looking again in {event.seconds:.0f} s",
}
