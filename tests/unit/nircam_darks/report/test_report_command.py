"""`nircam-darks report`: which products it tells of, and where it writes."""

import pytest
from typer.testing import CliRunner

from nircam_darks.cli.main import app
from nircam_darks.report.html import write_report
from nircam_darks.report.record import of_run, of_store
from nircam_darks.report.summary import build_summary
from shared.errors import EnvironmentFault
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from support.pdf_reader import need_pdf
from support.report_store import FilledStore, a_key


@pytest.fixture
def results(tmp_path, undrawn):
    """A folder of results: one run's report, and the products of an exposure that came later."""
    filled = FilledStore(LocalStore(tmp_path / "results"), tmp_path / "results")
    filled.ramp(a_key(), "jw1")
    filled.exposure_noise(a_key(), "jw1")
    run = filled.run()
    record = of_run(filled.store, build_summary(filled.store, run), run)
    write_report(filled.store, record, filled.folder / "report.html")
    filled.ramp(a_key(detector="NRCB2"), "jw2")
    return filled.folder


def report(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_tells_of_the_last_run_again(results):
    before = (results / "report.html").read_text()
    (results / "report.html").unlink()
    done = report(results)
    assert done.exit_code == 0, done.output
    assert "last run" in done.output
    assert (results / "report.html").read_text() == before


def test_tells_of_all_that_the_store_holds_on_request_and_where_nothing_was_run(results, tmp_path):
    done = report(results, "--all", "--out", tmp_path / "all.html")
    assert done.exit_code == 0, done.output
    assert "NRCB2" in (tmp_path / "all.html").read_text()
    assert len(list((tmp_path / "all").glob("*.html"))) == 2
    # The record of the run is still that of the run
    assert "jw2" not in (results / "report" / "record.json").read_text()
    (results / "report" / "record.json").unlink()
    done = report(results, "--out", tmp_path / "store.html")
    assert "everything in the store" in done.output
    assert (tmp_path / "store.html").read_text().replace("store/", "all/") == (
        tmp_path / "all.html"
    ).read_text()


def test_writes_a_pdf_beside_the_html(results):
    need_pdf()
    done = report(results, "--format", "pdf")
    assert done.exit_code == 0, done.output
    assert (results / "report.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere"),
        (["results", "--format", "pdf", "--out", "x.html"], "--out x.html"),
        (["results", "--out", "none/x.html"], "--out none/x.html"),
        (["results", "--format", "txt"], "txt"),
    ],
)
def test_a_wrong_argument_is_named(results, monkeypatch, arguments, said):
    monkeypatch.chdir(results.parent)
    done = report(*arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_a_folder_without_products_is_no_store(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EnvironmentFault):
        of_store(LocalStore(tmp_path / "empty"), StageSettings(store=tmp_path / "empty"))


def test_of_a_store_the_newest_product_counts_and_a_rejection_only_where_no_ramp_came(tmp_path):
    # Given an exposure that was rejected before it was ingested, and one that was only rejected
    filled = FilledStore(LocalStore(tmp_path), tmp_path)
    filled.reject("jw1.fits", "jw1", "FITS", "jw1.fits: not a FITS file")
    filled.ramp(a_key(), "jw1")
    filled.reject("jw2.fits", "jw2", "FITS", "jw2.fits: not a FITS file")
    # When
    record = of_store(filled.store, StageSettings(store=tmp_path))
    # Then
    assert [(exposure.id, exposure.status) for exposure in record.summary.exposures] == [
        ("jw1", "ingested"),
        ("jw2", "rejected"),
    ]
    assert record.summary.references[0].verdict.startswith("not built: `nircam-darks status`")
