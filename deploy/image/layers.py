"""Split an installed environment into the parts that the images are made of.

``python layers.py OUT``, run by the Python of that environment, creates under OUT one folder for each set of
services (``darkref-ingest``), with the distributions that exactly these services need, and ``own-SERVICE``
with our own code. Each folder is laid out like the environment, so that an image is the sum of its parts, and
images share the layers that they have in common. The files are hard links.

What a service needs is read from its code, not from a list kept by hand: the modules of its own folder, what
these import from `shared`, the distributions that provide what all of them import, and what these
distributions require. Whatever a distribution requires is kept, whether or not it is seen to be imported.
"""

import ast
import itertools
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shared.contracts.routing import STAGES

SERVICES = tuple(sorted(stage.name for stage in STAGES))
PROJECT = "nircam-darks"
#: Modules that a service starts by names in strings, which no import statement shows.
_STARTED = ("shared.runtime.service", "shared.runtime.jobs")


def main(out: Path) -> None:
    """Split the environment that runs this script."""
    site = Path(sysconfig.get_path("purelib"))
    needed = {service: distributions_of(service, site) for service in SERVICES}
    for size in range(1, len(SERVICES) + 1):
        for services in itertools.combinations(SERVICES, size):
            names = set.intersection(*(needed[service] for service in services))
            names -= set().union(*(needed[service] for service in SERVICES if service not in services))
            _link((path for name in names for path in _files(name, site)), out / "-".join(services))
    own = list(_files(PROJECT, site))
    for service in SERVICES:
        _link((path for path in own if _is_for(path.relative_to(site), service)), out / f"own-{service}")


def distributions_of(service: str, site: Path) -> set[str]:
    """Return the canonical names of the distributions that a service needs, except our own."""
    holders = metadata.packages_distributions()
    wanted: set[tuple[str, str]] = set()
    for top in _foreign_names(service, site):
        wanted |= {(canonicalize_name(holder), "") for holder in holders.get(top, [])}
    needed: set[tuple[str, str]] = set()
    while wanted:
        name, extra = wanted.pop()
        if (name, extra) in needed or name == PROJECT:
            continue
        needed.add((name, extra))
        for text in metadata.distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                required = canonicalize_name(requirement.name)
                wanted |= {(required, each) for each in ("", *requirement.extras)}
    return {name for name, _ in needed}


def _foreign_names(service: str, site: Path) -> set[str]:
    """Return the top-level names that a service's modules import, or whose version they ask for."""
    folder = site / "services" / service
    waiting = {".".join(path.relative_to(site).with_suffix("").parts) for path in folder.rglob("*.py")}
    waiting |= set(_STARTED)
    seen: set[str] = set()
    foreign: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        path = _source(module, site)
        if path is None:
            continue
        for name in _imported(ast.parse(path.read_text())):
            if name.partition(".")[0] in ("services", "shared"):
                # `from shared import errors` names a module, `from shared.errors import x` does not.
                parts = name.split(".")
                waiting |= {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
            else:
                foreign.add(name.partition(".")[0])
    return foreign


def _source(module: str, site: Path) -> Path | None:
    path = site.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            # metadata.version("jwst") fails if jwst is not installed.
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == "version" and isinstance(node.args[0].value, str):
                yield node.args[0].value


def _files(name: str, site: Path) -> Iterator[Path]:
    """Return the files of a distribution in `site`; its commands are elsewhere."""
    for file in metadata.distribution(name).files or []:
        path = Path(os.path.normpath(site / file))
        if path.is_relative_to(site) and path.is_file():
            yield path


def _is_for(path: Path, service: str) -> bool:
    """Return whether a service needs a file of our own: not those of other services or upper floors."""
    top, second, *_ = [part for part in path.parts if part != "__pycache__"]
    if top == "services":
        return second == service or second.startswith("__init__.")
    return top != "nircam_darks"


def _link(paths: Iterable[Path], part: Path) -> None:
    part.mkdir(parents=True, exist_ok=True)
    size = 0
    for path in paths:
        link = part / path.relative_to(sys.prefix)
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.exists():
            # Some distributions bring the same file, such as docs/Makefile.
            continue
        os.link(path, link)
        size += path.stat().st_size
    print(f"{part.name}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
