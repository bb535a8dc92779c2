"""Write a software bill of materials (SBOM) for each image, as a CycloneDX document.

``python deploy/sbom.py IMAGE... --out FOLDER``, run in the test environment, writes a file ``IMAGE.cdx.json``
for each image. It trusts no lock file and no Dockerfile but reads the image's own file system (`docker
export`): debsbom lists its Debian packages, cyclonedx-py its Python distributions. The environment variable
``DOCKER`` names another client.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import uuid
from pathlib import Path
from typing import Any

from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator

DOCKER = os.environ.get("DOCKER", "docker")
PROJECT = "nircam-darks"
#: CycloneDX version asked of both tools; only documents of the same version can be merged.
VERSION = SchemaVersion.V1_6
#: The files in which Debian's tools record what is installed.
_DEBIAN = re.compile(
    r"var/lib/dpkg/(status|status\.d/.+|arch)|var/lib/apt/extended_states|usr/lib/os-release"
)
#: The files in which Python does. Debian's own dist-packages belong to Debian's packages.
_PYTHON = re.compile(
    r"(?:opt/darks|usr/local)/lib/python3\.\d+/site-packages/([^/]+\.dist-info)/(METADATA|direct_url\.json)"
)
_ENVIRONMENT = "opt/darks/pyvenv.cfg"


def main() -> None:
    """Write the SBOM of each image."""
    parser = argparse.ArgumentParser(description="Write a CycloneDX SBOM for each image.")
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for image in given.images:
        document = document_of(image)
        name = re.sub(r"[^\w.-]", "_", image.removesuffix(":latest"))
        path = given.out / f"{name}.cdx.json"
        path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
        print(f"{path}: {len(document['components'])} components")


def document_of(image: str) -> dict[str, Any]:
    """Return the CycloneDX document of an image; it is reproducible."""
    [about] = json.loads(_run(DOCKER, "image", "inspect", image))
    with tempfile.TemporaryDirectory(prefix="darks-sbom-") as folder:
        root, environment = Path(folder) / "root", Path(folder) / "environment"
        # cyclonedx-py needs an environment to inspect; the image's own Python may not run here.
        _run(sys.executable, "-m", "venv", "--without-pip", str(environment))
        [site] = environment.glob("lib/python3*/site-packages")
        _extract(image, root, site)
        debian, python = _debian(root, image), _python(environment)
        interpreters = _interpreters(root, image)
    whole, system = _whole(about, image), debian["metadata"]["component"]
    own = [component for component in python["components"] if component["name"] == PROJECT]
    components = [system, *debian["components"], *python["components"], *interpreters]
    direct = [component["bom-ref"] for component in (system, *own, *interpreters)]
    dependencies = [*debian["dependencies"], *python["dependencies"]]
    dependencies.append({"ref": whole["bom-ref"], "dependsOn": direct})
    tools = [tool for part in (debian, python) for tool in part["metadata"]["tools"]["components"]]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": VERSION.to_version(),
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, about['Id'])}",
        "version": 1,
        "metadata": {"timestamp": about["Created"], "component": whole, "tools": {"components": tools}},
        "components": sorted(components, key=lambda component: component["bom-ref"]),
        "dependencies": sorted(dependencies, key=lambda dependency: dependency["ref"]),
    }
    wrong = make_schemabased_validator(OutputFormat.JSON, VERSION).validate_str(json.dumps(document))
    if wrong is not None:
        raise SystemExit(f"sbom: {image}: the document is not valid CycloneDX: {wrong}")
    return document


def _whole(about: dict[str, Any], image: str) -> dict[str, Any]:
    """Return the image itself as a component, from what `docker image inspect` says about it."""
    labels = about["Config"]["Labels"] or {}
    return {
        "bom-ref": about["Id"],
        "type": "container",
        "name": labels.get("org.opencontainers.image.title", image),
        "version": labels.get("org.opencontainers.image.version", about["Id"]),
        "description": labels.get("org.opencontainers.image.description", image),
        "properties": [{"name": name, "value": text} for name, text in sorted(labels.items())],
    }


def _extract(image: str, root: Path, site: Path) -> None:
    """Extract the records of installed packages from an image: Debian's to `root`, Python's to `site`."""
    # The container is never started. `docker save` would give layers, including what later layers remove.
    container = _run(DOCKER, "create", image, "true").strip()
    try:
        with (
            subprocess.Popen([DOCKER, "export", container], stdout=subprocess.PIPE) as export,
            tarfile.open(fileobj=export.stdout, mode="r|") as archive,
        ):
            for member in archive:
                python = _PYTHON.fullmatch(member.name)
                if python is not None:
                    path = site / python[1] / python[2]
                elif member.name == _ENVIRONMENT or _DEBIAN.fullmatch(member.name):
                    path = root / member.name
                else:
                    continue
                content = archive.extractfile(member)
                if content is not None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
        if export.returncode:
            raise SystemExit(f"sbom: `{DOCKER} export` of {image} ended with {export.returncode}")
    finally:
        _run(DOCKER, "rm", container)


def _debian(root: Path, image: str) -> dict[str, Any]:
    release = _assignments(root / "usr/lib/os-release")
    if not (root / "var/lib/dpkg").is_dir():
        raise SystemExit(f"sbom: {image} has no Debian packages; only Debian-like bases can be listed")
    return _made(
        *(_tool("debsbom"), "generate", "--root", str(root), "--sbom-type", "cdx", "--out", "-"),
        *("--cdx-schema-version", VERSION.to_version()),
        *("--distro-version", release.get("VERSION_ID", "unknown")),
    )


def _python(environment: Path) -> dict[str, Any]:
    return _made(
        *(_tool("cyclonedx-py"), "environment", "--spec-version", VERSION.to_version()),
        # The merged document is validated as a whole, which takes seconds.
        *("--output-reproducible", "--no-validate", str(environment)),
    )


def _interpreters(root: Path, image: str) -> list[dict[str, Any]]:
    """Return Python itself if it is not a Debian package, as in the python images."""
    path = root / _ENVIRONMENT
    if not path.is_file():
        raise SystemExit(f"sbom: {image} has no /{_ENVIRONMENT}: it is not an image of this project")
    settings = _assignments(path)
    if settings["home"] == "/usr/bin":
        return []
    version = settings["version"]
    return [
        {
            "bom-ref": f"python=={version}",
            "type": "application",
            "name": "python",
            "version": version,
            "purl": f"pkg:generic/python@{version}",
            "cpe": f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*",
        }
    ]


def _assignments(path: Path) -> dict[str, str]:
    """Read lines of ``name = value``, quoted or not."""
    if not path.is_file():
        return {}
    pairs = (line.partition("=") for line in path.read_text().splitlines() if "=" in line)
    return {name.strip(): text.strip().strip('"') for name, _, text in pairs}


def _made(*command: str) -> dict[str, Any]:
    """Return the JSON document that a tool prints."""
    document: dict[str, Any] = json.loads(_run(*command))
    return document


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _run(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"sbom: {' '.join(command)}: {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
