"""Settings and their documentation."""

import pytest
from pydantic import ValidationError

from shared.settings.broker import BrokerSettings
from shared.settings.faults import accepted_values, variable_of
from shared.settings.mast import MastSettings
from shared.settings.service import ServiceSettings
from shared.settings.stage import S3Settings, StageSettings, settings_table
from support.paths import DOCS


def test_the_documented_table_is_the_one_in_force():
    page = (DOCS / "settings.md").read_text()
    assert settings_table() in page


def test_the_environment_sets_what_the_caller_does_not(monkeypatch, tmp_path):
    monkeypatch.setenv("DARKS_MIN_INTEGRATIONS", "7")
    assert StageSettings(store=tmp_path).min_integrations == 7
    assert StageSettings(store=tmp_path, min_integrations=3).min_integrations == 3


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("useafter", "2022-04-11"),
        ("useafter", "2022-04-31T00:00:00"),
        ("useafter", "2022-04-11T06:00:00+00:00"),
        ("emulate", ["DEEP8", "SLOW"]),
        ("emulate", ["RAPID"]),
        ("pedigree", "FLIGHT"),
        ("previous_references", ["https://somewhere/dark.fits"]),
        ("previous_references", ["s3://B/dark.fits"]),
    ],
)
def test_what_no_dark_can_say_is_refused_at_once(tmp_path, setting, value):
    with pytest.raises(ValidationError) as caught:
        StageSettings(store=tmp_path, **{setting: value})
    assert [fault["loc"][0] for fault in caught.value.errors()] == [setting]


def test_former_names_are_still_accepted(tmp_path, monkeypatch):
    assert StageSettings(store=tmp_path, max_equivalent_groups=7).max_fullframe_groups == 7
    monkeypatch.setenv("DARKS_MIN_MEASUREMENTS", "5")
    assert StageSettings(store=tmp_path).min_valid == 5
    assert StageSettings(store=tmp_path, min_valid=4).min_valid == 4
    with pytest.raises(ValidationError):
        StageSettings(store=tmp_path, min_measurements=0)


def test_notebook_mode_may_still_be_called_reference(tmp_path):
    modes = [StageSettings(store=tmp_path, mode=mode).mode for mode in ("notebook", "reference")]
    assert modes == ["notebook", "notebook"]


def test_notebook_mode_compares_with_nothing_that_is_given(tmp_path):
    given = ["file:///darks/a.fits", "b.fits", "s3://darks/c.fits"]
    assert StageSettings(store=tmp_path, previous_references=given).previous_references == given
    with pytest.raises(ValidationError):
        StageSettings(store=tmp_path, mode="reference", previous_references=given)


def test_patterns_to_emulate_come_in_one_spelling_and_order(monkeypatch, tmp_path):
    monkeypatch.setenv("DARKS_EMULATE", '["medium8", "DEEP8", "MEDIUM8"]')
    assert StageSettings(store=tmp_path).emulate == ["DEEP8", "MEDIUM8"]


def test_every_setting_can_say_what_it_takes():
    fields = {
        variable_of(kind, name): field
        for kind in (StageSettings, S3Settings, ServiceSettings, BrokerSettings, MastSettings)
        for name, field in kind.model_fields.items()
        if not hasattr(field.annotation, "model_fields")
    }
    unknown = [
        variable for variable, field in fields.items() if "a value that fits" in accepted_values(field)
    ]
    assert unknown == []
