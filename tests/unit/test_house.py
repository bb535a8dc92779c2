"""The rules of the house that a machine can hold."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = ("ingest", "darkref", "noise")


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize(
    "path", sorted((ROOT / "shared").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_shared_imports_nothing_from_services(path):
    assert not [name for name in _imports(path) if name.split(".")[0] == "services"]


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_imports_another_or_what_stands_above(stage):
    for path in (ROOT / "services" / stage).rglob("*.py"):
        foreign = [
            name
            for name in _imports(path)
            if name.startswith("services.") and not name.startswith(f"services.{stage}")
        ]
        assert not foreign, f"{path.name} imports {foreign}"


@pytest.mark.parametrize("stage", STAGES)
def test_only_handlers_touch_the_store(stage):
    for path in (ROOT / "services" / stage).rglob("*.py"):
        if path.name != "handler.py":
            touched = [n for n in _imports(path) if n.startswith(("shared.store", "shared.broker"))]
            assert not touched, f"{path.name} imports {touched}"


def test_only_the_worker_acks():
    acking = [
        str(path.relative_to(ROOT))
        for folder in ("services", "shared")
        for path in (ROOT / folder).rglob("*.py")
        if ".ack(" in path.read_text()
    ]
    assert acking == ["shared/worker.py"]


def test_locks_name_no_registry_and_hold_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for lock in ("requirements.lock", "requirements-test.lock"):
        text = (ROOT / lock).read_text()
        # A package may be called httpx; an address has these
        assert not [word for word in ("://", "index-url", "find-links") if word in text]
        for requirement in project["dependencies"]:
            name = requirement.split(">")[0].split("=")[0].split("<")[0].replace("_", "-")
            assert f"\n{name}==" in f"\n{text}", f"{name} is not in {lock}"
