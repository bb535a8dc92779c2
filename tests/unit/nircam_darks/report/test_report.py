"""The report in pages: an index, a page for each set, each whole, and never wrong about what is simulated."""

import base64
import math
import re
from xml.etree import ElementTree

import pytest

from nircam_darks.report import html as page_module
from nircam_darks.report.html import write_report
from nircam_darks.report.record import kept
from shared.store.local import LocalStore
from support.report_store import FilledStore, a_key
from support.written_report import Report, record_of


@pytest.fixture
def filled(tmp_path):
    return FilledStore(LocalStore(tmp_path / "store"), tmp_path)


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
    return Report(filled, overrides={"mask": folder / "my_mask.fits"})


def test_a_page_needs_nothing_beside_it(full):
    assert not full.index.images
    for name, page in full.parsed.items():
        html = full.html[name]
        assert page.images
        assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in page.images)
        assert not {"script", "link", "iframe", "object", "base", "form"} & page.tags
        assert not re.search(r"https?://|url\(|@import", html)
        # Nor do the pictures inside: an SVG may name what it would fetch.
        for image in page.images:
            svg = base64.b64decode(image["src"].partition(",")[2]).decode()
            for element in ElementTree.fromstring(svg).iter():
                for attribute, value in element.attrib.items():
                    if attribute.endswith("href"):
                        assert value.startswith(("#", "data:"))
            assert "<script" not in svg


def test_the_index_leads_to_every_page_and_each_page_back(full):
    assert len(full.pages) == 3
    assert set(full.index.addresses) == set(full.parsed)
    for page in full.pages:
        links = [address for address in page.addresses if not address.startswith("data:")]
        assert links == ["../report.html"]


def test_every_picture_says_what_it_shows(full):
    assert len(full.images) > 30
    for image in full.images:
        assert len(image["alt"]) > 40
        assert image["alt"].endswith(".")
    assert all("figcaption" in page.tags for page in full.pages)


def test_every_picture_has_a_title_and_named_units(full):
    titles = set()
    for image in full.images:
        svg = ElementTree.fromstring(base64.b64decode(image["src"].partition(",")[2]))
        names = {"".join(e.itertext()) for e in svg.iter("{http://www.w3.org/2000/svg}text")}
        titles |= names
        assert any(
            re.search(r"\((e⁻|DN|pixel|s|min|h)\b|^(Group|Groups|Pixels|Flags|Amplifier)$", s) for s in names
        ), names
    for wanted in (
        "Signal (DN)",
        "Groups",
        "Dark current (e⁻/1000 s)",
        "Effective noise (e⁻)",
        "CDS noise (e⁻)",
    ):
        assert wanted in titles


def test_says_what_was_measured_beside_what_is_expected(full):
    wanted = (
        "26.83 ± 0.41 e⁻/1000 s",
        "13.310 ± 0.021 e⁻",
        "27 ± 5",
        "13.25 ± 0.08",
        "3.4 sigma below expected",
    )
    assert all(words in full.index.words for words in wanted)
    both = [page for page in full.pages if "26.83" in page.words]
    assert len(both) == 2
    assert all(words in page.words for page in both for words in wanted)


def test_says_what_was_rejected_and_what_was_not_built_and_why(full):
    assert "fgs.fits EXP_TYPE EXP_TYPE = 'FGS_ACQ1', not 'NRC_DARK'" in full.index.words
    assert "set 70 has 1 integration; a reference needs 2" in full.index.words
    single = next(page for page in full.pages if "NRCA3" in page.words)
    assert "not built: set 70 has 1 integration; a reference needs 2" in single.words
    assert "Refused: 1 ramps, at least 10 are needed." in single.words


def test_names_versions_references_steps_and_overrides(full):
    for wanted in ("jwst_9999.pmap", "3.0.0", "mask=my_mask.fits"):
        assert wanted in full.index.words
    for wanted in ("jwst_nircam_superbias_sim_nrcalong.fits", "linearity"):
        assert all(wanted in page.words for page in full.pages)


def test_simulated_data_is_called_so_in_banner_and_title_of_every_page(full):
    for page in [full.index, *full.pages]:
        assert "SIMULATED DATA none of these numbers is a flight result" in page.words
    assert all("(simulated)</title>" in html for html in full.html.values())
    assert full.index.words.count("simulated") >= 5


@pytest.mark.usefixtures("undrawn")
def test_flight_data_has_no_banner_and_a_mixed_run_says_which_is_which(filled):
    filled.simulated = False
    filled.ramp(a_key(), "jw1")
    flight = Report(filled)
    assert "SIMULATED" not in flight.index.words + flight.page.words
    filled.simulated = True
    filled.ramp(a_key(detector="NRCB2"), "jw2")
    mixed = Report(filled)
    assert "none of these numbers is a flight result, except those of NRCALONG" in mixed.index.words
    assert sorted("SIMULATED" in page.words for page in mixed.pages) == [False, True]


@pytest.mark.usefixtures("undrawn")
def test_a_hostile_file_name_is_only_text(filled):
    evil = "<img src=x onerror=alert(1)>\"'&.fits"
    filled.ramp(a_key(), "jw1", file=evil.replace("/", ""))
    filled.exposure_noise(a_key(), "jw1<script>", n=0)
    filled.reject(
        "b<script>alert(2)</script>.fits".replace("/", ""), "b", "FITS", "<b onclick=x>not FITS</b>"
    )
    filled.fail("noise", "<script>alert(3)</script>", configuration="<i>")
    report = Report(filled)
    for page in (report.index, report.page):
        assert not {"script", "i"} & page.tags
        assert all(image["src"].startswith("data:") for image in page.images)
    assert evil in report.page.words
    assert "<b onclick=x>not FITS</b>" in report.index.words


def test_no_exposure_was_ingested_at_all(filled):
    filled.reject("a.fits", "a", "FITS", "a.fits: not a FITS file")
    report = Report(filled)
    assert "No exposure was ingested" in report.index.words
    assert "a.fits FITS not a FITS file" in report.index.words
    assert not report.pages


@pytest.mark.usefixtures("undrawn")
def test_an_ingested_exposure_of_which_nothing_else_was_made(filled):
    filled.ramp(a_key(), "jw1")
    words = Report(filled).page.words
    assert "not built: 1 integration, " in words
    assert "not measured: 1 integration, " in words


@pytest.mark.usefixtures("undrawn")
def test_a_reference_without_its_set_noise_still_shows_rates_and_jumps(filled):
    key = a_key()
    names = ["jw1", "jw2", "jw3"]
    for n, name in enumerate(names):
        filled.ramp(key, name, n)
        filled.exposure_noise(key, name, n)
    filled.reference(key, names)
    filled.fail("noise", "out of memory", configuration=key.slug)
    page = Report(filled).page
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
    page = Report(filled).page
    # Then
    assert not re.search(r"\bnan\b", page.words, re.IGNORECASE)
    assert not any(re.search(r"\bnan\b", image["alt"], re.IGNORECASE) for image in page.images)


def test_a_set_that_is_off_is_marked_by_a_sign_and_not_by_colour_alone(full):
    words = full.index.words
    assert "▼ 3.4 sigma below expected" in words
    assert "✓ within" in words


def test_a_page_is_small_enough_to_mail_also_at_full_frame_size(filled):
    # Given the largest maps there are
    key = a_key(subarray="FULL", subsize1=2048, subsize2=2048)
    filled.reference(key, ["jw1"])
    filled.set_noise(key, ["jw1"], temporal=False)
    # When
    report = Report(filled)
    # Then, for its three maps and the rest
    assert all(len(html) < 3_000_000 for html in report.html.values())
    assert not [*filled.folder.glob(".report*"), *filled.folder.glob("report/.*")]


def test_the_same_products_give_the_same_pages(filled):
    filled.ramp(a_key(), "jw1")
    filled.exposure_noise(a_key(), "jw1")
    assert Report(filled).html == Report(filled).html


@pytest.mark.usefixtures("undrawn")
def test_pages_of_sets_that_are_no_more_go_and_what_others_put_there_stays(filled):
    # Given a report of one set, a page that somebody else put beside it, and a file
    filled.ramp(a_key(), "jw1")
    before = Report(filled)
    (foreign, notes) = (filled.folder / "report" / name for name in ("mine.html", "notes.txt"))
    foreign.write_text("<p>mine</p>")
    notes.write_text("mine")
    # When the same store is reported with the exposure in a set of two
    filled.manifests.clear()
    filled.ramp(a_key(detector="NRCB2"), "jw2")
    write_report(filled.store, record_of(filled), before.path)
    # Then
    assert not [name for name in before.parsed if (filled.folder / name).exists()]
    assert foreign.exists()
    assert notes.exists()
    assert len(list((filled.folder / "report").glob("*.html"))) == 2


@pytest.mark.usefixtures("undrawn")
def test_a_page_that_cannot_be_written_leaves_the_old_index(filled, monkeypatch):
    # Given a report of one set, and a second set whose page fails
    filled.ramp(a_key(), "jw1")
    before = Report(filled)
    filled.ramp(a_key(detector="NRCB2"), "jw2")

    def fails(*_):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(page_module, "set_as_html", fails)
    # When
    with pytest.raises(OSError):
        write_report(filled.store, record_of(filled), before.path)
    # Then the reader finds what was there
    assert before.path.read_text() == before.html["report.html"]
    assert all((filled.folder / name).read_text() == before.html[name] for name in before.parsed)
    assert not [*filled.folder.glob(".report*"), *filled.folder.glob("report/.*")]


@pytest.mark.usefixtures("undrawn")
def test_two_sets_of_one_configuration_have_a_page_each(filled):
    for exposure, set_id in (("jw1", "aa11"), ("jw2", "bb22")):
        filled.ramp(a_key(), exposure)
        filled.set_noise(a_key(), [exposure], temporal=False, set_id=set_id)
    report = Report(filled)
    assert len(report.pages) == 2
    assert set(report.index.addresses) == set(report.parsed)


@pytest.mark.usefixtures("undrawn")
def test_the_record_beside_the_pages_gives_the_same_report_again(filled, tmp_path):
    # Given a run's report, and products of another run in the same store
    filled.ramp(a_key(), "jw1")
    filled.exposure_noise(a_key(), "jw1")
    report = Report(filled)
    filled.ramp(a_key(detector="NRCB2"), "jw9")
    # When it is made again from what the run left
    again = tmp_path / "again" / "report.html"
    again.parent.mkdir()
    write_report(filled.store, kept(filled.folder / "report"), again)
    # Then
    assert again.read_text() == report.html["report.html"]
    for name in report.parsed:
        assert (again.parent / name).read_text() == report.html[name]
    assert kept(tmp_path) is None
