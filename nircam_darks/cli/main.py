"""nircam-darks: the command line.

Exit codes: 0 success, 2 wrong usage or a machine that is not set up, 3 something was held, rejected
or not built (or a service did not answer), 130 interrupted.
"""

import functools
import json
import signal
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nircam_darks.cli.commands import (
    accept,
    announce,
    backfill,
    coverage,
    dead_letters,
    drain,
    mast,
    reconcile,
    report,
    run,
    simulate,
    stability,
    status,
    topology,
    verify,
)
from nircam_darks.cli.options import AsJson
from shared.errors import DarksError

_RUN, _SERVICES, _ASK = "Work on this machine", "Operate the services", "Query broker and store"


class _OneLineErrors(TyperGroup):
    """Shows help in panels, and a usage error as one line that a log keeps whole."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit as a program does; if not `standalone_mode`, return as typer does."""
        run = functools.partial(
            super().main, args, prog_name, complete_var, False, windows_expand_args, **extra
        )
        if not standalone_mode:
            return run()
        try:
            code = run()
        except typer.TyperException as error:
            # Empty where the help of a command has been shown instead.
            if message := " ".join(error.format_message().split()).rstrip("."):
                context = getattr(error, "ctx", None)
                command = context.command_path if context is not None else "nircam-darks"
                typer.echo(f"{command}: {message} (see {command} --help)", err=True)
            sys.exit(getattr(error, "exit_code", 2))
        sys.exit(code or 0)


app = typer.Typer(
    cls=_OneLineErrors,
    help="Turn JWST NIRCam dark exposures into dark reference files and noise reports.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 2."""
    try:
        app()
    except DarksError as error:
        typer.echo(f"nircam-darks: {error}", err=True)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, SystemExit) as leaving:
        # typer turns Ctrl-C into this exit code without a word.
        if isinstance(leaving, SystemExit) and leaving.code != 130:
            raise
        # A second Ctrl-C, while Python ends, would change the exit code.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        typer.echo("nircam-darks: stopped; run the same command again to continue from here", err=True)
        raise SystemExit(130) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nircam-darks {metadata.version('nircam-darks')}")
        raise typer.Exit


@app.callback()
def _options_of_every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def inspect_command(
    file: Annotated[Path, typer.Argument(help="Any file, above all a JWST exposure such as *_uncal.fits.")],
    full: Annotated[
        bool, typer.Option("--full", help="Read all groups of a large exposure, rather than a sample.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a file is, which checks of ingest it passes, and a quick look at its pixels.

    Of more than 40 full-frame groups a sample is read, unless told otherwise.

    Exit code 3 if ingest would reject the file.
    """
    from rich.console import Console

    from nircam_darks.cli.inspect import inspect_file, print_inspection

    inspection = inspect_file(file, full)
    if as_json:
        typer.echo(json.dumps(inspection.to_dict(), indent=1))
    else:
        print_inspection(inspection, Console())
    raise typer.Exit(0 if inspection.passed else 3)


def cross_check_command(
    reference: Annotated[Path, typer.Argument(help="A dark reference file that `run --mode notebook` made.")],
    as_json: AsJson = False,
) -> None:
    """Run jwst_reffiles on the exposures behind a reference, and show where the two references differ.

    Exit code 3 if they differ.
    """
    from nircam_darks.cli.cross_check import cross_check

    result = cross_check(reference)
    typer.echo(json.dumps(result.to_dict(), indent=1) if as_json else result.text())
    raise typer.Exit(0 if result.agrees else 3)


app.command("accept", rich_help_panel=_RUN)(accept.accept_command)
app.command("run", rich_help_panel=_RUN)(run.run_command)
app.command("report", rich_help_panel=_RUN)(report.report_command)
app.command("inspect", rich_help_panel=_RUN)(inspect_command)
app.command("cross-check", rich_help_panel=_RUN)(cross_check_command)
app.command("simulate", rich_help_panel=_RUN)(simulate.simulate_command)
app.command("announce", rich_help_panel=_SERVICES)(announce.announce_command)
app.command("backfill", rich_help_panel=_SERVICES)(backfill.backfill_command)
app.command("watch-mast", rich_help_panel=_SERVICES)(mast.watch_mast_command)
app.command("reconcile", rich_help_panel=_SERVICES)(reconcile.reconcile_command)
app.command("drain", rich_help_panel=_SERVICES)(drain.drain_command)
app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel=_SERVICES)
app.add_typer(topology.app, name="topology", rich_help_panel=_SERVICES)
app.command("status", rich_help_panel=_ASK)(status.status_command)
app.command("verify", rich_help_panel=_ASK)(verify.verify_command)
app.command("coverage", rich_help_panel=_ASK)(coverage.coverage_command)
app.command("stability", rich_help_panel=_ASK)(stability.stability_command)
