"""A figure declared in one row is everywhere: summary, report, ECSV, message, metrics and stability."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT, TESTS

VALUE, ERROR = 41.5, 0.5


def declare_made_up_figure() -> None:
    """Do what a change to the code would: its arithmetic, and its row."""
    from shared.products import figures
    from shared.statistics.verdicts import Value, measured_against, not_compared

    row = figures.FigureDefinition("made_up_e", "Made-up figure", "e-", verdict_name="made-up")
    figures.SET_FIGURES += (row,)
    figures.EXPOSURE_FIGURES += (figures.FigureDefinition("made_up_dn", "Made-up level", "DN"),)
    # Imported after that, as every other module that looks at the rows.
    from services.noise import exposure, set_summary

    set_summary.FURTHER_SET_FIGURES = {
        "made_up_e": lambda measured: measured_against(Value(VALUE, ERROR), Value(20.0, 1.0))
    }
    exposure.FURTHER_EXPOSURE_FIGURES = {
        "made_up_dn": lambda ingested, noise: not_compared(Value(VALUE, ERROR), "made up")
    }


def measure(folder: Path) -> dict[str, Any]:
    """Measure a small set, and return what of the made-up figure comes out where."""
    declare_made_up_figure()
    from datetime import UTC, datetime

    from nircam_darks.operations.stability import store_stability
    from nircam_darks.report.figures_file import FIGURES_FILE, write_figures
    from nircam_darks.report.summary import RunResult, build_summary
    from nircam_darks.report.tables.set import noise_figures
    from services.noise.handler import handle
    from shared.products.noise import SetNoiseResults
    from shared.runtime.handler import StageContext
    from shared.runtime.metrics import Metrics
    from shared.settings.stage import StageSettings
    from shared.store.local import LocalStore
    from shared.store.manifest import find_all
    from support.configurations import configuration
    from support.noise_sets import ingested, put_ramp, set_ready, white_ramps
    from support.scraped_metrics import value, work

    store, settings = LocalStore(folder / "store"), StageSettings(store=folder / "store")
    key = configuration(16, 32, 5)
    members = [put_ramp(store, folder, key, white_ramps(key, 2, seed=n), number=n) for n in (1, 2)]
    ready = set_ready(key, members)
    [sent] = handle(ready, StageContext(store, settings))
    [manifest] = [each for each in find_all(store, "noise/") if each.product == "set-noise"]
    results = SetNoiseResults.model_validate(manifest.results)
    now = datetime.now(UTC)
    run = RunResult(
        files=[], manifests=[manifest.path], rejected={}, failures=[], settings=settings, started=now,
        finished=now,
    )  # fmt: skip
    summary = build_summary(store, run)
    write_figures(summary, folder / FIGURES_FILE)
    metrics = Metrics("noise", simulated=True)
    work(metrics, ready, sent.message)
    place = (key.detector, key.subarray)
    exposure = ingested(key, members[0])
    [sent_of_exposure] = handle(exposure, StageContext(store, settings))
    work(metrics, exposure, sent_of_exposure.message)
    series = [entry for entry in store_stability(store).series if entry.quantity == "Made-up figure"]
    return {
        "summary": json.loads(summary.model_dump_json())["noise"][0]["figures"]["made_up_e"],
        "report": [vars(row) for row in noise_figures(results) if row.name == "Made-up figure"],
        "message": sent.message.data["figures"]["made_up_e"],
        "headline": sent.message.data["headline"]["made_up_e"],
        "verdicts": sorted(results.verdicts),
        "metric": value(metrics, "darks_figure", *place, "made_up_e"),
        "off": value(metrics, "darks_out_of_expected_band", *place, "noise"),
        "exposure": sent_of_exposure.message.data["figures"]["made_up_dn"]["value"],
        "exposure_metric": value(metrics, "darks_figure", *place, "made_up_dn"),
        "exposure_series": [
            one.of for one in store_stability(store).series if one.quantity == "Made-up level"
        ],
        "series": [(one.unit, one.of, [point.value for point in one.points]) for one in series],
    }


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    # In a process of its own: the rows of this one stay as they are.
    folder = tmp_path_factory.mktemp("figure")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)])}
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_it_is_in_the_summary_and_the_message_with_its_verdict(measured: tuple[Path, dict[str, Any]]) -> None:
    _, result = measured
    for figure in (result["summary"], result["message"]):
        assert (figure["value"], figure["error"], figure["expected"]) == (VALUE, ERROR, 20.0)
        assert figure["comparison"]["state"] == "above"
    assert result["headline"] == VALUE
    assert "made-up" in result["verdicts"]


def test_it_has_a_row_in_the_report(measured: tuple[Path, dict[str, Any]]) -> None:
    [row] = measured[1]["report"]
    assert (row["value"], row["unit"], row["tone"]) == ("41.50 ± 0.50", "e⁻", "above")


def test_it_is_shown_to_prometheus_and_followed_in_time(measured: tuple[Path, dict[str, Any]]) -> None:
    _, result = measured
    # A message of an exposure came after that of the set, and left the set's verdict as it was
    assert (result["metric"], result["off"]) == (VALUE, 1.0)
    assert result["series"] == [["e-", "set", [VALUE]]]


def test_a_figure_of_an_exposure_goes_the_same_way(measured: tuple[Path, dict[str, Any]]) -> None:
    _, result = measured
    assert (result["exposure"], result["exposure_metric"]) == (VALUE, VALUE)
    assert result["exposure_series"] == ["exposure"]


def test_it_is_in_the_table_of_figures(measured: tuple[Path, dict[str, Any]]) -> None:
    from astropy.table import Table

    table = Table.read(measured[0] / "figures.ecsv")
    [row] = table[table["figure"] == "made_up_e"]
    assert (row["value"], row["error"], row["unit"], row["state"]) == (VALUE, ERROR, "e-", "above")
    # What every set has is there too, by its own row
    assert {"cds_noise_e", "ktc_noise_e", "white_noise_e", "jump_flags"} <= set(table["figure"])


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
