"""What flight mode, events, noise in parts and the store as a whole add to the report."""

import json
import re

import pytest

from nircam_darks.report.content import Table
from nircam_darks.report.plots.events import charges
from nircam_darks.report.plots.spectrum import spectrum as draw_spectrum
from nircam_darks.report.plots.style import styled
from nircam_darks.report.tables import set as tables
from nircam_darks.report.tables.reference import blocks
from shared.products.reference import Verification, VerificationCheck
from shared.statistics.verdicts import Acceptance, not_measured
from shared.store.local import LocalStore
from support.report_facts import events, flight_noise, flight_reference, flight_set
from support.report_store import FilledStore, a_key
from support.written_report import Report


@pytest.fixture
def filled(tmp_path):
    return FilledStore(LocalStore(tmp_path / "store"), tmp_path)


@pytest.fixture(scope="module")
def flight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flight")
    filled = FilledStore(LocalStore(folder / "store"), folder)
    flight_set(filled, a_key())
    return Report(filled)


def set_page(report):
    return next(page for name, page in report.parsed.items() if not name.endswith("/stability.html"))


def test_flags_are_counted_beside_their_thresholds_and_drawn(flight):
    page = set_page(flight)
    assert re.search(r"HOT 8 0\.22 % .*0\.5 e⁻/s.* 5 sigma .*0\.75", page.words)
    assert "DEAD 2" in page.words
    alts = [image["alt"] for image in page.images]
    assert any("12 warm, 0 telegraph, 5 RC, 8 hot, 2 dead" in alt for alt in alts)
    # Unreliable pixels have a picture of their own, so that they hide no other flag.
    (unreliable,) = (alt for alt in alts if "UNRELIABLE_DARK" in alt)
    assert "12 warm" not in unreliable


def test_flight_mode_says_clip_err_and_what_it_replaces(flight):
    words = set_page(flight).words
    assert "median/MAD, 1 round" in words
    assert "standard error of the mean" in words
    assert "12 pixels newly hot" in words
    assert "Rate +0.31 ± 0.52 e⁻/1000 s" in words


def test_noise_in_its_parts_each_beside_its_expectation(flight):
    words = set_page(flight).words
    assert "Reset noise (kTC) 37.20 ± 0.30 e⁻ 37 ± 3 ✓ within" in words
    assert "1/f noise common to all amplifiers 3.10 ± 0.20 e⁻" in words
    assert "White noise of one group 8.900 ± 0.020 e⁻" in words
    assert "p0 1.450 ± 0.070 e⁻ 1.5" in words


def test_the_spectrum_and_the_fitted_theory_are_drawn(flight):
    alts = [image["alt"] for image in set_page(flight).images]
    assert any(alt.startswith("Power in e⁻² per Hz") and "amplifiers and for" in alt for alt in alts)
    assert "own terms p0 and p1" in set_page(flight).words


def test_events_have_a_table_a_total_and_their_charges_drawn(flight):
    words = set_page(flight).words
    assert "(expected 2 to 5)" in words
    assert words.count("880 ± 61") == 10
    assert "Large events (snowballs) 10 about 8.0" in words
    alts = [image["alt"] for image in set_page(flight).images]
    assert any(alt.startswith("Histogram of the charge of") for alt in alts)
    assert any(alt.startswith("Hits per cm² and s against time") for alt in alts)


def test_what_follows_a_reset_is_said_in_words(flight):
    words = set_page(flight).words
    assert "first group 3.20 ± 0.40 DN 8.0 sigma" in words
    assert "first integration – –" in words


def test_the_index_has_the_coverage_matrix(flight):
    words = flight.index.words
    assert "of 98 configurations" in words
    assert "SUBGRISM256" in words


def test_series_against_time_have_a_page_of_their_own(flight):
    assert "report/stability.html" in flight.index.addresses
    page = flight.parsed["report/stability.html"]
    assert "CDS noise of each exposure, e⁻" in page.words
    assert any("CDS noise of nrcalong" in image["alt"] for image in page.images)
    assert "SIMULATED" in page.words


@pytest.mark.usefixtures("undrawn")
def test_products_of_earlier_versions_have_none_of_it(filled):
    filled.whole_set(a_key(), 2)
    page = set_page(Report(filled))
    for absent in (
        "DQ flag",
        "Power spectrum",
        "Reset noise",
        "After a reset",
        "Verification",
        "Median charge",
    ):
        assert absent not in page.words
    assert not any("flagged pixels" in image["alt"] or "charge" in image["alt"] for image in page.images)


def test_what_could_not_be_measured_is_a_dash_and_breaks_nothing(filled):
    # Given a set of one output in which parts were refused
    key = a_key(noutputs=1)
    names = ["jw1", "jw2"]
    none = events(0, filled.random).model_copy(
        update={"median_charge_e": None, "median_charge_error_e": None, "charge": empty_charges(filled)}
    )
    for n, name in enumerate(names):
        filled.ramp(key, name, n)
        filled.exposure_noise(key, name, n, events=none if n else None)
    flight_reference(
        filled, key, names, flagged_pixels={"science": 3600, "hot": 1, "rc": None}, flag_thresholds=None
    )
    noise = flight_noise(filled, key, names)
    filled.manifests.pop()
    fit = noise.theory_fit.model_copy(
        update={
            "p0": None,
            "p0_error": None,
            "p1": None,
            "p1_error": None,
            "curve": None,
            "said": "refused: 3 points",
        }
    )
    correlated = not_measured("1 output")
    flight_noise(filled, key, names, correlated_noise=correlated, theory_fit=fit, set_id="aa")
    # When
    page = set_page(Report(filled))
    # Then
    assert "1/f noise common to all amplifiers – – not enough data" in page.words
    assert re.search(r"p0 – 1\.5 .*refused: 3 points", page.words)
    assert "RC not measured" in page.words
    assert "nan" not in page.words.lower().split()


def empty_charges(filled):
    charge = events(0, filled.random).charge
    return charge.model_copy(
        update={"events": [0] * len(charge.events), "mirrored": [0] * len(charge.events)}
    )


def test_pictures_of_nothing_are_left_out(filled):
    nothing = events(0, filled.random).model_copy(update={"charge": empty_charges(filled)})
    from shared.products.noise import NoiseSpectrum
    from support.report_facts import spectrum

    result = NoiseSpectrum(**json.loads(spectrum()))
    with styled():
        assert charges([nothing]) is None
        assert draw_spectrum(result.model_copy(update={"amplifiers": [[float("nan")] * 40] * 4})) is None
        assert draw_spectrum(result.model_copy(update={"common": None, "fitted_common": None})) is not None


def check(passed, required=True, **changes):
    values = {
        "name": "mean residual",
        "where": "amplifier 2",
        "value": 3.1,
        "limit": 2.4,
        "unit": "e-",
        "detail": "",
    }
    return VerificationCheck(passed=passed, required=required, **(values | changes))


@pytest.mark.parametrize("outcome", list(Acceptance))
def test_a_verification_is_a_verdict_and_a_table_of_its_checks(filled, outcome):
    # Given a reference with checks of every outcome
    verification = Verification(
        accepted=outcome == Acceptance.ACCEPTED,
        acceptance=outcome,
        amplifiers=[None],
        detector=True,
        measurements=5,
        verdict=f"{outcome}: mean residual of amplifier 2 3.1 e- above 2.4",
        checks=[
            check(True),
            check(False),
            check(None, value=None),
            check(False, required=False, value="GAIN"),
        ],
    )
    results = filled.reference(a_key(), ["jw1"]).model_copy(update={"verification": verification})
    # When
    words, table, *_ = blocks(results)
    # Then
    assert outcome in words.text.lower()
    assert "3.1 e⁻ above 2.4" in words.text
    assert isinstance(table, Table)
    assert [(row[4].text, row[4].tone) for row in table.rows] == [
        ("passed", "good"),
        ("failed", "off"),
        ("not enough data", "none"),
        ("above its limit, not required", "none"),
    ]
    assert [row[2].text for row in table.rows] == ["3.10 e⁻", "3.10 e⁻", "–", "GAIN"]
    assert next(tables.headline(results, None)).value == outcome


def test_a_reference_that_nobody_verified_says_so(filled):
    results = filled.reference(a_key(), ["jw1"])
    figure = next(tables.headline(results, None))
    assert (figure.value, figure.verdict, figure.tone) == ("built", "not verified", "none")
