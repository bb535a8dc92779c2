"""Where an ASDF file is from, by the words at its beginning; it is never opened as ASDF."""

from pathlib import Path

import asdf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nircam_darks.cli.asdf_origin import asdf_origin
from nircam_darks.cli.file_kind import kind_of_file
from support.fuzz_limits import time_limit
from support.hostile_files import tree_of_aliases, tree_with_array_of

SECONDS = 5.0
META = {"telescope": "ROMAN", "instrument": {"detector": "WFI01", "name": "WFI"}}
HEAD = b"#ASDF 1.0.0\n#ASDF_STANDARD 1.5.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n--- !core/asdf-1.1.0\n"


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def kind(path: Path, content: bytes) -> str:
    """Return what a file is, as `inspect` says it, within a bound on processor time."""
    with time_limit(SECONDS):
        return kind_of_file(write(path, content))


@pytest.mark.parametrize("tree", [{"roman": {"meta": META}}, {"x": [1, {"meta": {}}], "wfi": {"meta": META}}])
def test_telescope_instrument_and_detector(tmp_path, tree):
    asdf.AsdfFile({**tree, "data": np.arange(1000)}).write_to(tmp_path / "x.asdf")
    assert asdf_origin(tmp_path / "x.asdf") == "ROMAN WFI WFI01"


def test_what_does_not_say_all_three_is_an_asdf_file(tmp_path):
    for meta in ({}, {"telescope": "ROMAN"}, {**META, "instrument": "WFI"}, {**META, "telescope": [1]}):
        asdf.AsdfFile({"roman": {"meta": meta}}).write_to(tmp_path / "x.asdf")
        assert kind_of_file(tmp_path / "x.asdf") == "ASDF file"
    assert asdf_origin(tmp_path / "none.asdf") == ""


def test_aliases_of_aliases_are_not_unfolded(tmp_path):
    assert kind(tmp_path / "x.asdf", tree_of_aliases()) == "ASDF file"


def test_merged_mappings_are_not_unfolded(tmp_path):
    levels = ["a: &a {" + ", ".join(f"k{n}: x" for n in range(50)) + "}"]
    for before, name in zip("abcde", "bcdef", strict=True):
        levels.append(f"{name}: &{name} {{<<: [" + ", ".join([f"*{before}"] * 50) + "]}")
    assert kind(tmp_path / "x.asdf", HEAD + "\n".join(levels).encode() + b"\n...\n") == "ASDF file"


def test_an_array_in_another_file_is_not_read(tmp_path):
    # Given a file whose telescope is an array that lies in another file of this machine
    secret = tmp_path / "secret.asdf"
    asdf.AsdfFile({"data": np.arange(1000) + 123456}).write_to(secret)
    tree = tree_with_array_of(secret, "  telescope").partition(b"---\n")[2].removesuffix(b"...\n")
    body = b"roman:\n meta:\n  instrument: {name: WFI, detector: WFI01}\n" + tree
    # When it is inspected, Then nothing of the other file shows
    assert kind(tmp_path / "x.asdf", HEAD + body + b"...\n") == "ASDF file"


@pytest.mark.parametrize(
    "body",
    [
        b"a: " + b"[" * 200_000,
        b"a: " + b"{b: " * 60_000,
        b"? " * 100_000,
        b"- " * 100_000,
        b'a: "' + b"x" * 10_000_000,
        b"x: y\n" * 2_000_000,
        b"&a" * 100_000,
        b"\xff\xfe" * 1000,
    ],
    ids=lambda body: f"{len(body)} bytes",
)
def test_no_text_takes_long(tmp_path, body):
    assert kind(tmp_path / "x.asdf", HEAD + body) == "ASDF file"


def test_words_for_the_terminal_are_not_passed_on(tmp_path):
    for word in ("\x1b[2J", "a\nb", "x" * 100_000):
        asdf.AsdfFile({"roman": {"meta": {**META, "telescope": word}}}).write_to(tmp_path / "x.asdf")
        assert kind_of_file(tmp_path / "x.asdf") == "ASDF file"


@given(st.data())
def test_any_damage_leaves_a_word_or_none(tmp_path_factory, data):
    content = bytearray(
        HEAD + b"roman:\n  meta: {telescope: ROMAN, instrument: {name: WFI, detector: A}}\n...\n"
    )
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    path = write(tmp_path_factory.mktemp("damaged") / "x.asdf", bytes(content))
    assert asdf_origin(path).isprintable()
