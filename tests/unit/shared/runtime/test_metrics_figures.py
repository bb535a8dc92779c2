"""What Prometheus sees of the detectors: dark current, noise and jumps, and what is expected of them."""

import math
from datetime import timedelta

import numpy as np
import pytest

from services.darkref.measure.dark_current import DarkCurrent, compare_dark_current
from shared.nircam.detectors import detectors
from shared.runtime.metric_names import VERIFICATIONS
from shared.runtime.metrics import Metrics
from shared.statistics.verdicts import Value, measured_against
from support.scraped_metrics import golden, value, work


def test_the_figures_of_a_measured_set_are_shown_by_detector_and_subarray() -> None:
    metrics, ready = Metrics("noise"), golden("set.ready")
    work(metrics, ready, golden("reference.built", dark_current_e_per_ks=27.5))
    headline = {"spatial_effective_noise_e": 6.25, "jump_pixel_percent": 1.5}
    work(metrics, ready, golden("noise.measured", headline=headline))
    place = ("NRCALONG", "SUB640")
    assert value(metrics, "darks_dark_current_electrons_per_kilosecond", *place) == 27.5
    assert value(metrics, "darks_effective_noise_electrons", *place) == 6.25
    assert value(metrics, "darks_jump_pixel_fraction", *place) == pytest.approx(0.015)
    # An exposure's message has no effective noise: the set's stays
    exposure = {"set_id": None, "exposure_id": "jw01062001001_02101_00001_nrcalong"}
    measured = golden("noise.measured", headline={"jump_pixel_percent": 3.0}, **exposure)
    work(metrics, golden("exposure.ingested"), measured)
    assert value(metrics, "darks_effective_noise_electrons", *place) == 6.25
    assert value(metrics, "darks_jump_pixel_fraction", *place) == pytest.approx(0.03)


def test_simulated_figures_are_not_shown_as_the_detector_s() -> None:
    ready = golden("set.ready", simulated=True)
    hidden, rehearsal = Metrics("darkref"), Metrics("darkref", simulated=True)
    for metrics in (hidden, rehearsal):
        work(metrics, ready, golden("reference.built"))
    name = "darks_dark_current_electrons_per_kilosecond"
    assert value(hidden, name, "NRCALONG", "SUB640") is None
    assert value(rehearsal, name, "NRCALONG", "SUB640") == 27.5


def test_a_figure_that_is_not_a_number_is_shown_as_none() -> None:
    metrics = Metrics("darkref")
    work(metrics, golden("set.ready"), golden("reference.built", dark_current_e_per_ks="NaN"))
    current = value(metrics, "darks_dark_current_electrons_per_kilosecond", "NRCALONG", "SUB640")
    assert current is not None
    assert math.isnan(current)


@pytest.mark.parametrize(
    ("acceptance", "verification"),
    [("accepted", "accepted"), ("held", "held"), ("rejected", "rejected"), (None, "unverified")],
)
def test_a_reference_is_counted_by_its_verification(acceptance: str | None, verification: str) -> None:
    metrics = Metrics("darkref")
    work(metrics, golden("set.ready"), golden("reference.built", accepted=None, acceptance=acceptance))
    counted = {
        each: value(metrics, "darks_references_built_total", "darkref", each) for each in VERIFICATIONS
    }
    assert counted == {entry: float(entry == verification) for entry in VERIFICATIONS}


@pytest.mark.parametrize(("rate", "off"), [(27.0, 0), (45.0, 1), (10.0, 1)])
def test_a_dark_current_out_of_its_band_is_known_by_its_verdict(rate: float, off: int) -> None:
    # Given a verdict as darkref gives it
    current = DarkCurrent(rate, 1.0, [rate], [rate], 0, np.empty((0, 0), np.float32))
    comparison = compare_dark_current(current, detectors()["NRCALONG"].expected.dark_current_nrc09)
    metrics = Metrics("darkref")
    work(
        metrics, golden("set.ready"), golden("reference.built", comparison=comparison.model_dump(mode="json"))
    )
    place = ("NRCALONG", "SUB640", "dark_current")
    assert value(metrics, "darks_out_of_expected_band", *place) == off


def test_a_dark_current_has_its_own_error_beside_it() -> None:
    # Given a reference whose error was said
    metrics, ready = Metrics("darkref"), golden("set.ready")
    name, place = "darks_dark_current_error_electrons_per_kilosecond", ("NRCALONG", "SUB640")
    work(metrics, ready, golden("reference.built", dark_current_error_e_per_ks=0.4125))
    assert value(metrics, name, *place) == 0.4125
    # When one is built whose message is of before there was an error in it
    work(
        metrics,
        ready,
        golden("reference.built", dark_current_e_per_ks=30.0, dark_current_error_e_per_ks=None),
    )
    # Then that of the reference before is not taken for this one's
    error = value(metrics, name, *place)
    assert error is not None
    assert math.isnan(error)
    assert value(metrics, "darks_dark_current_electrons_per_kilosecond", *place) == 30.0


def test_a_figure_that_the_newest_set_lacks_is_not_that_of_the_set_before() -> None:
    metrics, ready = Metrics("noise"), golden("set.ready")
    # Given a set with all figures; when the next one has no effective noise, and no jumps counted
    whole = {"spatial_effective_noise_e": 6.25, "cds_noise_e": 9.0, "jump_pixel_percent": 2.0}
    for headline in (whole, {"cds_noise_e": 9.5, "spatial_effective_noise_e": None}):
        work(metrics, ready, golden("noise.measured", headline=headline))
    # Then that figure is not known; jumps, which exposures have too, are those that were counted last
    noise = value(metrics, "darks_effective_noise_electrons", "NRCALONG", "SUB640")
    assert noise is not None
    assert math.isnan(noise)
    assert value(metrics, "darks_cds_noise_electrons", "NRCALONG", "SUB640") == 9.5
    assert value(metrics, "darks_jump_pixel_fraction", "NRCALONG", "SUB640") == pytest.approx(0.02)


def test_a_set_s_noise_is_out_of_its_band_if_any_figure_of_it_is() -> None:
    # Given a good and a bad figure
    expected = Value(9.28, 0.12)
    good = measured_against(Value(9.2, 0.1), expected).model_dump(mode="json")
    bad = measured_against(Value(12.0, 0.1), expected).model_dump(mode="json")
    metrics, place = Metrics("noise"), ("NRCALONG", "SUB640", "noise")
    for figures, off in (({"cds_noise_e": good}, 0), ({"cds_noise_e": good, "jump_pixel_percent": bad}, 1)):
        work(metrics, golden("set.ready"), golden("noise.measured", figures=figures))
        assert value(metrics, "darks_out_of_expected_band", *place) == off


def test_the_expected_bands_are_those_of_the_detectors_table() -> None:
    low, high = 27.0 - 2 * 5.0, 27.0 + 2 * 5.0
    name = "darks_expected_dark_current_electrons_per_kilosecond"
    darkref, noise = Metrics("darkref"), Metrics("noise")
    assert (value(darkref, name, "NRCALONG", "low"), value(darkref, name, "NRCALONG", "high")) == (low, high)
    assert value(noise, name, "NRCALONG", "low") is None
    assert value(noise, "darks_expected_cds_noise_electrons", "NRCB1", "low") == pytest.approx(13.89)
    assert value(noise, "darks_expected_effective_noise_electrons", "NRCB1", "high") == pytest.approx(9.15)


def test_a_product_that_is_told_again_does_not_hide_a_newer_one() -> None:
    # Given a reference, and one made an hour later
    metrics, ready = Metrics("darkref"), golden("set.ready")
    early = golden("reference.built", dark_current_e_per_ks=20.0)
    late = golden("reference.built", dark_current_e_per_ks=30.0).model_copy(
        update={"time": early.time + timedelta(hours=1)}
    )
    # When the first is told again after the second, Then the second stays
    for message in (early, late, early):
        work(metrics, ready, message)
    place = ("NRCALONG", "SUB640")
    assert value(metrics, "darks_dark_current_electrons_per_kilosecond", *place) == 30.0
    measured = value(metrics, "darks_measured_timestamp_seconds", *place, "dark_current")
    assert measured == late.time.timestamp()
