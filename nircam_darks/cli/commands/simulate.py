"""`nircam-darks simulate`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from nircam_darks.cli.options import FieldOption, ResultsFolder, field_options, usage
from nircam_darks.simulation.plan import SimulationPlan

_EXPOSURES, _SKY = "Exposures", "Cosmic rays"

#: The fields of a plan that `simulate` takes as options.
SIMULATE_OPTIONS = (
    FieldOption("detector", _EXPOSURES, default="NRCA1"),
    *(
        FieldOption(name, _EXPOSURES)
        for name in ("subarray", "readpatt", "ngroups", "nints", "exposures", "noutputs", "start", "seed")
    ),
    *(FieldOption(name, _SKY) for name in ("scene", "cosmic_ray_rate", "snowballs")),
)
#: Names that are written in capitals in a header, however they are typed.
_CAPITALS = ("detector", "subarray", "readpatt", "scene")


@field_options(SimulationPlan, SIMULATE_OPTIONS)
def simulate_command(
    out: ResultsFolder,
    values: dict[str, Any],
    plan: Annotated[
        Path | None,
        typer.Option(help="JSON list of plans, each with the names below, in place of the other options."),
    ] = None,
    real_references: Annotated[
        Path | None,
        typer.Option(
            help="Folder with real CRDS mask and readnoise files, whose pixels the simulated ones resemble."
        ),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Simulate the campaign of `make demo`.")] = False,
) -> None:
    """Simulate NIRCam darks, with the truth about them and a CRDS cache: all that `run` needs."""
    from rich.console import Console
    from rich.progress import Progress

    from nircam_darks.report.text import count
    from nircam_darks.simulation.demo_campaign import cut_short, demo_plans
    from nircam_darks.simulation.simulate import holds_simulation, simulate

    if demo:
        plans = demo_plans()
    elif plan:
        plans = read_plans(plan)
    else:
        plans = [SimulationPlan(**values | {name: values[name].upper() for name in _CAPITALS})]
    console = Console()
    if holds_simulation(plans, out.absolute()):
        console.print(f"{out.absolute()} holds these exposures already", soft_wrap=True)
        return
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
    folder = result.files[0].parent
    console.print(f"{count(len(result.files), 'simulated exposure')} in {folder}", soft_wrap=True)
    console.print(f"truth: {result.truth_path}", soft_wrap=True)
    console.print(f"next:  nircam-darks run {folder} --out results", soft_wrap=True)


def read_plans(path: Path) -> list[SimulationPlan]:
    """Return the plans of ``simulate --plan``."""
    try:
        return TypeAdapter(list[SimulationPlan]).validate_json(path.read_bytes())
    except OSError as error:
        raise usage(f"--plan {path}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise usage(f"--plan {path}: {where}: {fault['msg']}") from None
