"""`verify_store` on every kind of store: it finds each kind of damage, and nothing where there is none."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nircam_darks.cli.main import app
from nircam_darks.operations.verify import VerifiedStore, verify_store
from shared.products.ramp import RAMP
from shared.ramps.digests import DIGESTS
from shared.store.base import Store
from shared.store.local import LocalStore
from shared.store.manifest import MANIFEST, Draft, Manifest, find
from support.configurations import configuration
from support.darkref_sets import KeyResults
from support.flipping_store import byte_of_pixel
from support.noise_sets import put_ramp, white_ramps

KEY = configuration(64, 64, 4)
REFERENCE = "darkref/nrca3/set1/" + "0" * 32


@pytest.fixture
def ramp(store: Store, tmp_path: Path) -> Manifest:
    """A ramp in a store that also holds a reference, a claim and notes beside products."""
    member = put_ramp(store, tmp_path, KEY, white_ramps(KEY, 2))
    draft = Draft(store, "reference", REFERENCE, [], {}, {})
    draft.add("dark.fits", b"dark" * 1000)
    draft.commit(KeyResults(key=KEY))
    store.put(f"{REFERENCE}/sign_off.json", b"{}")
    store.put("exposures/jw1/abc/claim.json", b"{}")
    manifest = find(store, member.manifest.removesuffix(f"/{MANIFEST}"))
    assert manifest is not None
    return manifest


def faults(store: Store) -> tuple[list[tuple[str, str]], VerifiedStore]:
    result = VerifiedStore()
    return [(fault.kind, fault.key) for fault in verify_store(store, result)], result


def flip(store: Store, key: str, place: int) -> None:
    data = bytearray(store.get(key))
    data[place] ^= 1
    store.put(key, bytes(data))


def test_a_whole_store_has_no_faults(store: Store, ramp: Manifest) -> None:
    found, result = faults(store)
    assert found == []
    assert (result.products, result.objects, result.without_digests) == (2, 3, 0)
    assert result.bytes_read == 4000 + sum(entry.size for entry in ramp.objects)


def test_a_changed_pixel_is_found_by_its_rows(store: Store, ramp: Manifest, tmp_path: Path) -> None:
    # Given a bit of a pixel that is no longer as it was
    entry = ramp.object(RAMP)
    (tmp_path / "ramp").write_bytes(store.get(entry.key))
    flip(store, entry.key, byte_of_pixel(tmp_path / "ramp", "GROUPDQ", 1, 2, 30, 7))
    # When the store is verified, Then the fault names the object, the HDU and its plane
    result = VerifiedStore()
    [fault] = verify_store(store, result)
    assert (fault.kind, fault.key, fault.product) == ("sha256", entry.key, ramp.path)
    assert fault.is_damage
    assert fault.detail.split(":")[0] == "GROUPDQ"
    assert "plane 7" in fault.detail
    assert (result.damaged, result.orphans) == (1, 0)


@pytest.mark.parametrize(
    ("kind", "do"),
    [
        ("sha256", lambda store, key: flip(store, key, 1)),
        ("size", lambda store, key: store.put(key, b"dark")),
        ("missing", lambda store, key: store.delete(key)),
    ],
)
@pytest.mark.parametrize("name", ["dark.fits", DIGESTS, RAMP])
def test_each_kind_of_damage_is_told_apart(
    store: Store, ramp: Manifest, kind: str, do: Callable[[Store, str], None], name: str
) -> None:
    reference = find(store, REFERENCE)
    assert reference is not None
    key = (reference if name == "dark.fits" else ramp).object(name).key
    do(store, key)
    found, result = faults(store)
    assert found == [(kind, key)]
    assert result.damaged == 1


def test_damaged_manifests_and_orphans_are_named(store: Store, ramp: Manifest) -> None:
    store.put(f"{REFERENCE}/{MANIFEST}", store.get(f"{REFERENCE}/{MANIFEST}")[:100])
    store.put(f"{ramp.path}/0123abcd/ramp.fits", b"left")
    store.put(f"noise/x/{'1' * 32}/0123abcd/map.fits", b"left")
    found, result = faults(store)
    assert sorted(found) == [
        ("manifest", f"{REFERENCE}/{MANIFEST}"),
        ("orphan", f"{ramp.path}/0123abcd/ramp.fits"),
        ("orphan", f"noise/x/{'1' * 32}/0123abcd/map.fits"),
    ]
    assert (result.damaged, result.orphans) == (1, 2)


def test_digests_that_do_not_fit_the_ramp_are_no_proof(store: Store, ramp: Manifest, tmp_path: Path) -> None:
    # Given a ramp with the digests of another, both as their manifest says
    other = put_ramp(store, tmp_path, KEY, white_ramps(KEY, 2, seed=8), number=2)
    digests = find(store, other.manifest.removesuffix(f"/{MANIFEST}"))
    assert digests is not None
    swapped = ramp.model_copy(update={"objects": [ramp.object(RAMP), digests.object(DIGESTS)]})
    store.put(f"{ramp.path}/{MANIFEST}", swapped.model_dump_json(by_alias=True).encode())
    found, _ = faults(store)
    assert ("digests", ramp.object(RAMP).key) in found


def test_the_command_says_so_by_its_exit_code(tmp_path: Path) -> None:
    # Given a results folder
    store = LocalStore(tmp_path / "results")
    member = put_ramp(store, tmp_path, KEY, np.zeros((1, 4, 64, 64), np.float32))
    store.close()
    runner = CliRunner()
    # When it is verified whole, Then 0
    whole = runner.invoke(app, ["verify", str(tmp_path / "results"), "--json"])
    assert whole.exit_code == 0
    assert json.loads(whole.stdout)["summary"]["damaged"] == 0
    # When it is damaged, Then 3, and a line for the fault
    flip(store, member.ramp.key, 9000)
    damaged = runner.invoke(app, ["verify", str(tmp_path / "results"), "--json"])
    assert damaged.exit_code == 3
    fault, summary = map(json.loads, damaged.stdout.splitlines())
    assert (fault["kind"], fault["key"]) == ("sha256", member.ramp.key)
    assert summary["summary"]["damaged"] == 1
    assert runner.invoke(app, ["verify", str(tmp_path / "results")]).exit_code == 3
    # When there is no such folder, Then 2
    assert runner.invoke(app, ["verify", str(tmp_path / "nothing")]).exit_code == 2
