"""`nircam-darks coverage` and `nircam-darks stability`, over stores filled with drawn products."""

import io
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from nircam_darks.cli.commands.coverage import coverage_tables
from nircam_darks.cli.commands.stability import stability_tables
from nircam_darks.cli.main import app
from nircam_darks.operations.coverage import Coverage, ask_coverage, coverage_matrix
from nircam_darks.operations.stability import (
    StabilityAnswer,
    ask_stability,
    store_stability,
)
from shared.catalog.series_products import of_exposure_noise
from shared.errors import StoreUnavailable
from shared.settings.stage import StageSettings
from shared.statistics.verdicts import Measured
from shared.store.local import LocalStore
from shared.store.manifest import MANIFEST, find
from support.report_facts import events
from support.report_store import START, FilledStore, a_key

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SUB160 = {"detector": "NRCB1", "subarray": "SUB160", "subsize1": 160, "subsize2": 160, "noutputs": 1}


@pytest.fixture
def filled(tmp_path) -> FilledStore:
    return FilledStore(LocalStore(tmp_path / "store"), tmp_path / "store")


def matrix(filled):
    return coverage_matrix(filled.store, StageSettings(store=filled.folder), NOW)


def place(found, detector="NRCB1", subarray="SUB160", noutputs=1):
    [cell] = [
        c for c in found.cells if (c.detector, c.subarray, c.noutputs) == (detector, subarray, noutputs)
    ]
    return cell


def tell(filled, path, created=None, **results):
    """Change what a committed product says."""
    manifest = find(filled.store, path)
    manifest.results.update(results)
    manifest.created = created or manifest.created
    filled.store.put(f"{path}/{MANIFEST}", manifest.model_dump_json(by_alias=True).encode())


def shown(tables) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    for part in tables:
        console.print(part)
    return console.export_text()


def test_an_empty_store_lacks_everything(filled):
    result = matrix(filled)
    assert (result.complete, result.asked, result.simulated) == (0, len(result.cells), False)
    assert {cell.status for cell in result.cells} == {"missing"}


def test_what_is_in_hand_and_what_is_missing(filled):
    # Given one configuration with all its ramps and a reference, one with ramps only, one with too few
    whole, ready = a_key(**SUB160), a_key(**SUB160 | {"detector": "NRCB2"})
    few = a_key(detector="NRCA2", subarray="SUB640A210R", noutputs=1, coronmsk="MASKA210R")
    filled.ramp(whole, "jw1", integrations=5)
    filled.reference(whole, ["jw1"])
    filled.ramp(ready, "jw2", integrations=5)
    for n in range(3):
        filled.ramp(few, f"jw3{n}", n)
    # When
    result = matrix(filled)
    # Then
    assert (result.complete, result.simulated) == (1, True)
    cell = place(result)
    assert (cell.status, cell.ramps, cell.asked, cell.groups) == ("complete", 5, 5, 20)
    assert (cell.reference.accepted, cell.reference.exposures) == (None, 1)
    assert cell.configurations == [whole.slug]
    assert place(result, "NRCB2").status == "no reference"
    cell = place(result, "NRCA2", "SUB640A210R")
    assert (cell.status, cell.words, cell.coronmsk) == ("partial", "3 of 5 ramps", ["MASKA210R"])


def test_only_ramps_that_can_be_combined_count_together(filled):
    # Given ramps of two lengths, of another readout pattern, and of two epochs
    filled.ramp(a_key(**SUB160), "long", integrations=3)
    filled.ramp(a_key(**SUB160, ngroups=10), "short", integrations=4)
    filled.ramp(a_key(**SUB160, readpatt="DEEP8", nframes=8, groupgap=12), "deep", integrations=9)
    filled.ramp(a_key(**SUB160), "late", start_mjd=START + 90, end_mjd=START + 90.1, integrations=2)
    cell = place(matrix(filled))
    # Then the largest RAPID set counts, and the rest stands beside it
    assert (cell.ramps, cell.groups, cell.ramps_in_all) == (4, 10, 18)
    assert (cell.words, len(cell.configurations)) == ("4 of 5 ramps", 3)
    assert "4 (+14 other)" in " ".join(shown(coverage_tables(answer(filled))).split())


def test_a_rejected_reference_is_no_reference_and_hides_none(filled):
    # Given a reference that was accepted, and a newer one of more exposures that failed its verification
    key = a_key(**SUB160)
    filled.ramp(key, "jw1", integrations=5)
    filled.reference(key, ["jw1"], set_id="one")
    filled.reference(key, ["jw1", "jw2"], set_id="two")
    first, second = (f"darkref/{key.slug}/{name}/bb" for name in ("one", "two"))
    tell(filled, second, verification={"accepted": False, "verdict": "rejected: noise"})
    tell(filled, first, verification={"accepted": True})
    cell = place(matrix(filled))
    assert (cell.status, cell.reference.path, cell.reference.accepted) == ("complete", first, True)
    assert [reference.path for reference in cell.rejected_references] == [second]
    # When the first fails as well
    tell(filled, first, verification={"accepted": False, "verdict": "rejected: noise"}, created=NOW)
    cell = place(matrix(filled))
    assert (cell.status, cell.reference) == ("reference rejected", None)
    assert {each.path for each in cell.rejected_references} == {first, second}


def test_a_superseded_reference_is_not_the_current_one_however_new(filled):
    key = a_key(**SUB160)
    filled.reference(key, ["jw1", "jw2"], set_id="large")
    filled.reference(key, ["jw1"], set_id="small")
    tell(filled, f"darkref/{key.slug}/large/bb", created=NOW - timedelta(days=30))
    cell = place(matrix(filled))
    assert cell.reference.set_id == "large"
    assert (cell.status, cell.words) == ("partial", "0 of 5 ramps")


def test_a_reference_of_another_pattern_serves_nobody(filled):
    key = a_key(**SUB160, readpatt="DEEP8", nframes=8, groupgap=12)
    filled.ramp(key, "jw1", integrations=5)
    filled.reference(key, ["jw1"])
    assert place(matrix(filled)).status == "missing"


def test_what_nobody_asked_for_is_shown_and_does_not_count(filled):
    key = a_key(detector="NRCA1", subarray="SUB96DHSPILA", noutputs=1)
    filled.ramp(key, "jw1", integrations=7)
    result = matrix(filled)
    cell = place(result, "NRCA1", "SUB96DHSPILA")
    assert (cell.status, cell.ramps, cell.words) == ("beyond", 7, "not requested")
    assert len(result.cells) == result.asked + 1


def answer(filled) -> Coverage:
    return ask_coverage(lambda: LocalStore(filled.folder), StageSettings(store=filled.folder), NOW)


def test_the_coverage_is_told_in_eighty_columns(filled):
    filled.ramp(a_key(**SUB160), "jw1", integrations=5)
    filled.reference(a_key(**SUB160), ["jw1"])
    text = shown(coverage_tables(answer(filled)))
    assert max(map(len, text.splitlines())) <= 80
    output = " ".join(text.split())
    for words in (
        f"1 of {matrix(filled).asked} configurations",
        f"{matrix(filled).asked - 1} missing",
        "SIMULATED DATA",
        "NRCBLONG",
        "SUB160 1 – 5 20 unverified complete",
        "SUB640A210R 1 A210R 0 – – missing",
    ):
        assert words in output


def test_both_commands_print_json_and_end_with_three_where_the_store_is_away(filled, monkeypatch):
    monkeypatch.setenv("DARKS_STORE", str(filled.folder))
    filled.exposure_noise(a_key(), "jw1")
    for command, part in (("coverage", "coverage"), ("stability", "stability")):
        result = CliRunner().invoke(app, [command, "--json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)[part]["damaged"] == []
        assert CliRunner().invoke(app, [command]).exit_code == 0
    monkeypatch.setenv("DARKS_STORE", str(filled.folder / "none"))
    for command in ("coverage", "stability"):
        result = CliRunner().invoke(app, [command, "--json"])
        assert result.exit_code == 3
        assert "no such folder" in json.loads(result.stdout)["store_problem"]
        assert "no such folder" in CliRunner().invoke(app, [command]).stdout


def campaign(filled, key, sets=12, drift=0.5, outlier=None):
    """Commit sets of two exposures, a day apart, whose dark rate drifts; the noise of one is an outlier."""
    random = np.random.default_rng(7)
    for day in range(sets):
        names = [f"jw{day:02d}{n}" for n in range(2)]
        mjd = [START + day, START + day + 0.1]
        rate = 27 + drift * day + random.normal(0, 0.4)
        filled.reference(key, names, rate, 0.4, set_id=f"set{day}", integration_mjd=mjd)
        cds = 13.25 + random.normal(0, 0.02) + (0.5 if day == outlier else 0)
        filled.set_noise(
            key,
            names,
            temporal=False,
            set_id=f"set{day}",
            cds_noise=Measured(value=cds, error=0.02, verdict="within"),
        )
        stable = find(filled.store, f"noise/{key.slug}/set{day}/dd").results["stability"]
        stable |= {"integration_mjd": mjd, "exposure_ids": names}
        stable |= {"dark_rate_e_per_ks": [rate, rate], "dark_rate_error_e_per_ks": [0.3, 0.3]}
        tell(filled, f"noise/{key.slug}/set{day}/dd", stability=stable)
        for name, at in zip(names, mjd, strict=True):
            changes = {"integration_mjd": [at], "cds_noise_e": [13.3 + random.normal(0, 0.05)]}
            filled.exposure_noise(key, name, **changes)


def of(found, quantity, by):
    [series] = [each for each in found.series if (each.quantity, each.of) == (quantity, by)]
    return series


def test_drift_and_outlier_of_a_campaign_are_found_and_named(filled):
    # Given a dark rate that rises by 0.5 e-/1000 s a day, and a set whose CDS noise is off
    key = a_key()
    campaign(filled, key, outlier=5)
    # When
    result = store_stability(filled.store)
    # Then
    rate = of(result, "dark rate", "set")
    assert (rate.detector, rate.configuration, rate.unit) == ("NRCALONG", key.slug, "e-/1000 s")
    assert rate.test.state == "drifts"
    assert rate.test.drift.per_day == pytest.approx(0.5, abs=3 * rate.test.drift.per_day_error)
    assert [point.name for point in rate.points] == [f"set{day}" for day in range(12)]
    by_exposure = of(result, "dark rate", "exposure")
    assert (len(by_exposure.points), by_exposure.test.state) == (24, "drifts")
    noise = of(result, "CDS noise", "set")
    assert [outlier.name for outlier in noise.test.outliers] == ["set5"]
    assert noise.test.state == "steady"
    assert (result.drifting, result.simulated, result.damaged) == (2, True, [])
    text = shown(stability_tables(StabilityAnswer(time=NOW, stability=result, store_problem=None)))
    assert max(map(len, text.splitlines())) <= 80
    assert "drifts by +0." in text
    assert "set5" in text


def test_figures_without_a_value_give_no_series(filled):
    campaign(filled, a_key(), sets=2)
    result = store_stability(filled.store)
    assert "temporal effective noise" not in {series.quantity for series in result.series}
    assert of(result, "dark rate", "set").test.verdict == "not enough data (2 points)"
    assert result.tested == sum(each.test.drift is not None for each in result.series)


def test_the_jump_rate_does_not_depend_on_how_long_an_exposure_is(filled):
    # Given exposures of 100 s and 1000 s that are hit at 5 % per 1000 s
    key = a_key()
    for n, seconds in enumerate((100.0, 1000.0, 20000.0)):
        hit = 100 * (1 - np.exp(-0.05 * seconds / 1000))
        changes = {"science_jump_pixel_percent": hit, "live_seconds": seconds}
        filled.exposure_noise(key, f"jw{n}", integration_mjd=[START + n], **changes)
    rates = [point.value for point in of(store_stability(filled.store), "jump rate", "exposure").points]
    assert rates == pytest.approx([5.0, 5.0, 5.0])


def test_the_rate_of_cosmic_ray_hits_is_a_series_where_an_exposure_says_it(filled):
    measured = events(400, filled.random)
    results = filled.exposure_noise(a_key(), "jw1", events=measured)
    [hits] = [point for quantity, _, point in of_exposure_noise(results) if quantity == "hits"]
    assert (hits.name, hits.value) == ("jw1", measured.hits_per_cm2_s)
    assert hits.error == measured.hits_per_cm2_s_error


def test_what_was_measured_again_counts_once_and_a_superseded_set_not_at_all(filled):
    key = a_key()
    filled.reference(key, ["a"], 99.0, set_id="old")
    filled.reference(key, ["a", "b"], 27.0, set_id="new")
    filled.exposure_noise(key, "a", cds_noise_e=[13.0])
    again = find(filled.store, f"noise/{key.slug}/a/cc")
    again.path, again.created = f"noise/{key.slug}/a/dd", again.created + timedelta(hours=1)
    again.results["cds_noise_e"] = [14.0]
    filled.store.put(f"{again.path}/{MANIFEST}", again.model_dump_json(by_alias=True).encode())
    result = store_stability(filled.store)
    assert [point.value for point in of(result, "dark rate", "set").points] == [27.0]
    assert [point.value for point in of(result, "CDS noise", "exposure").points] == [14.0]


def test_a_damaged_manifest_is_named_and_hides_nothing_else(filled):
    filled.exposure_noise(a_key(), "a")
    filled.store.put("noise/x/y/zz/manifest.json", b"{")
    result = store_stability(filled.store)
    assert [address.endswith("noise/x/y/zz/manifest.json") for address in result.damaged] == [True]
    assert result.series
    asked = ask_stability(lambda: LocalStore(filled.folder))
    [address] = result.damaged
    assert address in shown(stability_tables(asked)).replace("\n", "")


def test_a_store_that_does_not_answer_is_told_of():
    def away() -> LocalStore:
        raise StoreUnavailable("no answer from\nthe store")

    result = ask_stability(away)
    assert (result.stability, result.store_problem) == (None, "no answer from the store")
    assert "no answer from the store" in shown(stability_tables(result))
