"""The report as PDF: the same words as the pages, to be searched, in fonts of its own, page after page."""

import subprocess
import sys

import pytest

from nircam_darks.report import pdf as pdf_module
from nircam_darks.report.content import Paragraph, Pictures, Properties, Table
from nircam_darks.report.exposure_sets import exposure_sets
from nircam_darks.report.pdf import picture_rows, write_pdf
from nircam_darks.report.plots.style import Picture, axes, styled
from nircam_darks.report.set_page import set_page
from shared.catalog.products import RunProducts
from shared.store.local import LocalStore
from support.pdf_reader import fonts_of, need_pdf, outline_of, properties_of, squeezed, word_boxes, words_of
from support.report_store import FilledStore, a_key
from support.written_report import record_of

#: Points: A4, lying.
WIDTH, HEIGHT = 841.9, 595.3


@pytest.fixture
def filled(tmp_path):
    need_pdf()
    return FilledStore(LocalStore(tmp_path / "store"), tmp_path)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A healthy set, the reference of a strip, 70 exposures of no set and a rejection, all in one PDF."""
    need_pdf()
    folder = tmp_path_factory.mktemp("pdf")
    filled = FilledStore(LocalStore(folder / "store"), folder)
    filled.whole_set(a_key(), 10)
    strip = a_key(detector="NRCB1", subarray="SUBGRISM64", subsize1=512)
    for n, name in enumerate(("strip1", "strip2")):
        filled.ramp(strip, name, n)
    filled.reference(strip, ["strip1", "strip2"], set_id="6f0")
    for n in range(70):
        filled.ramp(a_key(detector="NRCA4"), f"jw{n:05d}", n, file=f"dark_$x$_(1)\\{n:05d}_uncal.fits")
    filled.reject("fgs.fits", "fgs", "EXP_TYPE", "fgs.fits: EXP_TYPE = 'FGS_ACQ1', not 'NRC_DARK'")
    path = folder / "report.pdf"
    return filled, path, write_pdf(filled.store, record_of(filled), path)


@pytest.fixture(scope="module")
def words(full):
    return words_of(full[1])


def test_says_all_that_the_pages_say(full, words):
    # Given the content of every page
    filled, _, _ = full
    record = record_of(filled)
    for exposure_set in exposure_sets(RunProducts.of(filled.store, record.products)):
        with styled():
            page = set_page(filled.store, record.summary, exposure_set)
        # Then each of its words is in the PDF, in lines as they may be
        for chapter in page.chapters:
            assert squeezed(chapter.title) in words
            for block in chapter.blocks:
                for text in _texts(block):
                    assert all(word in words for word in text.split()), text


def _texts(block):
    if isinstance(block, Paragraph):
        yield from (block.lead, block.text)
    elif isinstance(block, Properties):
        for name, value in block.pairs:
            yield from (name, value)
    elif isinstance(block, Table):
        yield from block.head
        for row in block.rows:
            yield from (cell.text for cell in row)
    elif isinstance(block, Pictures):
        yield from (drawn.caption for drawn in block.pictures)


def test_begins_with_the_verdicts_and_calls_simulated_data_so(words):
    assert "Darkreferencesandnoise" in words[:100]
    for wanted in (
        "SIMULATED DATA none of these numbers is a flight result",
        "26.83 ± 0.41 e⁻/1000 s",
        "expected 27 ± 5",
        "✓ within",
        "EXP_TYPE = 'FGS_ACQ1', not 'NRC_DARK'",
    ):
        assert squeezed(wanted) in words


def test_the_words_of_the_pictures_are_text_too(words):
    for wanted in ("Dark current (e⁻/1000 s)", "Effective noise (e⁻)", "y (pixel)", "Signal (DN)"):
        assert squeezed(wanted) in words


def test_fonts_are_embedded_and_pages_are_counted(full, words):
    _, path, pages = full
    assert fonts_of(path)
    assert all(font == ("yes", "yes", "yes") for font in fonts_of(path))
    properties = properties_of(path)
    assert int(properties["Pages"]) == pages
    assert properties["Page size"].endswith("(A4)")
    for page in range(1, pages + 1):
        assert f"{page}of{pages}" in words


def test_bookmarks_lead_to_every_set_and_chapter(full):
    titles, chapters = zip(*outline_of(full[1]), strict=True)
    assert titles[0] == "Dark references and noise"
    assert any("NRCALONG" in title for title in titles)
    assert any("SUBGRISM64" in title for title in titles)
    assert chapters[0][0] == "Verdicts"
    healthy = chapters[next(at for at, title in enumerate(titles) if "NRCALONG" in title)]
    assert [*healthy][:2] == ["Verdicts", "The set"]
    assert {"Dark reference", "Noise", "Jumps", "Stability"} <= set(healthy)


def test_nothing_lies_outside_the_page(full):
    for left, top, right, bottom in word_boxes(full[1]):
        assert min(left, top) >= 0
        assert right <= WIDTH
        assert bottom <= HEIGHT


def test_a_table_that_runs_over_has_its_head_on_each_page(words):
    # Given 70 exposures whose names hold what a page or a PDF could take for its own
    assert words.count("Persistencefrom") >= 4
    assert all(f"dark_$x$_(1)\\{n:05d}_uncal.fits" in words for n in range(70))


def test_a_failure_leaves_the_old_file_and_nothing_else(filled, monkeypatch):
    filled.ramp(a_key(), "jw1")
    path = filled.folder / "report.pdf"
    path.write_text("old")

    def full_disk(self, *_, **__):
        raise OSError(28, "no space left")

    monkeypatch.setattr(pdf_module.load_weasyprint().document.Document, "write_pdf", full_disk)
    with pytest.raises(OSError) as caught:
        write_pdf(filled.store, record_of(filled), path)
    assert caught.value.errno == 28
    assert path.read_text() == "old"
    assert not list(filled.folder.glob(".report*"))


def test_the_same_products_give_the_same_file(filled):
    filled.ramp(a_key(), "jw1")
    filled.exposure_noise(a_key(), "jw1")
    paths = [filled.folder / name for name in ("a.pdf", "b.pdf")]
    for path in paths:
        write_pdf(filled.store, record_of(filled), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_without_pango_says_in_one_line_what_to_install():
    # Given a machine on which no library of Pango is found
    missing = (
        "import cffi\n"
        "def missing(self, name, flags=0):\n"
        "    raise OSError(f\"cannot load library '{name}': no such file\")\n"
        "cffi.FFI.dlopen = missing\n"
        "from nircam_darks.report.pdf import load_weasyprint\n"
        "from shared.errors import EnvironmentFault\n"
        "try:\n"
        "    load_weasyprint()\n"
        "except EnvironmentFault as error:\n"
        "    print(error)\n"
    )
    # When
    done = subprocess.run([sys.executable, "-c", missing], capture_output=True, text=True, check=True)
    # Then nothing but that is said
    assert len(done.stdout.splitlines()) == 1
    assert "libpangoft2-1.0-0" in done.stdout


@pytest.mark.parametrize(
    ("places", "rows"),
    [
        (["", ""], [2]),
        (["", "wide", ""], [1, 1, 1]),
        (["", "", "tall", "tall", "tall", "wide"], [2, 3, 1]),
        (["", "", ""], [2, 1]),
        (["tall", "", ""], [3]),
        (["tall"] * 4, [2, 2]),
        ([], []),
    ],
)
def test_pictures_stand_in_rows_that_fit_a_page_twice(places, rows):
    with styled():
        drawn = [Picture(axes("one", 4.0)[0], "", "", place) for place in places]
        laid_out = list(picture_rows(drawn))
    assert [len(row) for row in laid_out] == rows
    assert [each for row in laid_out for each in row] == drawn
    for row in laid_out:
        assert sum(each.figure.get_figwidth() for each in row) <= WIDTH / 72
        assert all(each.figure.get_figheight() <= 2.8 for each in row)
