"""The rules of the house that a machine can hold; import-linter holds the arrows (pyproject.toml)."""

import ast
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from support.paths import ROOT, TESTS

#: Lines of a function, its docstring apart, and arguments of one.
LONGEST, MOST_ARGUMENTS = 60, 8
PACKAGES = ("nircam_darks", "services", "shared")
ROOMS = {
    "nircam_darks": {"cli", "operations", "report", "simulation"},
    "services": {"darkref", "ingest", "noise"},
    "shared": {
        "broker",
        "catalog",
        "contracts",
        "nircam",
        "products",
        "ramps",
        "runtime",
        "settings",
        "statistics",
        "store",
    },
    "tests": {
        "benchmarks",
        "contract",
        "deploy",
        "e2e",
        "fuzz",
        "image",
        "integration",
        "monitoring",
        "support",
        "unit",
    },
}


def modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield the path and the syntax tree of every module in these folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def test_every_room_of_the_house_is_on_the_plan():
    for floor, rooms in ROOMS.items():
        folders = {path.parent.name for path in (ROOT / floor).glob("*/*.py")}
        nested = {path.relative_to(ROOT / floor).parts[0] for path in (ROOT / floor).glob("*/*/*.py")}
        assert folders | nested == rooms, floor


def test_services_are_folders_and_nothing_lies_beside_them():
    assert [path.name for path in (ROOT / "services").glob("*.py")] == ["__init__.py"]


def test_only_the_worker_acks():
    acking = [path for path, _ in modules(*PACKAGES) if ".ack(" in (ROOT / path).read_text()]
    assert acking == ["shared/runtime/worker.py"]


def test_no_test_changes_where_python_looks_for_modules():
    own = Path(__file__).relative_to(ROOT)
    results = [
        path for path, _ in modules("tests") if path != str(own) and "sys.path" in (ROOT / path).read_text()
    ]
    assert results == []


def test_modules_of_tests_have_names_of_their_own():
    # pytest imports them by file name, without packages
    names = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_locks_name_no_registry_and_hold_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for lock in ("requirements.lock", "requirements-test.lock"):
        text = (ROOT / lock).read_text()
        # A package may be called httpx; an address has these
        assert not [word for word in ("://", "index-url", "find-links") if word in text]
        for requirement in project["dependencies"]:
            name = requirement.split(">")[0].split("=")[0].split("<")[0].replace("_", "-")
            assert f"\n{name}==" in f"\n{text}", f"{name} is not in {lock}"


def test_a_public_name_means_one_thing():
    places = defaultdict(list)
    for path, tree in modules(*PACKAGES):
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                if any(ast.unparse(each) == "overload" for each in node.decorator_list):
                    continue
                places[node.name].append(path)
    # Every program has a main, and every service a handle
    shared = {name: paths for name, paths in places.items() if len(paths) > 1}
    assert {name: paths for name, paths in shared.items() if name not in ("main", "handle")} == {}


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for path, tree in modules(*PACKAGES):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                yield f"{path}:{node.lineno} {node.name}", node


def test_a_function_fits_a_screen():
    long = {}
    for place, node in functions():
        begin = node.body[0].end_lineno if ast.get_docstring(node) else node.lineno - 1
        if node.end_lineno - begin > LONGEST:
            long[place] = node.end_lineno - begin
    assert long == {}


def test_a_function_takes_few_arguments():
    many = {}
    for place, node in functions():
        decorators = " ".join(ast.unparse(each) for each in node.decorator_list)
        # A compiled kernel takes arrays and numbers, nothing that could hold them together
        if any(word in decorators for word in ("kernel", "njit", "intrinsic")):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = sum(each.arg not in ("self", "cls") for each in arguments)
        if count > MOST_ARGUMENTS:
            many[place] = count
    assert many == {}


def test_sentences_are_held_in_one_place():
    held = []
    for path, tree in modules("tests"):
        if path.endswith("/test_wording.py"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and any(each.arg == "match" for each in node.keywords):
                held.append(f"{path}:{node.lineno}")
            if isinstance(node, ast.Compare) and _is_a_sentence_of_an_error(node):
                held.append(f"{path}:{node.lineno}")
    assert held == []


def _is_a_sentence_of_an_error(node: ast.Compare) -> bool:
    """Say whether this is `"some words" in str(caught.value)`."""
    place = node.comparators[0]
    return (
        isinstance(node.ops[0], ast.In)
        and isinstance(node.left, ast.Constant)
        and len(str(node.left.value).split()) > 1
        and isinstance(place, ast.Call)
        and ast.unparse(place.func) == "str"
        and ast.unparse(place.args[0]).endswith((".value", ".exception"))
    )
