"""What the command line's options mean: text to values, each fault one line that names the option."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from shared.settings import StageSettings

if TYPE_CHECKING:
    from services.simulation.plan import SimulationPlan

#: Reference types that the pipeline's steps take; the names CRDS uses.
REFTYPES = ("mask", "saturation", "superbias", "refpix", "linearity", "gain", "readnoise")

#: Options that are not called as their setting is.
_NAMED_OTHERWISE = {"previous_references": "--compare-with"}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def read_plans(path: Path) -> list["SimulationPlan"]:
    """Return the plans of ``simulate --plan``."""
    from services.simulate import SimulationPlan

    try:
        return TypeAdapter(list[SimulationPlan]).validate_json(path.read_bytes())
    except OSError as error:
        raise usage(f"--plan {path}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise usage(f"--plan {path}: {where}: {fault['msg']}") from None


def usage(message: str) -> typer.BadParameter:
    """Return the error that ends the command with exit code 2."""
    return typer.BadParameter(message)


def exposure_files(paths: list[Path]) -> list[Path]:
    """Return the files, those in a folder by name, each once."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.glob("*.fits"))
            if not inside:
                raise usage(f"{path} holds no *.fits files")
            found += inside
        else:
            found.append(path)
    return list(dict.fromkeys(path.absolute() for path in found))


def stage_settings(**values: Any) -> StageSettings:
    """Return the settings; a value out of bounds names its option."""
    try:
        return StageSettings(**values)
    except ValidationError as error:
        fault = error.errors()[0]
        setting = str(fault["loc"][0])
        name = _NAMED_OTHERWISE.get(setting, "--" + setting.replace("_", "-"))
        raise usage(f"{name}: {fault['msg']}") from None


def earlier_references(texts: list[str]) -> list[str]:
    """Return the addresses of ``--compare-with``: files of this machine in full, buckets' as they are."""
    found = []
    for text in texts:
        if "://" not in text:
            if not Path(text).is_file():
                raise usage(f"--compare-with {text}: there is no such file")
            text = str(Path(text).absolute())
        found.append(text)
    return found


def overrides(texts: list[str]) -> dict[str, Path]:
    """Return reference files by type, of ``REFTYPE=PATH``."""
    found = {}
    for text in texts:
        reftype, _, path = text.partition("=")
        if reftype not in REFTYPES:
            raise usage(f"--override {text}: {reftype!r} is none of {', '.join(REFTYPES)}")
        if not Path(path).is_file():
            raise usage(f"--override {text}: there is no file {path}")
        found[reftype] = Path(path).absolute()
    return found


def size_in_bytes(text: str) -> int:
    """Return the bytes of ``2GiB``."""
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise usage(f"--max-memory {text}: give bytes or a size such as 1500MiB or 2GiB") from None


def pixel_place(text: str) -> tuple[int, int]:
    """Return (x, y) of ``X,Y``."""
    try:
        x, y = (int(part) for part in text.split(","))
    except ValueError:
        raise usage(f"--pixel {text}: give X,Y, such as 320,17") from None
    return x, y


def simulated_cache(simulated: list[Path]) -> Path | None:
    """Return the cache that `simulate` left beside these files, if all of them share one."""
    caches = {path.parent.parent / "crds_cache" for path in simulated}
    cache = caches.pop() if len(caches) == 1 else None
    return cache if cache and (cache / "config" / "jwst" / "server_config").is_file() else None


def crds_environment(path: Path | None, context: str | None) -> dict[str, str]:
    """Return what the job processes need in their environment to find references."""
    # Step parameters are ours: no pars-* reference may change a step without a word.
    environment = {"STPIPE_DISABLE_CRDS_STEPPARS": "true"}
    if path:
        environment["CRDS_PATH"] = str(path.absolute())
    if context:
        environment["CRDS_CONTEXT"] = context
    return environment
