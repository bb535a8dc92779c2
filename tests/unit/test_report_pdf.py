"""The report as PDF: the same words as the pages, to be searched, with whole fonts."""

import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_store import FilledStore, a_key

from services.report import pdf as pdf_module
from services.report.chapters import set_page
from services.report.collect import RunProducts
from services.report.content import Facts, Pictures, Table, Words
from services.report.exposure_sets import exposure_sets
from services.report.pdf import write_pdf
from services.report.pdf_page import Face, wrapped
from services.report.record import of_run
from services.report.style import styled
from services.summary import build_summary
from shared.store.local import LocalStore

_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


def words_of(path) -> str:
    """Return a PDF's text as a reader that searches it does: by the fonts' own maps to Unicode."""
    data = path.read_bytes()
    objects = dict(re.findall(rb"\n(\d+) 0 obj\n(.*?)\nendobj", data, re.DOTALL))
    named = re.findall(rb"/(F\d+) (\d+) 0 R", data)
    maps = {}
    for name, number in named:
        found = re.search(rb"/ToUnicode (\d+) 0 R", objects[number])
        maps[name] = _map_of(_stream(objects[found[1]]))
    found = []
    for body in objects.values():
        for text in re.findall(rb"BT(.*?)ET", _stream(body), re.DOTALL):
            said = ""
            for font, literal in re.findall(rb"/(F\d+) [\d.]+ Tf|(\((?:[^()\\]|\\.)*\))", text, re.DOTALL):
                if font:
                    current = maps[font]
                else:
                    codes = _unescaped(literal[1:-1])
                    said += "".join(current[codes[at : at + 2]] for at in range(0, len(codes), 2))
            found.append(said)
    return squeezed(" ".join(found))


def _stream(body: bytes) -> bytes:
    found = re.search(rb"stream\r?\n(.*?)\r?\nendstream", body, re.DOTALL)
    try:
        # The last byte of a checksum may look like the line's end, and be missing.
        return zlib.decompressobj().decompress(found[1]) if found else b""
    except zlib.error:
        return b""


def _map_of(cmap: bytes) -> dict[bytes, str]:
    found = {}
    for first, _, texts in re.findall(rb"<(\w{4})> <(\w{4})> \[(.*?)\]", cmap):
        for n, text in enumerate(re.findall(rb"<(\w+)>", texts)):
            code = int(first, 16) + n
            found[code.to_bytes(2, "big")] = bytes.fromhex(text.decode()).decode("utf-16-be")
    return found


def _unescaped(literal: bytes) -> bytes:
    return re.sub(rb"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), literal, flags=re.DOTALL)


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.fixture
def filled(tmp_path):
    return FilledStore(LocalStore(tmp_path / "store"), tmp_path)


def record_of(filled):
    run = filled.run()
    return of_run(filled.store, build_summary(filled.store, run), run)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A healthy set, a strip and a rejection, and the PDF of them."""
    folder = tmp_path_factory.mktemp("pdf")
    filled = FilledStore(LocalStore(folder / "store"), folder)
    filled.whole_set(a_key(), 10)
    filled.whole_set(a_key(detector="NRCB1", subarray="SUBGRISM64", subsize1=512), 3, set_id="6f0")
    filled.reject("fgs.fits", "fgs", "EXP_TYPE", "fgs.fits: EXP_TYPE = 'FGS_ACQ1', not 'NRC_DARK'")
    path = folder / "report.pdf"
    return filled, path, write_pdf(filled.store, record_of(filled), path)


def test_says_all_that_the_pages_say(full):
    # Given the content of every page
    filled, path, _ = full
    said = words_of(path)
    record = record_of(filled)
    for one in exposure_sets(RunProducts.of(filled.store, record.products)):
        with styled():
            page = set_page(filled.store, record.summary, one)
        # Then each of its words is in the PDF, in lines as they may be
        for chapter in page.chapters:
            assert squeezed(chapter.title) in said
            for block in chapter.blocks:
                for text in _texts(block):
                    assert all(squeezed(word) in said for word in text.split()), text


def _texts(block):
    if isinstance(block, Words):
        yield from (block.lead, block.text)
    elif isinstance(block, Facts):
        for name, value in block.pairs:
            yield from (name, value)
    elif isinstance(block, Table):
        yield from block.head
        for row in block.rows:
            # A file's name breaks where the column ends.
            yield from (cell.text for cell in row if not cell.file)
    elif isinstance(block, Pictures):
        yield from (one.caption for one in block.pictures)


def test_begins_with_the_verdicts_and_calls_simulated_data_so(full):
    said = words_of(full[1])
    assert said.startswith(squeezed("Dark references and noise"))
    for wanted in (
        "SIMULATED DATA: none of these numbers is a flight result",
        "26.83 ± 0.41 e⁻/1000 s",
        "expected 27 ± 5",
        "✓ within",
        "EXP_TYPE = 'FGS_ACQ1', not 'NRC_DARK'",
    ):
        assert squeezed(wanted) in said


def test_the_words_of_the_pictures_are_text_too(full):
    said = words_of(full[1])
    for wanted in ("Dark current (e⁻/1000 s)", "Effective noise (e⁻)", "y (pixel)", "Signal (DN)"):
        assert squeezed(wanted) in said


def test_fonts_are_embedded_whole_and_pages_are_counted(full):
    data, pages = full[1].read_bytes(), full[2]
    assert len(re.findall(rb"/Type /Page\b", data)) == pages
    assert data.count(b"/FontFile2") == data.count(b"/ToUnicode") >= 2
    assert b"/Subtype /Type3" not in data


def test_nothing_lies_outside_the_page(full):
    # Given every place at which text begins
    data = full[1].read_bytes()
    for body in re.findall(rb"\nstream\r?\n.*?\r?\nendstream", data, re.DOTALL):
        for left, bottom in re.findall(rb"\n1 0 -?0 1 ([-\d.]+) ([-\d.]+) cm\nBT", _stream(body)):
            # Then it is on the sheet; a picture's own begin at its corner
            assert -1 <= float(left) <= 842
            assert -1 <= float(bottom) <= 596


def test_a_table_that_runs_over_has_its_head_on_each_page(filled):
    for n in range(70):
        filled.ramp(a_key(), f"jw{n:05d}", n)
    path = filled.folder / "report.pdf"
    write_pdf(filled.store, record_of(filled), path)
    said = words_of(path)
    assert said.count(squeezed("Persistence from")) >= 3
    assert all(f"jw{n:05d}_uncal.fits" in said for n in range(70))


def test_a_failure_leaves_the_old_file_and_nothing_else(filled, monkeypatch):
    filled.ramp(a_key(), "jw1")
    path = filled.folder / "report.pdf"
    path.write_text("old")
    monkeypatch.setattr(pdf_module, "_set", lambda *_: (_ for _ in ()).throw(OSError(28, "no space left")))
    with pytest.raises(OSError, match="no space left"):
        write_pdf(filled.store, record_of(filled), path)
    assert path.read_text() == "old"
    assert not list(filled.folder.glob(".report*"))


def test_the_same_products_give_the_same_file(filled):
    filled.ramp(a_key(), "jw1")
    filled.exposure_noise(a_key(), "jw1")
    paths = [filled.folder / name for name in ("a.pdf", "b.pdf")]
    for path in paths:
        write_pdf(filled.store, record_of(filled), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_dollar_or_a_bracket_in_a_name_is_only_text(filled):
    filled.ramp(a_key(), "jw1", file="dark_$x$_(1)\\_uncal.fits")
    path = filled.folder / "report.pdf"
    write_pdf(filled.store, record_of(filled), path)
    assert "dark_$x$_(1)\\_uncal.fits" in words_of(path)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=300), st.floats(30, 400))
def test_lines_are_never_wider_than_asked_and_lose_no_character(text, width):
    face = Face(size=9.0)
    lines = wrapped(text, face, width)
    assert all(face.width(line) <= width for line in lines if len(line) > 1)
    assert squeezed("".join(lines)) == squeezed(text)


@given(st.lists(st.sampled_from(["of", "the", "signal", "e⁻/1000 s", "measurements"]), max_size=40))
def test_lines_break_between_words(parts):
    text = " ".join(parts)
    lines = wrapped(text, Face(), 120.0)
    assert " ".join(line for line in lines if line) == text
