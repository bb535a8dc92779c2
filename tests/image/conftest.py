"""A Docker of the tests' own, and the images in it; `pytest -m image` alone collects them."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support.docker_engine import TARGETS, Engine, running_engine
from support.paths import ROOT

#: What `.dockerignore` lets through, and what says so.
CONTEXT = (
    *("Dockerfile", ".dockerignore", "LICENSE", "pyproject.toml", "README.md", "requirements.lock"),
    *("deploy/image", "nircam_darks", "services", "shared"),
)


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave these tests to `make test-image`."""
    return None if "image" in config.option.markexpr else True


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with running_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> str:
    """A stand-in for a python slim image, since none can be pulled everywhere."""
    if engine.ask("image", "inspect", "darks-base").returncode == 0:
        return "darks-base"
    with tempfile.TemporaryDirectory(prefix="darks-base-") as folder:
        archive = Path(folder) / "base.tar"
        subprocess.run(["sh", ROOT / "deploy" / "image" / "base.sh", archive], check=True)
        engine.docker("import", str(archive), "darks-base")
    return "darks-base"


@pytest.fixture(scope="session")
def images(engine: Engine, base_image: str) -> Mapping[str, str]:
    """Each target's image by its name; all of one state of the sources, whoever edits them meanwhile."""
    with tempfile.TemporaryDirectory(prefix="darks-context-") as folder:
        for name in CONTEXT:
            copy = Path(folder) / name
            copy.parent.mkdir(exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / name, copy)
        return {target: engine.build(Path(folder), target, base_image) for target in TARGETS}
