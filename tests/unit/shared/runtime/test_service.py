"""A service's settings, and the exit codes that say why it ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.errors import EnvironmentFault
from shared.runtime.service import ExitCode, exit_code_table, program
from shared.settings.logs import LogSettings
from shared.settings.service import (
    ServiceSettings,
    broker_settings_table,
    read_settings,
    read_settings_file,
    service_settings_table,
)
from shared.settings.stage import StageSettings
from support.paths import DOCS


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("DARKS_"):
            monkeypatch.delenv(name)


def test_the_documented_tables_are_those_in_force() -> None:
    page = (DOCS / "settings.md").read_text()
    assert service_settings_table() in page
    assert broker_settings_table() in page
    assert exit_code_table() in (DOCS / "services.md").read_text()


def test_the_environment_sets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKS_RETRY_DELAYS", "[3, 60]")
    monkeypatch.setenv("DARKS_LOG_LEVEL", "debug")
    monkeypatch.setenv("DARKS_SIMULATED_METRICS", "true")
    settings = read_settings(ServiceSettings)
    assert settings.retry_delays == [3.0, 60.0]
    assert settings.simulated_metrics
    assert settings.logs() == LogSettings("debug", "json")


def test_a_file_sets_what_the_environment_does_not(tmp_path: Path) -> None:
    # Given a file with settings of every kind, one of which the environment has too
    file = tmp_path / "darks.env"
    file.write_text(
        "# the archive's bucket\nDARKS_STORE=s3://darks\nDARKS_S3_ENDPOINT=https://rgw:7443\n"
        "DARKS_BROKER_URL='amqps://me:pa$$word@rabbit/darks'\nCRDS_PATH=/crds\nDARKS_HTTP_PORT=9\n"
    )
    environment = {"DARKS_SETTINGS_FILE": str(file), "DARKS_HTTP_PORT": "8081"}
    # When it is read
    read_settings_file(environment)
    # Then the environment won, and what looks like a variable in a value is none
    assert environment == {
        "DARKS_SETTINGS_FILE": str(file),
        "DARKS_STORE": "s3://darks",
        "DARKS_S3_ENDPOINT": "https://rgw:7443",
        "DARKS_BROKER_URL": "amqps://me:pa$$word@rabbit/darks",
        "CRDS_PATH": "/crds",
        "DARKS_HTTP_PORT": "8081",
    }


@pytest.mark.parametrize(
    ("content", "setting"),
    [
        (None, "DARKS_SETTINGS_FILE"),
        (b"\xff\xfe=", "DARKS_SETTINGS_FILE"),
        (b"DARKS_HTPP_PORT=80", "DARKS_HTPP_PORT"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, content: bytes | None, setting: str) -> None:
    file = tmp_path / "darks.env"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(EnvironmentFault) as caught:
        read_settings_file({"DARKS_SETTINGS_FILE": str(file)})
    assert (caught.value.where, caught.value.setting) == (str(file), setting)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DARKS_HTTP_PORT", "hunter2"),
        ("DARKS_HTTP_PORT", "70000"),
        ("DARKS_RETRY_DELAYS", "hunter2"),
        ("DARKS_RETRY_DELAYS", "[]"),
        ("DARKS_RETRY_DELAYS", "[-1]"),
        ("DARKS_LOG_LEVEL", "hunter2"),
        ("DARKS_JOB_SECONDS", "0"),
        ("DARKS_GRACE_SECONDS", "-1"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentFault) as caught:
        read_settings(ServiceSettings)
    assert name.removeprefix("DARKS_").lower() in str(caught.value).lower()
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_missing_setting_is_named() -> None:
    with pytest.raises(EnvironmentFault) as caught:
        read_settings(StageSettings)
    assert caught.value.setting == "DARKS_STORE"


def test_a_wrong_setting_of_the_store_is_named_as_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKS_STORE", "s3://darks")
    monkeypatch.setenv("DARKS_S3_ENDPOINT", "https://key:hunter2@rgw")
    with pytest.raises(EnvironmentFault) as caught:
        read_settings(StageSettings)
    assert caught.value.setting == "DARKS_S3_ENDPOINT"
    assert "hunter2" not in str(caught.value)


def run(stage: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"services.{stage}"],
        env={**os.environ, "DARKS_BROKER_URL": "memory://", "DARKS_HTTP_PORT": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_without_settings_it_ends_with_one_line() -> None:
    process = run("noise", {"DARKS_LOG_LEVEL": "loud"})
    out, errors = process.communicate(timeout=60)
    assert process.returncode == ExitCode.CONFIGURATION
    assert out == ""
    [line] = errors.splitlines()
    assert line.startswith("noise: ")
    assert "DARKS_LOG_LEVEL" in line


def test_a_broker_s_address_that_is_none_is_a_wrong_setting(tmp_path: Path) -> None:
    process = run("noise", {"DARKS_STORE": str(tmp_path), "DARKS_BROKER_URL": "http://me:hunter2@rabbit/"})
    _, errors = process.communicate(timeout=60)
    assert process.returncode == ExitCode.CONFIGURATION
    assert "DARKS_BROKER" in errors
    assert "hunter2" not in errors
    assert len(errors.splitlines()) == 1


def test_a_taken_port_is_a_wrong_setting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = run("noise", {"DARKS_STORE": str(tmp_path / "store"), "DARKS_HTTP_PORT": port})
        out, _ = process.communicate(timeout=60)
    assert process.returncode == ExitCode.CONFIGURATION
    assert f":{port} for /live" in json.loads(out.splitlines()[-1])["event"]


def test_a_store_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = run("darkref", {"DARKS_STORE": str(tmp_path / "file" / "store")})
    out, _ = process.communicate(timeout=60)
    assert process.returncode == ExitCode.STORE
    last = json.loads(out.splitlines()[-1])
    assert (last["level"], last["exit_code"]) == ("error", 4)
    assert str(tmp_path / "file") in last["event"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stage", ["ingest", "darkref", "noise"])
def test_each_stage_starts_by_itself_and_stops_when_told(
    tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    allowed = {"DARKS_ALLOWED_SOURCES": json.dumps(["s3://archive/"])} if stage == "ingest" else {}
    process = run(stage, {"DARKS_STORE": str(tmp_path / "store"), **allowed})
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first["event"] == "serving /live, /ready and /metrics"
        started = time.monotonic()
        process.send_signal(number)
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == ExitCode.STOPPED
    assert time.monotonic() - started < 30
    assert errors == ""
    assert json.loads(out.splitlines()[-1])["event"] == "stopped"


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["-h"], 0), (["--verbose"], 2)])
def test_a_service_takes_no_arguments(arguments, code, capsys):
    # When / Then: it ends at once, instead of starting in silence
    assert program("noise", arguments) == code
    shown = capsys.readouterr()
    assert "DARKS_STORE" in (shown.err if code else shown.out)
