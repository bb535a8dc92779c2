"""What the images are made of, as `make sbom` writes it, against what is really in them."""

import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.docker_engine import CLIENT, TARGETS, Engine
from support.paths import ROOT

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]

INSTALLED = """
import json, platform, sysconfig
from importlib.metadata import distributions
found = distributions(path=[sysconfig.get_path("purelib")])
print(json.dumps([platform.python_version(), {one.metadata["Name"]: one.version for one in found}]))
"""


def sboms(engine: Engine, out: Path, *images: str) -> list[dict[str, Any]]:
    """Return the documents that deploy/sbom.py writes of images."""
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "sbom.py", *images, "--out", out],
        env={**engine.environment, "DOCKER": CLIENT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((out / f"{image}.cdx.json").read_text()) for image in images]


@pytest.fixture(scope="module")
def documents(engine: Engine, images: Mapping[str, str], tmp_path_factory) -> dict[str, dict[str, Any]]:
    out = tmp_path_factory.mktemp("sbom")
    return dict(zip(TARGETS, sboms(engine, out, *(images[target] for target in TARGETS)), strict=True))


def components(document: dict[str, Any], kind: str) -> dict[str, str]:
    """Return name and version of the components whose purl is of a kind."""
    return {
        component["name"]: component["version"]
        for component in document["components"]
        if component.get("purl", "").startswith(f"pkg:{kind}/") and "arch=source" not in component["purl"]
    }


def installed(engine: Engine, image: str) -> tuple[str, dict[str, str]]:
    """Return which Python an image has, and what that finds in its environment."""
    python, document = json.loads(engine.in_image(image, "python", "-c", INSTALLED))
    return python, document


def locked(python: str) -> dict[str, str]:
    """Return the distributions that the lock has for a version of Python on this system."""
    pins = {}
    where = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    for line in (ROOT / "requirements.lock").read_text().replace("\\\n", "").splitlines():
        requirement = Requirement(line.partition(" --hash")[0].strip())
        if requirement.marker is None or requirement.marker.evaluate(where):
            [pin] = requirement.specifier
            pins[canonicalize_name(requirement.name)] = pin.version
    return pins


@pytest.mark.parametrize("target", TARGETS)
def test_it_says_of_which_image_it_is(engine: Engine, images, documents, target: str) -> None:
    whole = documents[target]["metadata"]["component"]
    assert (whole["type"], whole["name"]) == ("container", f"nircam-darks-{target}")
    assert whole["bom-ref"] == engine.docker("image", "inspect", "--format", "{{.Id}}", images[target])
    # And our own distribution and Debian are what it directly depends on
    [direct] = [each for each in documents[target]["dependencies"] if each["ref"] == whole["bom-ref"]]
    named = {component["bom-ref"]: component["name"] for component in documents[target]["components"]}
    assert {named[ref] for ref in direct["dependsOn"]} == {"nircam-darks", "Debian"}
    # And nothing is listed twice, or depends on what is not listed
    assert len(named) == len(documents[target]["components"])
    for dependency in documents[target]["dependencies"]:
        assert {dependency["ref"], *dependency.get("dependsOn", [])} <= {*named, whole["bom-ref"]}


@pytest.mark.parametrize("target", TARGETS)
def test_every_distribution_of_the_image_is_in_it_as_it_was_locked(
    engine: Engine, images, documents, target: str
) -> None:
    # Given what the image's own Python finds
    python, result = installed(engine, images[target])
    assert result.pop("nircam-darks")
    # Then just that is listed, each with its purl
    assert components(documents[target], "pypi") == result
    # And it is of the version that the lock has hashes of
    pins = locked(python)
    assert {canonicalize_name(name): version for name, version in result.items()}.items() <= pins.items()


def test_the_command_line_has_all_that_is_locked_but_the_tools_of_the_build(
    engine: Engine, images, documents
) -> None:
    python, _ = installed(engine, images["cli"])
    listed = {canonicalize_name(name) for name in components(documents["cli"], "pypi")}
    assert locked(python).keys() - listed == {"setuptools", "wheel"}


@pytest.mark.parametrize("target", TARGETS)
def test_every_debian_package_is_in_it(engine: Engine, images, documents, target: str) -> None:
    output = engine.in_image(images[target], "dpkg-query", "-W", "-f", "${Package}==${Version}\\n")
    assert components(documents[target], "deb") == dict(line.split("==") for line in output.splitlines())


def test_it_is_the_same_when_it_is_made_again(engine: Engine, images, documents, tmp_path) -> None:
    [again] = sboms(engine, tmp_path, images["noise"])
    assert again == documents["noise"]


def test_debians_tracker_can_be_asked_about_it(documents, tmp_path) -> None:
    # Given a copy of the tracker that knows one thing against a package of the image
    tracker, sbom = tmp_path / "tracker.json", tmp_path / "noise.cdx.json"
    sbom.write_text(json.dumps(documents["noise"]))
    entry = {"status": "open", "repositories": {"bookworm": "0"}, "urgency": "high"}
    known = {"scope": "remote", "description": "planted", "releases": {"bookworm": entry}}
    tracker.write_text(json.dumps({"zlib": {"CVE-2099-0001": known}}))
    # When it is looked through
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("debsbom"), "sec-scan"),
            *("--db", tracker, "--distro", "bookworm", sbom),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    # Then it is told
    assert done.returncode == 0, done.stderr
    assert "CVE-2099-0001" in done.stdout


def test_a_python_that_debian_does_not_know_of_is_listed_and_what_was_put_beside_it(
    engine: Engine, tmp_path
) -> None:
    # Given an image whose Python is not Debian's, as the python images have it, with a pip of its own
    installed = {
        "opt/darks/pyvenv.cfg": "home = /usr/local/bin\nversion = 3.12.4\n",
        "usr/local/lib/python3.12/site-packages/pip-24.0.dist-info/METADATA": (
            "Metadata-Version: 2.1\nName: pip\nVersion: 24.0\n"
        ),
        "usr/lib/os-release": 'VERSION_ID="12"\n',
        "var/lib/dpkg/status": (
            "Package: dpkg\nStatus: install ok installed\nVersion: 1.21.22\nArchitecture: amd64\n"
            "Maintainer: Somebody <somebody@example.org>\nDescription: packages\n\n"
        ),
    }
    with tarfile.open(tmp_path / "base.tar", "w") as archive:
        for name, text in installed.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, BytesIO(text.encode()))
    engine.docker("import", str(tmp_path / "base.tar"), "darks-foreign-python")
    # Then all three are listed
    [document] = sboms(engine, tmp_path, "darks-foreign-python")
    assert components(document, "generic") == {"python": "3.12.4"}
    assert components(document, "pypi") == {"pip": "24.0"}
    assert components(document, "deb") == {"dpkg": "1.21.22"}


def test_nothing_is_written_of_an_image_that_is_not_there(engine: Engine, tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "sbom.py", "darks-no-such", "--out", tmp_path],
        env={**engine.environment, "DOCKER": CLIENT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "darks-no-such" in done.stderr
    assert not list(tmp_path.iterdir())
