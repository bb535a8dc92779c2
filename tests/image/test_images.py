"""What is in the images, and what is not."""

import json
from pathlib import Path

import pytest

from support.docker_engine import TARGETS, Engine
from support.paths import ROOT

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]

SERVICES = ("ingest", "darkref", "noise")


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    return request.param


def settings_of(engine: Engine, image: str) -> dict:
    return json.loads(engine.docker("image", "inspect", image))[0]["Config"]


def test_an_image_says_what_it_is_and_runs_as_nobody(engine: Engine, images, target: str) -> None:
    config = settings_of(engine, images[target])
    # Given a numeric user, so that Kubernetes can tell that it is not root
    user, _, group = config["User"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert engine.in_image(images[target], "id", "-u") == user
    # Then it names itself, and stops at the signal that a service stops at
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels["title"] == f"nircam-darks-{target}"
    assert labels["revision"] == "test"
    assert labels["version"] == engine.in_image(
        images[target],
        "python",
        "-c",
        "from importlib.metadata import version; print(version('nircam-darks'))",
    )
    assert config["StopSignal"] == "SIGTERM"
    assert ("Healthcheck" in config) == (target in SERVICES)


def test_no_tool_and_no_leftover_of_the_build_is_in_it(engine: Engine, images, target: str) -> None:
    # Compilers and linkers, pip in our environment, caches, and our tests, settings or history
    looked_for = (
        (
            "for one in cc gcc g++ c++ clang tcc ld as make cargo; do command -v $one; done; "
            "ls -d /opt/darks/bin/pip /opt/darks/bin/pip[0-9]* /opt/darks/lib/python3*/site-packages/pip; "
            "ls -d /source /parts; "
            "find / -xdev ( -name '*.whl' -o -name .git -o -name .env ) "
            "! -path '/usr/share/python-wheels/*'; "
            "find / -xdev -type d -path '*/.cache/*'"
        )
        .replace("( ", "\\( ")
        .replace(" )", " \\)")
    )
    result = engine.in_image(
        images[target], "sh", "-c", f"({looked_for}) 2>/dev/null; true", options=("--user", "0")
    )
    assert result == ""
    # And nobody may change what is run
    writable = "find /opt/darks ! -type l -perm /022; find /opt/darks ! -user 0; find /opt/darks -perm /6000"
    assert engine.in_image(images[target], "sh", "-c", writable, options=("--user", "0")) == ""


def test_the_pip_of_a_base_is_not_in_it_either(engine: Engine, base_image: str, tmp_path: Path) -> None:
    # Given a base that brings a pip, as the python images do
    tools = (
        "/usr/local/bin/pip3 /usr/local/lib/python3.11/site-packages/pip /usr/local/lib/python3.11/ensurepip"
    )
    (tmp_path / "Dockerfile").write_text(f"FROM {base_image} AS base-with-pip\nRUN mkdir -p {tools}\n")
    base = engine.build(tmp_path, "base-with-pip", base_image)
    assert engine.in_image(base, "ls", "-d", *tools.split()).split() == sorted(tools.split())
    # Then what is made on it has none
    frame = engine.build(ROOT, "frame", base)
    result = engine.docker(
        *("run", "--rm", "--network", "host", "--entrypoint", "sh", frame),
        *("-c", f"ls -d {tools} 2>/dev/null; true"),
    )
    assert result == ""


@pytest.mark.parametrize(
    ("target", "has", "has_not"),
    [
        (
            "ingest",
            "jwst",
            ("astroquery", "typer", "services.noise", "services.darkref", "nircam_darks"),
        ),
        (
            "darkref",
            "numba",
            ("astroquery", "typer", "services.noise", "services.ingest", "nircam_darks"),
        ),
        (
            "noise",
            "numba",
            ("jwst", "crds", "matplotlib", "services.ingest", "services.darkref", "nircam_darks"),
        ),
    ],
)
def test_a_service_has_what_it_needs_and_no_more(engine: Engine, images, target, has, has_not) -> None:
    program = (
        "import importlib.util, sys; "
        "print([name for name in sys.argv[1:] if importlib.util.find_spec(name) is not None])"
    )
    result = engine.in_image(images[target], "python", "-c", program, has, *has_not)
    assert result == str([has])


@pytest.mark.parametrize("target", SERVICES)
def test_every_module_of_a_service_can_be_imported(engine: Engine, images, target: str) -> None:
    # Whatever is imported only when it is needed is imported here, and what its process starts by name.
    program = (
        "import importlib, pkgutil, sys, services, shared.runtime.jobs, shared.runtime.service\n"
        "for found in pkgutil.walk_packages(services.__path__, 'services.'):\n"
        "    if not found.name.endswith('__main__'):\n"
        "        importlib.import_module(found.name)\n"
        f"print('services.{target}.handler' in sys.modules)"
    )
    assert engine.in_image(images[target], "python", "-c", program) == "True"


def test_without_a_place_to_write_it_says_so(engine: Engine, images) -> None:
    done = engine.ask("run", "--rm", "--read-only", "--network", "host", images["noise"])
    assert done.returncode == 2
    assert "give the container a tmpfs" in done.stderr


def test_sizes(engine: Engine, images, record_property) -> None:
    sizes = {
        target: int(engine.docker("image", "inspect", "--format", "{{.Size}}", image))
        for target, image in images.items()
    }
    record_property("bytes", str(sizes))
    assert sizes["noise"] < sizes["ingest"] < sizes["darkref"] < sizes["cli"]


def test_the_command_line_works_in_its_image(engine: Engine, images) -> None:
    assert "dead-letters" in engine.in_image(images["cli"], "nircam-darks", "--help")
