"""Plots and tables of products in which numbers are missing, constant, or there are none at all."""

import math

import numpy as np
import pytest
from matplotlib.text import Text
from pydantic import BaseModel

from nircam_darks.report.plots import events as plots_events
from nircam_darks.report.plots import jumps as plots_jumps
from nircam_darks.report.plots import noise as plots_noise
from nircam_darks.report.plots import pixels as plots_pixels
from nircam_darks.report.plots import reference as plots_reference
from nircam_darks.report.plots import spectrum as plots_spectrum
from nircam_darks.report.plots import stability as plots_stability
from nircam_darks.report.plots.style import styled
from nircam_darks.report.tables.emulated import emulated_curves
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.dq import PixelFlag
from shared.products.noise import EmulatedPattern, NoiseSpectrum, PixelRamp
from shared.store.local import LocalStore
from support.report_facts import events, flight_noise, flight_reference, flight_set, spectrum
from support.report_store import FilledStore, a_key
from support.written_report import Report

#: What every measured number is replaced by.
VALUES = {"missing": math.nan, "zero": 0.0, "constant": 7.0}
#: Zero is a special case of planes and of logarithmic axes only, and every picture takes its time.
MISSING_OR_CONSTANT = ("missing", "constant")
#: Planes (y, x) of a product.
PLANES = {name: np.full((64, 64), value, "f4") for name, value in VALUES.items()}
KEY = a_key()
NAMES = ["jw1", "jw2", "jw3"]


def replaced(value, by):
    """Return a product, or a part of it, with every measured float replaced."""
    if isinstance(value, ConfigurationKey):
        return value
    if isinstance(value, BaseModel):
        return value.model_copy(
            update={
                name: replaced(getattr(value, name), by)
                for name in type(value).model_fields
                # When, for how long and with which gain is known whatever was measured.
                if not any(known in name for known in ("mjd", "seconds", "usual", "group_time", "gain"))
            }
        )
    if isinstance(value, dict):
        return {name: replaced(each, by) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(replaced(each, by) for each in value)
    return by if isinstance(value, float | np.floating) else value


@pytest.fixture
def filled(tmp_path):
    return FilledStore(LocalStore(tmp_path / "store"), tmp_path)


@pytest.fixture(params=VALUES)
def value(request):
    return request.param


def drawn(picture):
    """Draw a picture, and return all that is written on it."""
    picture.figure.draw_without_rendering()
    return " ".join(text.get_text() for text in picture.figure.findobj(Text))


def reference(filled, by):
    return replaced(flight_reference(filled, KEY, NAMES), by)


@pytest.mark.parametrize(
    "draw",
    [
        plots_reference.dark_current_map,
        plots_reference.dark_current_histogram,
        plots_reference.contributions,
    ],
)
@pytest.mark.filterwarnings("error")
def test_planes_of_a_reference_are_drawn_whatever_they_hold(filled, value, draw):
    results = reference(filled, VALUES[value])
    with styled():
        picture = draw(PLANES[value], results)
        assert "nan" not in drawn(picture)
    assert "nan" not in picture.alt + picture.caption


@pytest.mark.filterwarnings("error")
def test_a_histogram_without_a_pixel_says_so(filled):
    with styled():
        picture = plots_reference.dark_current_histogram(PLANES["missing"], reference(filled, math.nan))
        assert "No pixel has a dark current" in drawn(picture)


@pytest.mark.parametrize("flags", [0, PixelFlag.UNRELIABLE_DARK, PixelFlag.HOT])
@pytest.mark.parametrize("draw", [plots_pixels.bad_pixels, plots_pixels.unreliable_pixels])
def test_flags_of_no_and_of_all_pixels_are_drawn(filled, flags, draw):
    quality = np.full((64, 64), flags, np.uint32)
    with styled():
        assert "pixels" in drawn(draw(quality, reference(filled, math.nan)))


@pytest.mark.parametrize("value", MISSING_OR_CONSTANT)
@pytest.mark.filterwarnings("error")
def test_ramps_of_a_reference_are_drawn_whatever_they_hold(filled, value):
    with styled():
        assert "nan" not in drawn(plots_reference.mean_ramp(reference(filled, VALUES[value])))


@pytest.mark.filterwarnings("error")
def test_noise_is_drawn_whatever_it_is(filled, value):
    noise = replaced(flight_noise(filled, KEY, NAMES), VALUES[value])
    pattern = EmulatedPattern(
        pattern="DEEP8",
        nframes=8,
        groupgap=12,
        groups=[2, 3],
        seconds=[1.0, 2.0],
        spatial=[VALUES[value]] * 2,
        theory=[VALUES[value]] * 2,
        error=VALUES[value],
    )
    power = replaced(NoiseSpectrum.model_validate_json(spectrum()), VALUES[value])
    power = power.model_copy(update={"frequencies_hz": [1.0 + n for n in range(40)], "pixel_seconds": 1e-5})
    with styled():
        pictures = [
            plots_noise.effective_noise(noise),
            plots_noise.cds_map(PLANES[value], noise),
            plots_noise.cds_histogram(PLANES[value], noise),
            plots_noise.cds_by_amplifier(noise),
            emulated_curves([pattern], noise),
            plots_spectrum.spectrum(power),
        ]
        for picture in filter(None, pictures):
            assert "nan" not in drawn(picture)


@pytest.mark.parametrize("value", MISSING_OR_CONSTANT)
@pytest.mark.filterwarnings("error")
def test_series_are_drawn_whatever_they_hold(filled, value):
    noise = replaced(flight_noise(filled, KEY, NAMES), VALUES[value])
    results = reference(filled, VALUES[value])
    with styled():
        pictures = [
            plots_stability.within_integrations(noise.stability, KEY.group_time, results),
            plots_stability.first_group_levels(noise.stability),
            plots_stability.dark_rates(noise.stability, results),
            plots_stability.cds_noise(noise.stability, noise.cds_noise),
        ]
        for picture in pictures:
            assert "nan" not in drawn(picture)


@pytest.mark.parametrize("value", MISSING_OR_CONSTANT)
@pytest.mark.filterwarnings("error")
def test_jumps_are_drawn_whatever_they_hold(filled, value):
    exposure = replaced(filled.exposure_noise(KEY, "jw1"), VALUES[value])
    none = replaced(events(0, filled.random), VALUES[value])
    none = none.model_copy(update={"charge": events(0, filled.random).charge})
    ramp = PixelRamp(
        x=1, y=1, integration=0, signal_dn=[VALUES[value]] * 5, jumps=[], slope=VALUES[value], intercept=0.0
    )
    with styled():
        pictures = [
            plots_jumps.flags_per_group([exposure]),
            plots_jumps.single_ramp(ramp, "jw1"),
            plots_jumps.ramp_grid([ramp], "jw1"),
            plots_events.charges([none]),
            plots_events.rates([none]),
        ]
        for picture in pictures:
            assert "nan" not in drawn(picture)


@pytest.mark.usefixtures("undrawn")
def test_a_set_of_which_nothing_could_be_measured_has_its_page(filled):
    # Given a set whose every number is NaN beside a good one
    key = a_key(detector="NRCA1")
    flight_set(filled, KEY, 3)
    plain = FilledStore(LocalStore(filled.folder / "other"), filled.folder)
    for n, name in enumerate(NAMES):
        filled.ramp(key, name, n)
        product = replaced(plain.exposure_noise(key, name, n, events=events(n, plain.random)), math.nan)
        filled.exposure_noise(key, name, n, **unlike(product, "configuration", "exposure_id"))
    filled.reference(key, NAMES, **unlike(reference(plain, math.nan), "configuration", "key", "exposures"))
    noise = replaced(flight_noise(plain, key, NAMES), math.nan)
    spectra = [("noise_spectrum.json", nan_spectrum())]
    filled.set_noise(
        key,
        NAMES,
        objects=spectra,
        **unlike(noise, "configuration", "key", "exposures"),
    )
    # When
    report = Report(filled)
    # Then both pages are whole, and neither has a number that is none
    assert len(report.pages) == 2
    for page in report.pages:
        assert "could not be" not in page.words
        words = page.words.lower().split()
        assert "nan" not in words, " ".join(words[words.index("nan") - 20 : words.index("nan") + 5])


def unlike(product, *fields):
    """Return the fields of a product other than those."""
    return {name: value for name, value in product if name not in (*fields, "set_id")}


def nan_spectrum() -> bytes:
    power = replaced(NoiseSpectrum.model_validate_json(spectrum()), math.nan)
    frequencies = [1.0 + n for n in range(40)]
    return power.model_copy(update={"frequencies_hz": frequencies}).model_dump_json().encode()
