"""Options of `run` and `simulate` are the declared fields; usage errors name the option; help everywhere."""

import dataclasses
import inspect
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from nircam_darks.cli.commands.run import RUN_OPTIONS
from nircam_darks.cli.commands.simulate import SIMULATE_OPTIONS
from nircam_darks.cli.main import app
from nircam_darks.cli.options import (
    binary_size,
    declared_fields,
    field_options,
    size_in_bytes,
    stage_settings,
)
from nircam_darks.simulation.plan import SimulationPlan
from shared.settings.stage import StageSettings

#: Options that scripts use: none of them may go.
_RUN = {
    *("--out", "--mode", "--override", "--min-integrations", "--min-measurements", "--max-memory"),
    *("--max-equivalent-groups", "--jobs", "--persistence-time", "--pixel", "--crds-path", "--crds-context"),
    *("--author", "--descrip", "--pedigree", "--useafter", "--compare-with", "--emulate"),
}
_SIMULATE = {
    *("--out", "--detector", "--subarray", "--readpatt", "--ngroups", "--nints", "--exposures"),
    *("--noutputs", "--start", "--seed", "--cosmic-ray-rate", "--scene", "--snowballs", "--plan"),
    *("--real-references", "--demo"),
}


def _command(*words):
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "300"})


def _commands():
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        yield (name,), command
        for sub, under in getattr(command, "commands", {}).items():
            yield (name, sub), under


@pytest.fixture
def received():
    """What a command gets that takes the options of `run`."""
    values = {}

    @field_options(StageSettings, RUN_OPTIONS)
    def command(values_too: bool = False, values: dict | None = None) -> None:
        received.update(values)

    received = values
    one = typer.Typer()
    one.command()(command)

    def invoke(*words):
        done = CliRunner().invoke(one, list(words))
        assert done.exit_code == 0, done.output
        return received

    return invoke


@pytest.mark.parametrize(("name", "options"), [("run", _RUN), ("simulate", _SIMULATE)])
def test_every_option_that_there_was_is_accepted(name, options):
    [command] = [command for path, command in _commands() if path == (name,)]
    accepted = {flag for parameter in command.params for flag in parameter.opts}
    assert options <= accepted


def test_defaults_help_and_bounds_are_those_of_the_settings(received, tmp_path):
    given = received()
    assert set(given) == {option.field for option in RUN_OPTIONS}
    defaults = StageSettings(store=tmp_path)
    for option in RUN_OPTIONS:
        assert given[option.field] == getattr(defaults, option.field), option.field
    shown = " ".join(_command("run", "--help").output.split())
    assert all(StageSettings.model_fields[option.field].description for option in RUN_OPTIONS)
    assert StageSettings.model_fields["persistence_time"].description in shown


def test_text_becomes_the_values_of_settings(received, tmp_path):
    mask = tmp_path / "mask.fits"
    mask.touch()
    given = received(
        *("--override", f"mask={mask}", "--pixel", "3,4", "--pixel", "5,6", "--max-memory", "1500MiB"),
        *("--emulate", "DEEP8", "--compare-with", str(mask), "--compare-with", "s3://darks/a.fits"),
    )
    assert given["overrides"] == {"mask": mask}
    assert given["pixels"] == [(3, 4), (5, 6)]
    assert given["max_memory"] == 1500 * 1024**2
    assert given["emulate"] == ["DEEP8"]
    assert given["previous_references"] == [str(mask), "s3://darks/a.fits"]
    assert stage_settings(RUN_OPTIONS, store=tmp_path, **given).pixels == [(3, 4), (5, 6)]


@pytest.mark.parametrize("old", ["reference", "notebook"])
def test_notebook_mode_has_two_names(received, tmp_path, old):
    given = received("--mode", old)
    assert stage_settings(RUN_OPTIONS, store=tmp_path, **given).mode == "notebook"


def test_the_fields_of_a_plan_are_those_of_its_options():
    declared = declared_fields(SimulationPlan)
    # The program alone is for tests and campaigns.
    assert {option.field for option in SIMULATE_OPTIONS} == set(declared) - {"program"}
    for field in dataclasses.fields(SimulationPlan):
        if field.default is not dataclasses.MISSING:
            assert declared[field.name].default == field.default
    assert all(each.description for each in declared.values())


@pytest.mark.parametrize(
    ("option", "value", "more"),
    [
        ("--mode", "median", ()),
        ("--override", "dark=x.fits", ()),
        ("--override", "mask=nowhere.fits", ()),
        ("--max-memory", "much", ()),
        ("--max-memory", "1MB", ()),
        ("--pixel", "3", ()),
        ("--min-integrations", "0", ()),
        ("--pedigree", "FLIGHT", ()),
        ("--useafter", "yesterday", ()),
        ("--emulate", "SLOW", ()),
        ("--compare-with", "nowhere.fits", ()),
        ("--min-measurements", "0", ()),
        ("--compare-with", "s3://darks/a.fits", ("--mode", "reference")),
        ("--no-such-option", "1", ()),
    ],
)
def test_a_usage_error_is_one_line_that_names_option_and_command(tmp_path, option, value, more):
    out = tmp_path / "results"
    done = _command("run", "exposure.fits", "--out", str(out), option, value, *more)
    assert done.exit_code == 2
    [line] = done.stderr.splitlines()
    assert option in line
    assert "run" in line
    assert not out.exists()


def test_version_and_help_are_on_every_level():
    assert _command("--version").output.split() == ["nircam-darks", metadata.version("nircam-darks")]
    for path, command in _commands():
        assert command.help, path
        for flag in ("-h", "--help"):
            assert _command(*path, flag).exit_code == 0, path
    assert _command("--show-completion", "--help").exit_code == 0


def test_every_option_has_a_help_that_ends_like_a_sentence():
    for path, command in _commands():
        for parameter in command.params:
            if parameter.name != "help":
                assert (parameter.help or "").endswith("."), (path, parameter.name)


def test_no_command_line_module_waits_for_the_pipeline():
    code = (
        "import sys, nircam_darks.cli.main\n"
        "slow = {'jwst', 'astropy', 'scipy', 'matplotlib', 'numba', 'boto3', 'astroquery'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", ["64MiB", "2GiB", "3KiB", "1500MiB", "1001"])
def test_a_size_is_written_as_it_is_read(size):
    assert binary_size(size_in_bytes(size)) == size


def test_the_decorated_command_keeps_its_own_parameters():
    @field_options(StageSettings, RUN_OPTIONS)
    def command(files: list[Path], values: dict) -> None:
        """Do it."""

    names = list(inspect.signature(command).parameters)
    assert names == ["files", *(option.field for option in RUN_OPTIONS)]
    assert command.__doc__ == "Do it."
