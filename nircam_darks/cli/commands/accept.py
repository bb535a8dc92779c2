"""`nircam-darks accept`."""

import getpass
import socket
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from nircam_darks.cli.options import stage_settings, usage


def accept_command(
    name: Annotated[str, typer.Argument(metavar="SET", help="Id of the set, or its configuration.")],
    reason: Annotated[str, typer.Option(help="Why the reference can be used; recorded beside it.")],
    store: Annotated[
        str | None,
        typer.Option(
            metavar="RESULTS|STORE", help="Results folder of `run --out`, or any store; default: DARKS_STORE."
        ),
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who accepts it; default: your user name.")] = None,
) -> None:
    """Accept a dark reference that its verification held for review.

    A held reference may be good, but is unlike what is expected: look at its page of the report first. The
    sign-off (who, when, why) is stored beside the reference, and cannot be taken back. A rejected reference
    cannot be accepted.
    """
    from nircam_darks.operations.accept import accept_reference
    from nircam_darks.operations.store_access import impatient, open_existing, operator_settings
    from shared.errors import BadInput
    from shared.settings.service import read_settings_file

    if not reason.strip():
        raise usage("--reason: say why the reference can be used")
    if store is None:
        settings = operator_settings()
    else:
        read_settings_file()
        settings = stage_settings(store=store if "://" in store else Path(store).absolute())
    with closing(open_existing(impatient(settings))) as opened:
        try:
            sign_off = accept_reference(opened, name, by or _user(), " ".join(reason.split()))
        except BadInput as error:
            raise usage(str(error)) from None
        where = opened.uri(sign_off.product)
    typer.echo(f"{sign_off.configuration}: {sign_off}")
    for failure in sign_off.held_for:
        typer.echo(f"    it was held for: {failure}")
    typer.echo(f"recorded in {where}; `nircam-darks report` writes the report again")


def _user() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"
