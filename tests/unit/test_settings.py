"""Settings and their documentation."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.settings import StageSettings, settings_table


def test_the_documented_table_is_the_one_in_force():
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    assert settings_table() in page


def test_the_environment_sets_what_the_caller_does_not(monkeypatch, tmp_path):
    monkeypatch.setenv("DARKS_MIN_INTEGRATIONS", "7")
    assert StageSettings(store=tmp_path).min_integrations == 7
    assert StageSettings(store=tmp_path, min_integrations=3).min_integrations == 3


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("useafter", "2022-04-11", "2022-04-11T06:00:00"),
        ("useafter", "2022-04-31T00:00:00", "is no time"),
        ("useafter", "2022-04-11T06:00:00+00:00", "is no time"),
        ("emulate", ["DEEP8", "SLOW"], "'SLOW' cannot be emulated; choose from BRIGHT1"),
        ("emulate", ["RAPID"], "'RAPID' cannot be emulated"),
        ("pedigree", "FLIGHT", "'INFLIGHT', 'GROUND'"),
        ("previous_references", ["https://somewhere/dark.fits"], "neither a file nor s3://bucket/key"),
        ("previous_references", ["s3://B/dark.fits"], "not the address of a bucket"),
    ],
)
def test_what_no_dark_can_say_is_refused_at_once(tmp_path, setting, value, said):
    with pytest.raises(ValidationError, match=said):
        StageSettings(store=tmp_path, **{setting: value})


def test_reference_mode_compares_with_nothing_that_is_given(tmp_path):
    given = ["file:///darks/a.fits", "b.fits", "s3://darks/c.fits"]
    assert StageSettings(store=tmp_path, previous_references=given).previous_references == given
    with pytest.raises(ValidationError, match="use flight mode"):
        StageSettings(store=tmp_path, mode="reference", previous_references=given)


def test_patterns_to_emulate_come_in_one_spelling_and_order(monkeypatch, tmp_path):
    monkeypatch.setenv("DARKS_EMULATE", '["medium8", "DEEP8", "MEDIUM8"]')
    assert StageSettings(store=tmp_path).emulate == ["DEEP8", "MEDIUM8"]
