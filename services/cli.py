"""nircam-darks: the command line.

Exit codes: 0 all well, 2 usage or a machine that is not set up, 3 something was rejected or not
built, 130 interrupted.
"""

import json
import os
import signal
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress

from services.cli_options import (
    REFTYPES,
    AsJson,
    crds_environment,
    earlier_references,
    exposure_files,
    overrides,
    pixel_place,
    read_plans,
    simulated_cache,
    size_in_bytes,
    stage_settings,
)
from services.commands import (
    announce,
    backfill,
    coverage,
    dead_letters,
    drain,
    mast,
    reconcile,
    report,
    status,
    topology,
    trends,
)
from shared.errors import DarksError

app = typer.Typer(
    help="From JWST NIRCam dark exposures to dark reference files and a noise report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


Out = Annotated[Path, typer.Option(help="Folder for the results; made if it is not there.")]


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 2."""
    try:
        app()
    except DarksError as error:
        typer.echo(f"nircam-darks: {error}", err=True)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, SystemExit) as leaving:
        # typer makes this exit code of Ctrl-C, without a word.
        if isinstance(leaving, SystemExit) and leaving.code != 130:
            raise
        # A second one, while Python ends, would take the place of the exit code.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        typer.echo("nircam-darks: stopped; run the same command again to go on from here", err=True)
        raise SystemExit(130) from None


@app.command()
def run(
    files: Annotated[list[Path], typer.Argument(help="Dark exposures, or folders of them (*.fits).")],
    out: Out,
    mode: Annotated[
        Literal["reference", "flight"], typer.Option(help="How exposures are combined.")
    ] = "flight",
    override: Annotated[
        list[str] | None,
        typer.Option(metavar="REFTYPE=PATH", help=f"Use this reference file; {', '.join(REFTYPES)}."),
    ] = None,
    min_integrations: Annotated[
        int, typer.Option(min=1, help="Integrations that a dark reference needs at least.")
    ] = 2,
    min_measurements: Annotated[
        int, typer.Option(min=1, help="Measurements a group that a pixel needs to be reliable (flight mode).")
    ] = 3,
    max_memory: Annotated[
        str, typer.Option(help="Memory of one darkref or noise job, such as 2GiB.")
    ] = "2GiB",
    max_equivalent_groups: Annotated[
        int | None, typer.Option(min=1, help="Full-frame groups in memory at once, over all exposures.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = max(1, os.cpu_count() or 1),
    persistence_time: Annotated[
        int, typer.Option(min=0, help="Window of the persistence step in s; 0 skips the step.")
    ] = 1000,
    pixel: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y", help="Plot this pixel's ramp (0-based); may be given again."),
    ] = None,
    crds_path: Annotated[Path | None, typer.Option(envvar="CRDS_PATH", help="CRDS cache.")] = None,
    crds_context: Annotated[str | None, typer.Option(envvar="CRDS_CONTEXT", help="CRDS context.")] = None,
    author: Annotated[str, typer.Option(help="AUTHOR of the reference files.")] = "nircam-darks",
    descrip: Annotated[str | None, typer.Option(help="DESCRIP, at most 65 characters.")] = None,
    pedigree: Annotated[
        str | None,
        typer.Option(help="PEDIGREE: INFLIGHT, GROUND, MODEL, DUMMY or SIMULATION; default: the data's."),
    ] = None,
    useafter: Annotated[
        str | None, typer.Option(help="USEAFTER, such as 2022-04-11T06:00:00; default: the data's start.")
    ] = None,
    compare_with: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="Dark reference that a new one replaces (or s3://...); may be given again."
        ),
    ] = None,
    emulate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="READPATT", help="Tell RAPID sets' noise in this pattern too; may be given again."
        ),
    ] = None,
) -> None:
    """Bring dark exposures to dark reference files and a noise report."""
    # The pipeline takes seconds to import; `--help` and a usage error do not wait for it.
    from services.local_run import run_local
    from services.progress import StageBars
    from services.schedule import peek
    from services.simulation.crds_cache import environment as simulated_environment
    from services.terminal import terminal_table

    out = out.absolute()
    candidates = [peek(path) for path in exposure_files(files)]
    settings = stage_settings(
        store=out,
        mode=mode,
        overrides=overrides(override or []),
        min_integrations=min_integrations,
        min_measurements=min_measurements,
        max_memory=size_in_bytes(max_memory),
        max_equivalent_groups=max_equivalent_groups,
        persistence_time=persistence_time,
        pixels=[pixel_place(text) for text in pixel or []],
        author=author,
        descrip=descrip,
        pedigree=pedigree,
        useafter=useafter,
        previous_references=earlier_references(compare_with or []),
        emulate=emulate or [],
    )
    console = Console()
    cache = None if crds_path else simulated_cache([c.path for c in candidates if c.simulated])
    if cache:
        console.print(f"References: the simulated CRDS cache beside the exposures, {cache}", soft_wrap=True)
        environment = simulated_environment(cache)
    else:
        environment = crds_environment(crds_path, crds_context)
    with StageBars(console, len(candidates)) as bars:
        outcome = run_local(candidates, out, settings, jobs, environment, bars)
    for renderable in terminal_table(outcome.summary):
        console.print(renderable)
    console.print(f"summary: {outcome.summary_path}", soft_wrap=True, highlight=False)
    console.print(f"report:  {outcome.report_path}", soft_wrap=True, highlight=False)
    raise typer.Exit(0 if outcome.summary.all_well else 3)


@app.command("simulate")
def simulate_command(
    out: Out,
    detector: Annotated[str, typer.Option(help="DETECTOR, such as NRCA1 or NRCBLONG.")] = "NRCA1",
    subarray: Annotated[str, typer.Option(help="SUBARRAY, such as FULL, SUB640, SUB320, SUB64P.")] = "SUB320",
    readpatt: Annotated[str, typer.Option(help="Readout pattern.")] = "RAPID",
    ngroups: Annotated[int, typer.Option(help="Groups an integration.")] = 20,
    nints: Annotated[int, typer.Option(help="Integrations an exposure.")] = 1,
    exposures: Annotated[int, typer.Option(help="Exposures.")] = 1,
    noutputs: Annotated[int | None, typer.Option(help="Outputs; default: the subarray's own.")] = None,
    start: Annotated[str | None, typer.Option(help="UTC start of the first exposure, ISO.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 1062,
    cosmic_ray_rate: Annotated[float | None, typer.Option(help="hits/cm2/s; default: the scene's.")] = None,
    scene: Annotated[str, typer.Option(help="Cosmic rays of SUNMIN, SUNMAX or FLARES.")] = "SUNMIN",
    snowballs: Annotated[int, typer.Option(help="Snowballs an exposure.")] = 0,
    plan: Annotated[
        Path | None,
        typer.Option(help="JSON list of plans, each with the names above; in place of the other options."),
    ] = None,
    real_references: Annotated[
        Path | None,
        typer.Option(help="Folder of real CRDS mask and readnoise files: the pixels are made after them."),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="The campaign of `make demo`.")] = False,
) -> None:
    """Simulate NIRCam darks, with their truth and a CRDS cache that `run` needs nothing beside."""
    from services.simulate import SimulationPlan, simulate
    from services.simulation.demo import cut_short, demo_plans

    if demo:
        plans = demo_plans()
    elif plan:
        plans = read_plans(plan)
    else:
        plans = [
            SimulationPlan(
                detector=detector.upper(),
                subarray=subarray.upper(),
                readpatt=readpatt.upper(),
                ngroups=ngroups,
                nints=nints,
                exposures=exposures,
                noutputs=noutputs,
                start=start,
                seed=seed,
                cosmic_ray_rate=cosmic_ray_rate,
                scene=scene.upper(),
                snowballs=snowballs,
            )
        ]
    console = Console()
    with Progress(console=console) as progress:
        task = progress.add_task("simulate", total=None)
        result = simulate(
            plans,
            out.absolute(),
            lambda done, total, what: progress.update(task, completed=done, total=total, description=what),
            real_references,
        )
    if demo:
        cut_short(result.files[0])
    console.print(f"{len(result.files)} simulated exposures in {result.files[0].parent}", soft_wrap=True)
    console.print(f"truth: {result.truth_path}", soft_wrap=True)
    console.print(f"next:  nircam-darks run {result.files[0].parent} --out results", soft_wrap=True)


@app.command()
def inspect(file: Annotated[Path, typer.Argument()], as_json: AsJson = False) -> None:
    """Say what an up-the-ramp file is, which checks it passes, and give a quick look."""
    from services.inspect import inspect_file, render

    inspection = inspect_file(file)
    if as_json:
        typer.echo(json.dumps(inspection.to_dict(), indent=1))
    else:
        Console().print(render(inspection))
    raise typer.Exit(0 if inspection.passed else 3)


@app.command("cross-check")
def cross_check_command(
    reference: Annotated[Path, typer.Argument(help="A dark reference file that `run` made.")],
    as_json: AsJson = False,
) -> None:
    """Run jwst_reffiles on the set a reference was made from; say where the two differ, and why."""
    from services.cross_check import cross_check

    result = cross_check(reference)
    typer.echo(json.dumps(result.to_dict(), indent=1) if as_json else result.text())
    raise typer.Exit(0 if result.agrees else 3)


app.add_typer(topology.app, name="topology")
app.command("announce")(announce.announce_command)
app.command("backfill")(backfill.backfill_command)
app.command("status")(status.status_command)
app.command("coverage")(coverage.coverage_command)
app.command("stability")(trends.stability_command)
app.command("report")(report.report_command)
app.command("reconcile")(reconcile.reconcile_command)
app.add_typer(dead_letters.app, name="dead-letters")
app.command("drain")(drain.drain_command)
app.command("watch-mast")(mast.watch_mast_command)
