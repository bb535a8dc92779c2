"""The tables at the end of a run."""

import io

import pytest
from rich.console import Console

from nircam_darks.cli.tables import terminal_table
from nircam_darks.report.summary import build_summary
from shared.statistics.verdicts import Value, measured_against
from shared.store.local import LocalStore
from support.report_store import FilledStore, a_key


@pytest.fixture
def filled(tmp_path):
    return FilledStore(LocalStore(tmp_path / "store"), tmp_path)


def shown(filled, width: int) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    for part in terminal_table(build_summary(filled.store, filled.run())):
        console.print(part)
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 100])
def test_fits_the_terminal_and_loses_nothing(filled, width):
    # Given a run with all that a table may hold
    key = a_key(detector="NRCA3")
    filled.whole_set(a_key(), 10)
    filled.ramp(key, "jw9")
    filled.fail("darkref", "set 70 has 1 integration; a reference needs 2", configuration=key.slug)
    filled.fail("noise", "the disk is full [/bold]", configuration="x_1")
    filled.reject(f"{'a-very-long-name-' * 5}.fits", "long", "FITS", "not a FITS file [red]")
    # When
    lines = shown(filled, width)
    # Then no line is wider, and every figure and every reason is there
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for wanted in ("SIMULATED DATA", "26.83 ± 0.41", "27 ± 5", "within", "1 rejected", "[red]", "[/bold]"):
        assert wanted in text
    together = "".join("".join(lines).split())
    assert "a-very-long-name-" in together
    assert "nota" in together.replace("file", "")
    assert "not built" in text


def test_names_of_configurations_are_short_where_that_tells_them_apart(filled):
    # Given two configurations that differ in what the short name does not say
    one, other = a_key(), a_key(tframe=10.0)
    filled.ramp(one, "jw1")
    filled.ramp(other, "jw2")
    filled.ramp(a_key(detector="NRCA1"), "jw3")
    text = "".join("".join(shown(filled, 160)).split())
    # Then those two keep their digest, the third does not need it
    assert one.slug in text
    assert other.slug in text
    assert a_key(detector="NRCA1").slug not in text


def test_only_what_is_off_is_said_of_the_noise(filled):
    key = a_key()
    names = [filled.ramp(key, "jw1").exposure_id]
    jumps = measured_against(Value(3.3, 0.1), Value(1.0, 1.0))
    filled.set_noise(key, names, temporal=False, jump_pixel_percent=jumps)
    text = " ".join(" ".join(shown(filled, 160)).split())
    assert "jumps 2.3 sigma above expected" in text
    assert "CDS noise within" not in text


def test_a_run_without_anything_is_one_line(filled):
    assert [line for line in shown(filled, 80) if line.strip()] == ["0 exposures ingested, 0 rejected"]
