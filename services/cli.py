"""nircam-darks: the command line.

Exit codes: 0 all well, 2 usage or a machine that is not set up, 3 something was rejected or not
built, 130 interrupted.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import Progress

from shared.errors import DarksError
from shared.settings import StageSettings

if TYPE_CHECKING:
    from services.simulation.plan import SimulationPlan
    from services.summary_model import Summary

app = typer.Typer(
    help="From JWST NIRCam dark exposures to dark reference files and a noise report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

#: Reference types that the pipeline's steps take; the names CRDS uses.
REFTYPES = ("mask", "saturation", "superbias", "refpix", "linearity", "gain", "readnoise")
#: crds's own name for "no server": with a complete cache nothing is ever fetched.
SERVERLESS = "https://crds-serverless-mode.stsci.edu"

Out = Annotated[Path, typer.Option(help="Folder for the results; made if it is not there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 2."""
    try:
        app()
    except DarksError as error:
        typer.echo(f"nircam-darks: {error}", err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        typer.echo("nircam-darks: stopped; run the same command again to go on from here", err=True)
        raise SystemExit(130) from None


@app.command()
def run(
    files: Annotated[list[Path], typer.Argument(help="Dark exposures, or folders of them (*.fits).")],
    out: Out,
    mode: Annotated[
        Literal["reference", "flight"], typer.Option(help="How exposures are combined.")
    ] = "reference",
    override: Annotated[
        list[str] | None,
        typer.Option(metavar="REFTYPE=PATH", help=f"Use this reference file; {', '.join(REFTYPES)}."),
    ] = None,
    min_integrations: Annotated[
        int, typer.Option(min=1, help="Integrations that a dark reference needs at least.")
    ] = 2,
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
) -> None:
    """Bring dark exposures to dark reference files and a noise report."""
    # The pipeline takes seconds to import; `--help` and a usage error do not wait for it.
    from services.local_run import run_local
    from services.progress import StageBars
    from services.schedule import peek
    from services.terminal import terminal_table

    if mode == "flight":
        raise _usage("--mode flight is not built yet; use --mode reference")
    out = out.absolute()
    candidates = [peek(path) for path in _expand(files)]
    settings = _settings(
        store=out,
        mode=mode,
        overrides=_overrides(override or []),
        min_integrations=min_integrations,
        max_memory=_bytes(max_memory),
        max_equivalent_groups=max_equivalent_groups,
        persistence_time=persistence_time,
        pixels=[_pixel(text) for text in pixel or []],
        author=author,
        descrip=descrip,
    )
    console = Console()
    crds = crds_path or _simulated_cache([c.path for c in candidates if c.simulated])
    if crds and not crds_path:
        console.print(f"References: the simulated CRDS cache beside the exposures, {crds}", soft_wrap=True)
    environment = _crds_environment(crds, crds_context)
    with StageBars(console, len(candidates)) as bars:
        outcome = run_local(candidates, out, settings, jobs, environment, bars)
    for renderable in terminal_table(outcome.summary):
        console.print(renderable)
    console.print(f"summary: {outcome.summary_path}", soft_wrap=True, highlight=False)
    console.print(f"report:  {outcome.report_path}", soft_wrap=True, highlight=False)
    raise typer.Exit(0 if _all_well(outcome.summary) else 3)


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
    demo: Annotated[bool, typer.Option("--demo", help="The campaign of `make demo`.")] = False,
) -> None:
    """Simulate NIRCam darks, with their truth and a CRDS cache that `run` needs nothing beside."""
    from services.simulate import SimulationPlan, simulate
    from services.simulation.demo import cut_short, demo_plans

    if demo:
        plans = demo_plans()
    elif plan:
        plans = _plans(plan)
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
        )
    if demo:
        cut_short(result.files[0])
    console.print(f"{len(result.files)} simulated exposures in {result.files[0].parent}", soft_wrap=True)
    console.print(f"truth: {result.truth_path}", soft_wrap=True)
    console.print(f"next:  nircam-darks run {result.files[0].parent} --out results", soft_wrap=True)


def _plans(path: Path) -> list["SimulationPlan"]:
    from services.simulate import SimulationPlan

    try:
        return TypeAdapter(list[SimulationPlan]).validate_json(path.read_bytes())
    except OSError as error:
        raise _usage(f"--plan {path}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise _usage(f"--plan {path}: {where}: {fault['msg']}") from None


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


def _all_well(summary: "Summary") -> bool:
    return not summary.failures and all(e.status == "ingested" for e in summary.exposures)


def _usage(message: str) -> typer.BadParameter:
    return typer.BadParameter(message)


def _expand(paths: list[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.glob("*.fits"))
            if not inside:
                raise _usage(f"{path} holds no *.fits files")
            found += inside
        else:
            found.append(path)
    return list(dict.fromkeys(path.absolute() for path in found))


def _settings(**values: Any) -> StageSettings:
    try:
        return StageSettings(**values)
    except ValidationError as error:
        fault = error.errors()[0]
        name = "--" + str(fault["loc"][0]).replace("_", "-")
        raise _usage(f"{name}: {fault['msg']}") from None


def _overrides(texts: list[str]) -> dict[str, Path]:
    overrides = {}
    for text in texts:
        reftype, _, path = text.partition("=")
        if reftype not in REFTYPES:
            raise _usage(f"--override {text}: {reftype!r} is none of {', '.join(REFTYPES)}")
        if not Path(path).is_file():
            raise _usage(f"--override {text}: there is no file {path}")
        overrides[reftype] = Path(path).absolute()
    return overrides


def _bytes(text: str) -> int:
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise _usage(f"--max-memory {text}: give bytes or a size such as 1500MiB or 2GiB") from None


def _pixel(text: str) -> tuple[int, int]:
    try:
        x, y = (int(part) for part in text.split(","))
    except ValueError:
        raise _usage(f"--pixel {text}: give X,Y, such as 320,17") from None
    return x, y


def _simulated_cache(simulated: list[Path]) -> Path | None:
    """Return the cache that `simulate` left beside these files, if all of them share one."""
    caches = {path.parent.parent / "crds_cache" for path in simulated}
    cache = caches.pop() if len(caches) == 1 else None
    return cache if cache and (cache / "config" / "jwst" / "server_config").is_file() else None


def _crds_environment(path: Path | None, context: str | None) -> dict[str, str]:
    # Step parameters are ours: no pars-* reference may change a step without a word.
    environment = {"STPIPE_DISABLE_CRDS_STEPPARS": "true"}
    if path:
        environment["CRDS_PATH"] = str(path.absolute())
    if context:
        environment["CRDS_CONTEXT"] = context
    return environment
