"""Logs: one JSON object a line, with the ids of its message, and nothing that lets anybody in."""

import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.messages import parse
from shared.runtime.events import WorkerEvent
from shared.runtime.handler import Outgoing
from shared.runtime.logs import EventLog, JobLog, configure, log_event, without_credentials
from shared.settings.logs import LogSettings
from support.paths import GOLDEN

ANNOUNCED = parse((GOLDEN / "exposure.announced-1.0.json").read_bytes())
INGESTED = parse((GOLDEN / "exposure.ingested-1.0.json").read_bytes())
IDS = {
    "service": "ingest",
    "message_id": str(ANNOUNCED.id),
    "correlation_id": "11111111-2222-4333-8444-555555555555",
    "schema": "exposure.announced",
}


class Log:
    """This process's log, as it comes out."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def configure(self, level: Any = "info", form: Any = "json") -> None:
        configure(LogSettings(level, form), {"service": "ingest"}, self.stream)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    log = Log()
    log.configure()
    yield log
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("shared", "services", "nircam-darks"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def event(kind: Any, **results: Any) -> WorkerEvent:
    return WorkerEvent("ingest", kind, ANNOUNCED, **results)


def test_what_became_of_a_message_is_one_line_with_its_ids(log: Log) -> None:
    log_event(event("received", attempt=2))
    log_event(event("finished", outgoing=[Outgoing(INGESTED)], seconds=12.34567, attempt=2))
    received, finished = log.lines
    for line in (received, finished):
        assert {name: line[name] for name in IDS} == IDS
        assert line["attempt"] == 2
        assert line["level"] == "info"
        assert line["timestamp"].endswith("Z")
    assert received["outcome"] == "received"
    assert (finished["outcome"], finished["seconds"]) == ("finished", 12.346)
    assert finished["published"] == ["exposure.ingested"]


@pytest.mark.parametrize(
    ("kind", "level"),
    [("retried", "warning"), ("paused", "warning"), ("dead-lettered", "error"), ("requeued", "info")],
)
def test_what_went_wrong_says_why(log: Log, kind: str, level: str) -> None:
    log_event(event(kind, reason="CRDS did not answer", error="TransientError", seconds=1.0))
    [line] = log.lines
    assert (line["event"], line["level"], line["outcome"]) == ("CRDS did not answer", level, kind)
    assert line["message_id"] == IDS["message_id"]


def test_a_body_that_could_not_be_read_has_no_ids(log: Log) -> None:
    log_event(WorkerEvent("ingest", "dead-lettered", reason="the message is not JSON"))
    [line] = log.lines
    assert line["service"] == "ingest"
    assert "message_id" not in line


def test_a_traceback_stays_on_its_line(log: Log) -> None:
    log_event(event("dead-lettered", reason="KeyError: 'x'", traceback="Traceback:\n  File x\nKeyError: 'x'"))
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("shared.runtime.worker").exception("the observer failed")
    first, second = log.lines
    assert "File x" in first["exception"]
    assert "ValueError: boom" in second["exception"]


def test_progress_is_for_who_wants_it(log: Log) -> None:
    log_event(event("progress", done=1, total=2, what="groups"))
    assert log.lines == []
    log.configure(level="debug")
    log_event(event("progress", done=1, total=2, what="groups"))
    [line] = log.lines
    assert (line["event"], line["done"], line["total"]) == ("groups", 1, 2)


@pytest.mark.parametrize(
    "name", ["urllib3.connectionpool", "botocore.credentials", "stpipe.pipeline", "jwst.jump"]
)
def test_libraries_are_heard_from_warning_on(log: Log, name: str) -> None:
    log.configure(level="debug")
    logging.getLogger(name).info("Found credentials in environment variables")
    logging.getLogger(name).warning("%d lost", 3)
    [line] = log.lines
    assert (line["event"], line["level"], line["logger"], line["service"]) == (
        "3 lost",
        "warning",
        name,
        "ingest",
    )


def test_python_s_warnings_are_lines_too(log: Log) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("the mean of an empty slice", stacklevel=1)
        logging.captureWarnings(False)
    [line] = log.lines
    assert "the mean of an empty slice" in line["event"]


def test_for_people_it_is_text(log: Log) -> None:
    log.configure(form="console")
    log_event(event("retried", reason="amqp://me:secret1@rabbit is away", seconds=1.0))
    text = log.stream.getvalue()
    assert "amqp://***@rabbit is away" in text
    assert "outcome=retried" in text
    assert "secret1" not in text


@given(
    user=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=8),
    password=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=5),
)
def test_no_password_of_an_address_is_ever_shown(user: str, password: str) -> None:
    address = f"amqps://{quote(user, safe='')}:{quote(password, safe='')}@rabbit:5671/darks"
    assert without_credentials(f"cannot reach {address}") == "cannot reach amqps://***@rabbit:5671/darks"


@pytest.mark.parametrize(
    "text",
    [
        "https://s3/darks/x?X-Amz-Signature=SESAME&X-Amz-Date=1",
        "https://s3/darks/x?x-amz-security-token=SESAME",
        "password=SESAME,",
        "{'aws_secret_access_key': 'SESAME'}",
        '{"secret_key": "SESAME"}',
        "AWS_SECRET_ACCESS_KEY=SESAME",
        "Password: SESAME",
    ],
)
def test_no_key_or_signature_is_ever_shown(log: Log, text: str) -> None:
    logging.getLogger("botocore").warning("refused: %s", text, extra={"request": text})
    assert "SESAME" not in log.stream.getvalue()
    assert "***" in log.lines[0]["request"]


@given(st.text())
def test_what_needs_no_hiding_is_left_as_it_is(text: str) -> None:
    output = f"group 3 of jw01062001001_02101_00001: {len(text)} pixels, s3://darks/key"
    assert without_credentials(output) == output


def test_a_path_is_no_parameter() -> None:
    text = "file:///etc/passwd: exposures are not read from there"
    assert without_credentials(text) == text


def test_what_a_job_prints_comes_line_by_line(log: Log) -> None:
    out = JobLog()
    print("one", file=out)
    out.write("half a line, ")
    out.write("the rest\n\n")
    out.write("no end")
    assert [line["event"] for line in log.lines] == ["one", "half a line, the rest"]
    out.flush()
    out.flush()
    assert [line["event"] for line in log.lines][2:] == ["no end"]


def test_a_job_s_process_logs_in_the_form_of_its_service() -> None:
    # Given a process that logs, prints and warns as a job does
    program = f"""
import logging, os, sys
from pathlib import Path
from shared.runtime.logs import LogSettings, log_job
from shared.contracts.messages import parse
begin = log_job(LogSettings())
begin("ingest", parse(Path({str(GOLDEN / "exposure.announced-1.0.json")!r}).read_bytes()))
logging.getLogger("stpipe").info("Step jump running")
logging.getLogger("stpipe").warning("no gain for s3://u:pass@host")
logging.getLogger("services.ingest").info("reading")
print("printed")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # Then each is a line on standard error with the ids of the message; what jwst only mentions is none
    assert done.stdout == ""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["no gain for s3://***@host", "reading", "printed"]
    for line in lines:
        assert {name: line[name] for name in IDS} == IDS
        assert line["job_pid"] > 0


def test_what_jwst_writes_into_its_files_does_not_hang_on_what_is_logged() -> None:
    # Given a job's process that logs errors only
    program = """
import logging, sys
from shared.runtime.logs import LogSettings, log_job
log_job(LogSettings(level="error"))
recorded = []
handler = logging.Handler()
handler.emit = lambda record: recorded.append(record.getMessage())
for name in ("jwst", "stcal", "stpipe"):
    # When something listens as jwst does, to put the lines into its file
    logging.getLogger(name).addHandler(handler)
    logging.getLogger(f"{name}.jump").info("done by %s", name)
sys.exit(len(recorded))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    # Then it hears each line, and the log none
    assert (done.returncode, done.stderr) == (3, "")


def test_a_long_jobs_progress_is_said_now_and_then(log: Log) -> None:
    # Given a log that says progress at once, and one that says it seldom, both at level info
    often, seldom = EventLog(progress_every=0.0), EventLog(progress_every=1000.0)
    for each in (often, seldom):
        each(event("received"))
        each(event("progress", done=1, total=2, what="groups"))
    output = [line for line in log.lines if line["outcome"] == "progress"]
    assert [(line["event"], line["done"], line["total"]) for line in output] == [("groups", 1, 2)]


def test_evidence_stands_in_the_line_of_each_attempt_in_bounded_length(log: Log) -> None:
    for kind in ("retried", "dead-lettered"):
        log_event(event(kind, reason="it crashed", evidence="attempt: 1 of 5\n" + "x" * 20_000))
    for line in log.lines:
        assert line["evidence"].startswith("attempt: 1 of 5\nx")
        assert len(line["evidence"]) == 4000


def test_what_a_configuration_lacks_is_one_error_line_whatever_the_number_of_exposures(log: Log) -> None:
    # Given three exposures that are dead letters for want of the same reference, and one for another reason
    observe = EventLog()
    for error in ("MissingReference", "MissingReference", "MissingReference", "BadMessage"):
        observe(event("dead-lettered", reason=f"nrca1: {error}", error=error))
    # Then the reference is one error
    assert [line["level"] for line in log.lines] == ["error", "info", "info", "error"]
    assert [line["error"] for line in log.lines] == ["MissingReference"] * 3 + ["BadMessage"]
