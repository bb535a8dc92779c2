"""What every store promises (shared/store/base.py)."""

import hashlib
import os
import pickle
import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import StoreUnavailable
from shared.store.base import Store

BAD_KEYS = ["", "/a", "a/", "a//b", "a/./b", "../a", "a/..", ".", "a\\b", "a\0b"]

part = st.text(st.sampled_from("ab-._0é"), min_size=1, max_size=4).filter(lambda p: p not in {".", ".."})


def test_what_was_put_comes_back(store: Store) -> None:
    info = store.put("a/b/c.bin", b"dark")
    assert info == (4, hashlib.sha256(b"dark").hexdigest())
    assert store.get("a/b/c.bin") == b"dark"


def test_a_second_put_replaces(store: Store) -> None:
    store.put("a", b"first, and longer")
    store.put("a", b"second")
    assert store.get("a") == b"second"


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert list(store.list("")) == ["empty"]


@pytest.mark.parametrize("key", ["none", "a/none", "a", "a/b/c.bin/d"])
def test_what_is_not_there_is_a_key_error(store: Store, key: str) -> None:
    store.put("a/b/c.bin", b"dark")
    for call in (store.get, store.open):
        with pytest.raises(KeyError) as caught:
            call(key)
        assert caught.value.args == (key,)


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_bad_key_is_refused_everywhere(store: Store, key: str, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x")
    calls: list[Callable[[], object]] = [
        lambda: store.put(key, b"x"),
        lambda: store.put_file(key, file),
        lambda: store.put_if_absent(key, b"x"),
        lambda: store.get(key),
        lambda: store.open(key),
        lambda: store.uri(key),
        lambda: store.delete(key),
    ]
    for call in calls:
        with pytest.raises(ValueError):
            call()
    assert file.read_bytes() == b"x"


@pytest.mark.parametrize("prefix", ["../", "/etc/", "a/../../", "a//"])
def test_a_prefix_does_not_lead_out_of_the_store(store: Store, prefix: str) -> None:
    with pytest.raises(ValueError):
        list(store.list(prefix))


def test_a_file_from_scratch_is_taken_in(store: Store) -> None:
    file = store.scratch() / "ramp.fits"
    file.write_bytes(b"x" * 5000)
    assert store.put_file("ramps/1", file) == (5000, hashlib.sha256(b"x" * 5000).hexdigest())
    assert store.get("ramps/1") == b"x" * 5000


def test_a_watch_sees_the_bytes_of_a_file_in_order(store: Store, tmp_path: Path) -> None:
    # Given a file of more than one piece, When it is stored, Then the watch was given all of it, in order
    file = tmp_path / "ramp.fits"
    file.write_bytes(data := random.Random(4).randbytes(3 << 20) + b"end")
    seen: list[bytes] = []
    info = store.put_file("ramps/1", file, lambda piece: seen.append(bytes(piece)))
    assert b"".join(seen) == data
    assert info.sha256 == hashlib.sha256(data).hexdigest()


def test_a_reader_that_forgot_asks_again(store: Store) -> None:
    store.put("k", b"0123456789" * 1000)
    with store.open("k") as reader:
        before = reader.read(5, 20)
        reader.forget()
        assert reader.read(5, 20) == before


def test_a_file_from_elsewhere_is_taken_in_and_replaces(store: Store, tmp_path: Path) -> None:
    store.put("k", b"old")
    file = tmp_path / "new"
    file.write_bytes(b"new")
    store.put_file("k", file)
    assert store.get("k") == b"new"


def test_scratch_is_not_listed_and_goes_with_its_owner(store: Store) -> None:
    folder = store.scratch()
    (folder / "half").write_bytes(b"x")
    assert store.scratch() == folder
    store.put("a", b"")
    assert list(store.list("")) == ["a"]
    store.close()
    assert not folder.exists()


def test_put_if_absent_takes_the_first_only(store: Store) -> None:
    assert store.put_if_absent("m/manifest.json", b"first") is True
    assert store.put_if_absent("m/manifest.json", b"second") is False
    assert store.get("m/manifest.json") == b"first"


def test_of_many_at_once_one_wins(store: Store) -> None:
    # Given 20 keys and 8 writers for each
    with ThreadPoolExecutor(8) as pool:
        for n in range(20):
            bodies = [f"writer {w}".encode() for w in range(8)]
            # When all put at once
            won = list(pool.map(lambda body, key=f"race/{n}": store.put_if_absent(key, body), bodies))
            # Then one of them was told so, and its bytes stand
            assert sum(won) == 1
            assert store.get(f"race/{n}") == bodies[won.index(True)]


def test_ranges_are_exact_and_a_short_one_is_an_error(store: Store) -> None:
    data = os.urandom(10_000)
    store.put("a", data)
    with store.open("a") as reader:
        assert reader.size == 10_000
        assert reader.read(0, 10_000) == data
        assert reader.read(123, 4567) == data[123 : 123 + 4567]
        assert reader.read(10_000, 0) == b""
        with pytest.raises(StoreUnavailable) as caught:
            reader.read(9_999, 2)
        assert re.search(r"\ba\b", caught.value.where)
        with pytest.raises(ValueError):
            reader.read(-1, 2)


def test_an_open_object_stays_whole_while_it_is_replaced(store: Store) -> None:
    store.put("a", b"1" * 100)
    with store.open("a") as reader:
        first = reader.read(0, 50)
        store.put("a", b"2" * 100)
        assert first + reader.read(50, 50) == b"1" * 100


def test_what_is_deleted_is_gone_and_its_key_is_free(store: Store) -> None:
    for key in ("p/1/a", "p/1/b", "p/2/a"):
        store.put(key, b"x")
    store.delete("p/1/a")
    assert list(store.list("")) == ["p/1/b", "p/2/a"]
    with pytest.raises(KeyError):
        store.get("p/1/a")
    assert store.put_if_absent("p/1/a", b"new") is True
    assert store.get("p/1/a") == b"new"


@pytest.mark.parametrize("key", ["none", "p/none", "p/a/b", "p"])
def test_deleting_what_is_not_there_does_nothing(store: Store, key: str) -> None:
    store.put("p/a", b"x")
    store.delete(key)
    assert list(store.list("")) == ["p/a"]


def test_an_open_object_stays_whole_while_it_is_deleted(store: Store) -> None:
    store.put("a", b"1" * 100)
    with store.open("a") as reader:
        store.delete("a")
        assert reader.read(0, 100) == b"1" * 100


def test_a_put_beside_a_delete_never_fails(store: Store) -> None:
    # Given one writer that puts and one that deletes, in one folder that is empty again and again
    def put(n: int) -> None:
        store.put(f"busy/folder/{n}", b"x")
        store.put_if_absent(f"busy/other/{n}", b"x")

    def delete(n: int) -> None:
        store.delete(f"busy/folder/{n}")
        store.delete(f"busy/other/{n}")

    with ThreadPoolExecutor(2) as pool:
        # When they do so side by side, Then neither fails
        for n in range(100):
            made, gone = pool.submit(put, n), pool.submit(delete, n - 1)
            made.result()
            gone.result()
    assert list(store.list("busy/")) == ["busy/folder/99", "busy/other/99"]


def test_listing_is_lazy(store: Store) -> None:
    for n in range(3):
        store.put(f"d{n}/x", b"")
    listing = store.list("")
    assert isinstance(listing, Iterator)
    assert next(listing) == "d0/x"


@given(
    paths=st.sets(st.lists(part, min_size=1, max_size=3).map("/".join), max_size=12),
    prefix=st.text(st.sampled_from("ab-._0/"), max_size=4),
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_listing_gives_each_key_with_the_prefix_in_ascending_order(
    open_again: Callable[[], Store], paths: set[str], prefix: str
) -> None:
    # Given keys none of which is a folder of another
    keys = {k for k in paths if not any(other.startswith(k + "/") for other in paths)}
    keys = {f"n{abs(hash(frozenset(keys)))}/{k}" for k in keys}
    store = open_again()
    for key in keys:
        store.put(key, b"")
    # When a prefix is listed, Then it is what sorting and filtering the whole store gives
    everything = list(store.list(""))
    assert everything == sorted(everything)
    assert keys <= set(everything)
    for lead in {k.partition("/")[0] for k in keys}:
        try:
            listed = list(store.list(f"{lead}/{prefix}"))
        except ValueError:
            continue
        assert listed == [k for k in everything if k.startswith(f"{lead}/{prefix}")]
    store.close()


def test_another_process_opens_the_same_store(store: Store, open_again: Callable[[], Store]) -> None:
    store.put("a", b"x")
    assert pickle.loads(pickle.dumps(store)).get("a") == b"x"
    other = open_again()
    assert other.get("a") == b"x"
    other.close()


def test_the_uri_is_an_address_that_a_person_can_use(store: Store) -> None:
    store.put("a b/c#d", b"x")
    uri = urlparse(store.uri("a b/c#d"))
    assert uri.scheme in {"file", "s3"}
    assert uri.fragment == ""
