"""What the report says of decisions: held and rejected references, what was compared, what is in the mean."""

import logging
import math
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from nircam_darks.operations.stability import StoreSeries, StoreStability
from nircam_darks.report import set_page as set_page_module
from nircam_darks.report.plots import pixels as plots_pixels
from nircam_darks.report.plots import reference as plots_reference
from nircam_darks.report.plots.spectrum import spectrum as draw_spectrum
from nircam_darks.report.plots.style import Picture, styled
from nircam_darks.report.store_wide import stability_chapter, stability_page
from nircam_darks.report.summary import build_summary
from nircam_darks.report.tables import reference as tables
from nircam_darks.report.tables.set import headline
from nircam_darks.report.text import verdict_note
from shared.nircam.dq import PixelFlag
from shared.nircam.geometry import science_pixels
from shared.products.noise import NoiseSpectrum
from shared.products.reference import (
    DIFFERENCE_MAP,
    FigureChange,
    LeftOutExposure,
    Verification,
    VerificationCheck,
)
from shared.products.sign_off import SignOff
from shared.statistics.trends import SeriesPoint, assess_series
from shared.statistics.verdicts import Acceptance, Measured, Value, compare, not_compared
from shared.store.local import LocalStore
from support.report_facts import flight_noise, flight_reference, spectrum
from support.report_store import FilledStore, a_key, fits_bytes
from support.written_report import Report

KEY = a_key()
NAMES = ["jw1", "jw2", "jw3"]


@pytest.fixture
def filled(tmp_path):
    return FilledStore(LocalStore(tmp_path / "store"), tmp_path)


def verification(acceptance, value=99.7):
    check = VerificationCheck(
        name="unreliable pixels",
        where="detector",
        passed=acceptance == Acceptance.ACCEPTED,
        value=value,
        limit=5.0,
        unit="%",
    )
    return Verification(
        accepted=acceptance == Acceptance.ACCEPTED,
        acceptance=acceptance,
        verdict=str(acceptance),
        amplifiers=[True],
        detector=False,
        checks=[check],
        measurements=3,
    )


def weights(results, sign_off=None):
    return [(block.lead, block.weight) for block in tables.status(results, sign_off)]


@pytest.mark.parametrize(
    ("acceptance", "weight"), [(Acceptance.HELD, "missing"), (Acceptance.REJECTED, "rejected")]
)
def test_a_page_begins_with_why_its_reference_cannot_be_used(filled, acceptance, weight):
    results = flight_reference(filled, KEY, NAMES, verification=verification(acceptance))
    first, made_of = tables.status(results)
    assert first.weight == weight
    assert "unreliable pixels" in first.text
    assert "99.7" in first.text
    assert made_of.weight == "plain"
    # and the index has the reason, too
    assert "99.7" in next(headline(results, None)).note


def test_an_accepted_reference_begins_with_what_it_is_made_of(filled):
    results = flight_reference(filled, KEY, NAMES, verification=verification(Acceptance.ACCEPTED, 0.1))
    assert weights(results) == [("Dark reference:", "plain")]


def test_a_reference_that_a_person_accepted_names_them_and_what_it_was_held_for(filled):
    results = flight_reference(filled, KEY, NAMES, verification=verification(Acceptance.HELD))
    word = SignOff(
        product="darkref/x",
        configuration=KEY.slug,
        set_id=results.set_id,
        by="Ada",
        time=datetime(2026, 3, 2, 9, tzinfo=UTC),
        reason="one output is known to be dead",
        held_for=["unreliable pixels of detector 25 % (limit 5 %)"],
    )
    first, _ = tables.status(results, word)
    for wanted in ("Ada", "2026-03-02", "one output is known to be dead", "25 %"):
        assert wanted in first.text


def test_integrations_left_out_are_named_with_what_sets_them_apart(filled):
    out = LeftOutExposure(
        exposure="jw2", quantity="dark rate", value=9933.0, expected=27.0, scatter=5.0, unit="e-/1000 s"
    )
    kept = out.model_copy(update={"exposure": "jw3", "left_out": False})
    results = flight_reference(
        filled, KEY, NAMES, integrations=6, integrations_in_use=5, left_out_exposures=[out, kept]
    )
    (sentence,) = tables.status(results)
    left_out, stands_apart = sentence.text.split("although they stand apart")
    assert sentence.text.startswith("5 of 6 integrations of 3 exposures")
    assert "jw2" in left_out
    assert "9933" in left_out
    assert "jw3" in stands_apart


def test_a_verdict_made_at_another_length_shows_the_value_that_was_compared():
    verdict = compare(Value(8.85, 0.04), Value(9.28, 0.12), condition="after 997 s")
    note = verdict_note(Measured.of(Value(9.26, 0.05), verdict))
    assert "8.850 ± 0.040" in note
    assert "after 997 s" in note


def test_a_verdict_on_the_figure_itself_needs_no_note():
    assert verdict_note(Measured.of(Value(9.26, 0.05), compare(Value(9.26, 0.05), Value(9.28, 0.12)))) == ""


def test_what_was_not_compared_says_why():
    assert verdict_note(not_compared(Value(9.26, 0.05), "the expectation is for 1000 s")) == (
        "the expectation is for 1000 s"
    )
    uncertain = Measured.of(Value(2.0, 37.0), compare(Value(2.0, 37.0), Value(1.9, 1.1)))
    assert "37" in verdict_note(uncertain)


def changes():
    return [
        FigureChange(
            figure="dark current",
            unit="e-/1000 s",
            before=27.0,
            before_error=0.5,
            after=29.0,
            after_error=0.4,
            change=2.0,
            change_error=0.5,
        ),
        FigureChange(figure="HOT", unit="pixels", before=3, after=5, change=2, newly=4, no_longer=2),
        FigureChange(figure="ERR of group 20, amplifier 1", unit="DN", before=0.4, after=0.2),
    ]


def test_the_replaced_reference_is_listed_figure_by_figure(filled):
    results = flight_reference(filled, KEY, NAMES, changes=changes())
    *_, table, _ = tables.blocks(results)
    rows = [[cell.text for cell in row] for row in table.rows]
    assert rows[0][2:] == ["27.00 ± 0.50", "29.00 ± 0.40", "2.00 ± 0.50", "4.0 sigma"]
    assert rows[1][2:5] == ["3", "5", "4 newly, 2 no longer"]
    assert rows[2][4:] == ["–", "–"]


@pytest.mark.usefixtures("undrawn")
def test_the_difference_image_of_a_product_is_on_its_page(filled, monkeypatch):
    plain = filled._commit
    image = filled.random.normal(0, 3, (64, 64)).astype("f4")
    monkeypatch.setattr(
        filled,
        "_commit",
        lambda product, path, results, objects=(), **more: plain(
            product, path, results, [*objects, (DIFFERENCE_MAP, fits_bytes("DIFFRATE", image))], **more
        ),
    )
    for n, name in enumerate(NAMES):
        filled.ramp(KEY, name, n)
    flight_reference(filled, KEY, NAMES, changes=changes())
    page = Report(filled).page
    assert any("against the reference that is replaced" in image["alt"] for image in page.images)
    assert "2.00 ± 0.50" in page.words


@pytest.mark.parametrize("level", [math.nan, 0.0, 7.0])
@pytest.mark.filterwarnings("error")
def test_a_difference_without_a_rate_or_without_scatter_is_drawn(filled, level):
    results = flight_reference(filled, KEY, NAMES)
    with styled():
        picture = plots_reference.difference_map(np.full((64, 64), level, "f4"), results)
        picture.figure.draw_without_rendering()
    assert "nan" not in picture.alt + picture.caption


def test_rates_of_amplifiers_have_their_errors_in_picture_and_summary(filled):
    rates, errors = [26.4, 27.1, None, 26.9], [0.5, 0.6, None, 3.2]
    for n, name in enumerate(NAMES):
        filled.ramp(KEY, name, n)
    results = flight_reference(
        filled,
        KEY,
        NAMES,
        amplifier_dark_current_e_per_ks=rates,
        amplifier_dark_current_error_e_per_ks=errors,
    )
    with styled():
        picture = plots_reference.dark_current_by_amplifier(results)
        picture.figure.draw_without_rendering()
    assert "26.40 ± 0.50, 27.10 ± 0.60, –, 26.9 ± 3.2" in picture.alt
    (entry,) = build_summary(filled.store, filled.run()).references
    assert entry.amplifier_dark_current_e_per_ks == rates
    assert entry.amplifier_dark_current_error_e_per_ks == errors


def test_the_spectrum_says_how_well_its_lines_fit():
    power = NoiseSpectrum.model_validate_json(spectrum())
    fitted = {"own_exponent": 1.2, "own_exponent_error": 0.03, "own_chi2": 14.2}
    with styled():
        plain = draw_spectrum(power).caption
        fit = draw_spectrum(power.model_copy(update=fitted)).caption
    assert "chi-square" not in plain
    assert "1.200 ± 0.030" in fit
    assert "14.2" in fit


@pytest.mark.usefixtures("undrawn")
def test_a_chapter_that_fails_says_so_and_hides_no_other(filled, monkeypatch, caplog):
    # Given two sets, and a fault in the tables of the one's noise
    other = a_key(detector="NRCA1")
    for key in (KEY, other):
        for n, name in enumerate(NAMES):
            filled.ramp(key, f"{name}_{key.detector}", n)
        names = [f"{name}_{key.detector}" for name in NAMES]
        filled.reference(key, names)
        flight_noise(filled, key, names)
    plain = set_page_module.tables.noise_properties

    def failing(noise):
        if noise.key == other:
            raise ValueError("cannot convert float NaN to integer")
        return plain(noise)

    monkeypatch.setattr(set_page_module.tables, "noise_properties", failing)
    # When
    with caplog.at_level(logging.ERROR):
        report = Report(filled)
    # Then both pages are there, and the failure is named on its own page only, and in the log
    failed = [page for page in report.pages if "cannot convert float NaN" in page.words]
    assert len(report.pages) == 2
    assert len(failed) == 1
    assert any("dark current of" in image["alt"] for image in failed[0].images)
    assert len(caplog.records) == 1


def test_a_plot_that_fails_is_an_empty_picture(filled, monkeypatch):
    with styled():
        picture = plots_reference.dark_current_by_amplifier(flight_reference(filled, KEY, NAMES))
        plain = type(picture.figure).savefig

        def failing(figure, *args, **kwargs):
            if figure is picture.figure:
                raise ValueError("Data cannot be log-scaled")
            return plain(figure, *args, **kwargs)

        monkeypatch.setattr(type(picture.figure), "savefig", failing)
        assert isinstance(picture, Picture)
        assert picture.svg


def test_the_histogram_reaches_to_its_true_ends_and_counts_every_pixel(filled):
    # Given noise with a few very bright and one very dark pixel
    pixels = filled.random.normal(27, 40, (64, 64)).astype("f4")
    pixels[30, 30:33] = 4e3, 8e4, 6e5
    pixels[31, 31] = -2500
    results = flight_reference(filled, KEY, NAMES)
    with styled():
        figure = plots_reference.dark_current_histogram(pixels, results).figure
    plot = figure.axes[0]
    (steps,) = (patch for patch in plot.patches if hasattr(patch, "get_data") and patch.get_fill())
    science = pixels[science_pixels(KEY)]
    # Then
    assert steps.get_data().values.sum() == science.size
    assert plot.get_xlim()[0] < science.min()
    assert plot.get_xlim()[1] > 6e5
    assert (plot.get_xscale(), plot.get_yscale()) == ("asinh", "log")
    assert "600,000" in plot.get_xlabel()
    # and the Gaussian of the quiet pixels is drawn to the same scale
    gauss = next(line for line in plot.lines if "Gaussian" in str(line.get_label()))
    assert np.sum(gauss.get_ydata()) == pytest.approx(science.size, rel=0.01)


def test_unreliable_pixels_are_counted_apart_from_the_others():
    # Given half of an amplifier unreliable, and one hot pixel that is not
    quality = np.zeros((64, 64), np.uint32)
    quality[:32, :16] = PixelFlag.UNRELIABLE_DARK
    quality[50, 50] = PixelFlag.HOT
    results = SimpleNamespace(key=KEY, flagged_pixels={"few_measurements": 500, "noisy": 12})
    expected = int(np.count_nonzero(science_pixels(KEY)[:32, :16]))
    with styled():
        others = plots_pixels.bad_pixels(quality, results)
        unreliable = plots_pixels.unreliable_pixels(quality, results)
    assert "1 pixel with a DQ flag other than UNRELIABLE_DARK" in others.caption
    assert f"{expected:,} of" in unreliable.alt
    assert "500 for too few measurements, 12 for their noise" in unreliable.caption


def test_a_series_that_could_not_have_shown_a_drift_has_no_tick():
    # Given the dark rate of 12 minutes with errors far above what is expected, and a long, quiet series
    rng = np.random.default_rng(5)
    short = [
        SeriesPoint(name=str(n), mjd=59698 + n / 720, value=rng.normal(27, 90), error=90.0) for n in range(6)
    ]
    long = [
        SeriesPoint(name=str(n), mjd=59698 + 30 * n, value=rng.normal(27, 0.5), error=0.5) for n in range(12)
    ]
    series = [
        StoreSeries(
            detector="NRCALONG",
            configuration=KEY.slug,
            quantity="dark rate",
            of="set",
            unit="e-/1000 s",
            simulated=True,
            points=points,
            test=assess_series(points, "e-/1000 s", 5.0),
        )
        for points in (short, long)
    ]
    whole = StoreStability(
        tested=2, drifting=0, outliers=0, by_chance=0.0, simulated=True, series=series, damaged=[]
    )
    # When
    with styled():
        table = stability_page(whole).chapters[0].blocks[0]
    # Then
    assert [row[-1].tone for row in table.rows] == ["none", "good"]
    assert "1 of them could not have shown" in stability_chapter(whole, "x").blocks[0].text
