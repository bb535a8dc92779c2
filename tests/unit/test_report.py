"""The report: one file, whole, and never wrong about what was simulated."""

import base64
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from report_store import FilledStore, a_key

from services.report.page import render, write_report
from services.summary import build_summary
from shared.store.local import LocalStore

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser would make of the page, as far as the tests ask."""

    def __init__(self, text: str):
        super().__init__()
        self.text, self.images, self.addresses, self.open, self.ids, self.anchors = "", [], [], [], [], []
        self.tags = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        named = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(named)
        if "id" in named:
            self.ids.append(named["id"])
        for name in ("src", "href", "srcset", "data", "action"):
            if name in named:
                (self.anchors if named[name].startswith("#") else self.addresses).append(named[name])

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += " " + data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture
def filled(tmp_path):
    return FilledStore(LocalStore(tmp_path / "store"), tmp_path)


def page_of(filled, **settings) -> Page:
    run = filled.run(**settings)
    page = Page(render(filled.store, build_summary(filled.store, run), run))
    assert not page.open, f"never closed: {page.open}"
    return page


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A run with all there can be, drawn once: three configurations, a strip, a refusal, a rejection."""
    folder = tmp_path_factory.mktemp("full")
    filled = FilledStore(LocalStore(folder / "store"), folder)
    filled.whole_set(a_key(), 10)
    filled.whole_set(a_key(detector="NRCB1", subarray="SUBGRISM64", subsize1=512), 5, set_id="6f0")
    single = a_key(detector="NRCA3", noutputs=1)
    filled.ramp(single, "jw9")
    filled.exposure_noise(single, "jw9")
    filled.set_noise(single, ["jw9"], temporal=False, set_id="70")
    filled.fail("darkref", "set 70 has 1 integration; a reference needs 2", configuration=single.slug)
    filled.reject("fgs.fits", "fgs", "EXP_TYPE", "fgs.fits: EXP_TYPE = 'FGS_ACQ1', not 'NRC_DARK'")
    run = filled.run(overrides={"mask": folder / "my_mask.fits"})
    html = render(filled.store, build_summary(filled.store, run), run)
    return html, Page(html)


def test_needs_nothing_beside_it(full):
    html, page = full
    assert page.addresses
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe", "object", "base", "form"} & page.tags
    assert not re.search(r"https?://|url\(|@import", html)
    # Nor do the pictures inside: an SVG may name what it would fetch.
    for image in page.images:
        svg = base64.b64decode(image["src"].partition(",")[2]).decode()
        for element in ElementTree.fromstring(svg).iter():
            for name, value in element.attrib.items():
                if name.endswith("href"):
                    assert value.startswith(("#", "data:"))
        assert "<script" not in svg


def test_every_picture_says_what_it_shows(full):
    _, page = full
    assert len(page.images) > 30
    for image in page.images:
        assert len(image["alt"]) > 40
        assert image["alt"].endswith(".")
    assert "figcaption" in page.tags


def test_every_picture_has_a_title_and_named_units(full):
    _, page = full
    titles = set()
    for image in page.images:
        svg = ElementTree.fromstring(base64.b64decode(image["src"].partition(",")[2]))
        said = {"".join(e.itertext()) for e in svg.iter("{http://www.w3.org/2000/svg}text")}
        titles |= said
        assert any(
            re.search(r"\((e⁻|DN|pixel|s|min|h)\b|^(Group|Groups|Pixels|Flags|Amplifier)$", s) for s in said
        ), said
    for wanted in (
        "Signal (DN)",
        "Groups",
        "Dark current (e⁻/1000 s)",
        "Effective noise (e⁻)",
        "CDS noise (e⁻)",
    ):
        assert wanted in titles


def test_links_lead_somewhere_and_no_id_is_there_twice(full):
    _, page = full
    assert {anchor[1:] for anchor in page.anchors} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_says_what_was_measured_beside_what_is_expected(full):
    words = full[1].words
    for wanted in ("26.83 ± 0.41 e⁻/1000 s", "expected 27 ± 5", "13.310 ± 0.021 e⁻", "expected 13.25 ± 0.08"):
        assert wanted in words
    assert "3.4 sigma below expected" in words


def test_says_what_was_rejected_and_what_was_not_built_and_why(full):
    words = full[1].words
    assert "fgs.fits EXP_TYPE EXP_TYPE = 'FGS_ACQ1', not 'NRC_DARK'" in words
    assert "not built: set 70 has 1 integration; a reference needs 2" in words
    assert "Refused: 1 ramps, at least 10 are needed." in words


def test_names_versions_references_steps_and_overrides(full):
    words = full[1].words
    for wanted in (
        "jwst_9999.pmap",
        "3.0.0",
        "jwst_nircam_superbias_sim_nrcalong.fits",
        "linearity",
        "mask=my_mask.fits",
    ):
        assert wanted in words


def test_simulated_data_is_called_so_in_the_banner_the_title_and_each_section(full):
    html, page = full
    assert "SIMULATED DATA none of these numbers is a flight result" in page.words
    assert "(simulated)</title>" in html
    assert page.words.count("simulated") >= 6


def test_flight_data_has_no_banner_and_a_mixed_run_says_which_is_which(filled):
    filled.simulated = False
    filled.ramp(a_key(), "jw1")
    assert "SIMULATED" not in page_of(filled).words
    filled.simulated = True
    filled.ramp(a_key(detector="NRCB2"), "jw2")
    words = page_of(filled).words
    assert "none of these numbers is a flight result, except those of NRCALONG" in words


def test_a_hostile_file_name_is_only_text(filled):
    evil = "<img src=x onerror=alert(1)>\"'&.fits"
    filled.ramp(a_key(), "jw1", file=evil.replace("/", ""))
    filled.exposure_noise(a_key(), "jw1<script>", n=0)
    filled.reject(
        "b<script>alert(2)</script>.fits".replace("/", ""), "b", "FITS", "<b onclick=x>not FITS</b>"
    )
    filled.fail("noise", "<script>alert(3)</script>", configuration="<i>")
    page = page_of(filled)
    assert not {"script", "b onclick", "i"} & (page.tags - {"i"})
    assert all(image["src"].startswith("data:") for image in page.images)
    assert evil in page.words
    assert "<b onclick=x>not FITS</b>" in page.words


def test_no_exposure_was_ingested_at_all(filled):
    filled.reject("a.fits", "a", "FITS", "a.fits: not a FITS file")
    page = page_of(filled)
    assert "No exposure was ingested" in page.words
    assert "a.fits FITS not a FITS file" in page.words
    assert not page.images


def test_an_ingested_exposure_of_which_nothing_else_was_made(filled):
    filled.ramp(a_key(), "jw1")
    words = page_of(filled).words
    assert "not built: 1 integration(s) where --min-integrations asks for 2" in words
    assert "not measured: 1 integration(s)" in words


def test_a_reference_without_its_set_noise_still_shows_rates_and_jumps(filled):
    key = a_key()
    names = ["jw1", "jw2", "jw3"]
    for n, name in enumerate(names):
        filled.ramp(key, name, n)
        filled.exposure_noise(key, name, n)
    filled.reference(key, names)
    filled.fail("noise", "out of memory", configuration=key.slug)
    page = page_of(filled)
    assert "not measured: out of memory" in page.words
    alts = " ".join(image["alt"] for image in page.images)
    for wanted in ("Dark current against time", "CDS noise in e⁻ against time", "number of jump flags"):
        assert wanted in alts


def test_nan_is_a_dash_and_breaks_no_picture(filled):
    # Given a set in which hardly anything could be measured
    key = a_key()
    names = ["jw1", "jw2"]
    for n, name in enumerate(names):
        filled.ramp(key, name, n)
        filled.exposure_noise(key, name, n, cds_noise_e=[math.nan], median_dn=[[math.nan] * key.ngroups])
    filled.reference(
        key, names, mean_ramp_dn=[math.nan] * key.ngroups, mean_ramp_error_dn=[math.nan] * key.ngroups
    )
    noise = filled.set_noise(key, names, temporal=False, set_id="spare")
    curve = noise.curve.model_copy(
        update={"spatial": [math.nan] * len(noise.curve.groups), "reference_pixels": None}
    )
    filled.manifests.pop()
    filled.set_noise(key, names, curve=curve, cds_noise_by_amplifier_e=[math.nan] * 4)
    # When
    page = page_of(filled)
    # Then
    assert not re.search(r"\bnan\b", page.words, re.IGNORECASE)
    assert not any(re.search(r"\bnan\b", image["alt"], re.IGNORECASE) for image in page.images)


def test_a_set_that_is_off_is_marked_by_a_sign_and_not_by_colour_alone(full):
    words = full[1].words
    assert "▼ 3.4 sigma below expected" in words
    assert "✓ within" in words


def test_is_small_enough_to_mail_also_at_full_frame_size(filled, tmp_path):
    # Given the largest maps there are
    key = a_key(subarray="FULL", subsize1=2048, subsize2=2048)
    filled.reference(key, ["jw1"])
    filled.set_noise(key, ["jw1"], temporal=False)
    run = filled.run()
    # When
    write_report(filled.store, build_summary(filled.store, run), run, tmp_path / "report.html")
    # Then, for its three maps and the rest
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    assert not list(tmp_path.glob(".report*"))


def test_the_same_products_give_the_same_page(filled):
    filled.ramp(a_key(), "jw1")
    filled.exposure_noise(a_key(), "jw1")
    run = filled.run()
    summary = build_summary(filled.store, run)
    assert render(filled.store, summary, run) == render(filled.store, summary, run)
