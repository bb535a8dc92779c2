"""Noise in emulated readout patterns, on the page of its set."""

import pytest
from pydantic import TypeAdapter

from nircam_darks.report.plots.style import styled
from nircam_darks.report.tables.emulated import emulated_curves, emulated_table
from shared.products.noise import EMULATED_NOISE, EmulatedPattern
from shared.store.local import LocalStore
from support.report_facts import flight_noise, flight_reference
from support.report_store import FilledStore, a_key
from support.written_report import Report

PATTERNS = [
    EmulatedPattern(
        pattern=pattern,
        nframes=8,
        groupgap=gap,
        groups=[2, 3],
        seconds=[100.0, 200.0],
        spatial=[5.0, 4.5],
        theory=[4.9, 4.4],
        error=0.05,
    )
    for pattern, gap in (("MEDIUM8", 2), ("DEEP8", 12))
]
REFUSED = EmulatedPattern(pattern="DEEP2", nframes=2, groupgap=18, refusal="DEEP2 is not emulated: too short")


@pytest.fixture
def filled(tmp_path):
    return FilledStore(LocalStore(tmp_path / "store"), tmp_path)


def page_of(filled, objects=()):
    key, names = a_key(), ["jw01062001001_02101_00001_nrcalong"]
    filled.ramp(key, names[0], 0)
    flight_reference(filled, key, names)
    if objects:
        filled.set_noise(key, names, objects=objects)
    else:
        flight_noise(filled, key, names)
    report = Report(filled)
    return next(page for name, page in report.parsed.items() if not name.endswith("/stability.html"))


def test_a_set_shows_them_as_what_they_are(filled):
    # Given a set whose noise was told in three further patterns, one of which could not be made
    body = TypeAdapter(list[EmulatedPattern]).dump_json([*PATTERNS, REFUSED])
    page = page_of(filled, [(EMULATED_NOISE, body)])
    # Then its page has them in a table and a picture, labelled as emulated
    assert "emulated from RAPID" in page.words
    assert "MEDIUM8 8 frames, gap 2 3 200 s 4.500 ± 0.050 e⁻ 4.40 e⁻" in page.words
    assert "DEEP2 is not emulated: too short" in page.words
    (drawn,) = [image for image in page.images if "emulated from RAPID" in image["alt"]]
    assert "MEDIUM8 4.500 ± 0.050 e⁻ in 3 groups; DEEP8" in drawn["alt"]


@pytest.mark.usefixtures("undrawn")
def test_a_set_without_them_says_nothing_of_them(filled):
    page = page_of(filled)
    assert "mulated from RAPID" not in page.words


def test_what_could_not_be_made_is_in_the_table_only(filled):
    results = filled.set_noise(a_key(), ["a"])
    with styled():
        assert emulated_curves([REFUSED], results) is None
        assert emulated_curves([PATTERNS[0].model_copy(update={"spatial": [float("nan")] * 2})], results)
    assert [cell.text for cell in emulated_table([REFUSED]).rows[0]][:3] == ["DEEP2", "2 frames, gap 18", "–"]
