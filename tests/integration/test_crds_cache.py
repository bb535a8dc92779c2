"""Several processes that find an empty CRDS cache, and references that arrive in part: with a server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from astropy.io import fits

from nircam_darks.simulation.crds_cache import references_folder, write_cache
from shared.runtime.python_child import python_environment
from support.crds_server import CrdsServer, running_crds_server
from support.ingest_exposures import IDENTITY, edit, write_exposure, write_references

#: What a worker does before it calibrates an exposure; prints the paths, or the kind of fault.
_LOOK = """
import json, sys
from astropy.io import fits
from services.ingest import references
from services.ingest.probe import header_values
from shared.errors import DarksError
header = header_values(fits.getheader(sys.argv[1]))
try:
    found = references.find_references(references.crds_parameters(header), ["mask", "gain"], {}, "x")
    print(json.dumps({kind: str(path) for kind, path in found.items()}))
except DarksError as fault:
    print(json.dumps({"fault": type(fault).__name__}))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CrdsServer]:
    cache = tmp_path / "server"
    folder = references_folder(cache)
    made = write_references(folder)
    names = {}
    for kind in ("mask", "gain"):
        # crds knows by its name where in a cache a reference belongs.
        path = made[kind].rename(folder / f"jwst_nircam_{kind}_0001.fits")
        names[kind] = {("NRCA3", "SUB64P"): path.name}
    write_cache(cache, names, "2022-01-01T00:00:00")
    with running_crds_server(cache) as running:
        yield running


@pytest.fixture
def exposure(tmp_path: Path) -> Path:
    return edit(write_exposure(tmp_path / "a_uncal.fits"), **IDENTITY)


def look(server: CrdsServer, cache: Path, exposure: Path, processes: int = 1) -> list[dict[str, str]]:
    """What so many processes find that look for references at once."""
    environment = python_environment(**server.environment(cache))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _LOOK, str(exposure)], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    return [json.loads(output.strip().splitlines()[-1]) for output in outputs]


def is_whole(path: str, server: CrdsServer) -> bool:
    return Path(path).read_bytes() == server.files()[Path(path).name].read_bytes()


@pytest.mark.slow
def test_processes_that_find_an_empty_cache_fetch_each_file_once(
    server: CrdsServer, exposure: Path, tmp_path: Path
) -> None:
    # Given a server from which a reference takes longer than crds waits for another process
    server.pause = 6.0
    # When three processes need the same references
    found = look(server, tmp_path / "cache", exposure, processes=3)
    # Then each has them, and each file was fetched once
    assert found[0].keys() == {"mask", "gain"}
    assert found == [found[0]] * 3
    assert set(server.fetched.values()) == {1}
    assert all(is_whole(path, server) for path in found[0].values())


def test_half_a_reference_is_not_kept_and_the_next_attempt_fetches_it(
    server: CrdsServer, exposure: Path, tmp_path: Path
) -> None:
    # Given a server that sends one file short, once
    name = next(name for name in server.files() if "_gain_" in name and name.endswith(".fits"))
    server.cut = {name}
    # When it is fetched, Then that is to be tried again, and nothing of it is in the cache
    assert look(server, tmp_path / "cache", exposure) == [{"fault": "TransientError"}]
    assert not list((tmp_path / "cache").rglob(name))
    # and the next attempt has the whole file
    [found] = look(server, tmp_path / "cache", exposure)
    assert is_whole(found["gain"], server)


def test_half_a_reference_that_lies_in_the_cache_is_fetched_again(
    server: CrdsServer, exposure: Path, tmp_path: Path
) -> None:
    # Given a cache in which somebody's copy of a reference was cut short
    [found] = look(server, tmp_path / "cache", exposure)
    broken = Path(found["gain"])
    broken.write_bytes(broken.read_bytes()[: 2880 + 1440])
    # When it is needed, Then it is fetched again, and the other is not
    assert look(server, tmp_path / "cache", exposure) == [found]
    assert is_whole(found["gain"], server)
    assert (server.fetched[broken.name], server.fetched[Path(found["mask"]).name]) == (2, 1)
    assert fits.getdata(broken, "SCI").shape == (64, 64)


@pytest.mark.parametrize(
    ("edits", "fault"), [({"SUBARRAY": "SUB640"}, "MissingReference"), ({}, "UncachedReference")]
)
def test_what_crds_has_not_and_what_the_cache_lacks_are_told_apart(
    server: CrdsServer, exposure: Path, edits: dict[str, str], fault: str
) -> None:
    # Given a cache without a server, that lacks the gain of one subarray, and has rules for no other
    next(path for name, path in server.files().items() if "_gain_" in name and name.endswith("fits")).unlink()
    edit(exposure, **edits)
    server.url = "https://crds-serverless-mode.stsci.edu"
    # When references are looked for, Then the fault says which of the two it is
    assert look(server, server.cache, exposure) == [{"fault": fault}]
