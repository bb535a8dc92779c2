"""Settings and their documentation."""

from pathlib import Path

from shared.settings import StageSettings, settings_table


def test_the_documented_table_is_the_one_in_force():
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    assert settings_table() in page


def test_the_environment_sets_what_the_caller_does_not(monkeypatch, tmp_path):
    monkeypatch.setenv("DARKS_MIN_INTEGRATIONS", "7")
    assert StageSettings(store=tmp_path).min_integrations == 7
    assert StageSettings(store=tmp_path, min_integrations=3).min_integrations == 3
