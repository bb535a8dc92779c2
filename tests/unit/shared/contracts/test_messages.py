"""The contracts: what was once written is always read, and what is not understood is said."""

import json
import math
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.messages import (
    SCHEMAS,
    Envelope,
    ExposureAnnounced,
    ExposureRejected,
    NoiseMeasured,
    SetCheck,
    parse,
)
from shared.errors import BadMessage
from support.paths import GOLDEN

MESSAGES = sorted(GOLDEN.glob("*.json"))

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def body(**changes: Any) -> bytes:
    message = json.loads(Envelope.of(ExposureAnnounced(exposure_id="e", uri="u"), "e").encode())
    message.update(changes)
    return json.dumps(message).encode()


def test_every_schema_has_a_golden_message() -> None:
    assert {path.name.rpartition("-")[0] for path in MESSAGES} == set(SCHEMAS)


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_a_golden_message_is_read_and_said_again_the_same(path: Path) -> None:
    # Given a message as a service of that version wrote it
    written = json.loads(path.read_bytes())
    # When it is read and written again
    message = parse(path.read_bytes())
    document = json.loads(message.encode())
    # Then nothing of it is lost or changed
    assert document == written
    assert parse(message.encode()) == message
    content = json.loads(message.content.model_dump_json())
    assert {name: content[name] for name in written["data"]} == written["data"]


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_a_field_of_a_newer_minor_version_is_ignored(path: Path) -> None:
    message = json.loads(path.read_bytes())
    message["version"], message["novel"] = "1.9", 1
    message["data"]["novel"] = {"deep": [1]}
    assert parse(json.dumps(message).encode()).content == parse(path.read_bytes()).content


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_a_missing_field_is_named(path: Path) -> None:
    whole = json.loads(path.read_bytes())
    required = [n for n, f in SCHEMAS[whole["schema"]].model_fields.items() if f.is_required()]
    for name in required:
        message = json.loads(path.read_bytes())
        del message["data"][name]
        with pytest.raises(BadMessage) as caught:
            parse(json.dumps(message).encode())
        assert (caught.value.where, caught.value.keyword) == (whole["id"], name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        (b"", ""),
        (b"\xff\xfe", ""),
        (b"{", ""),
        (b"[" * 100_000, ""),
        (b"[]", ""),
        (b"null", ""),
        (b"{}", "schema"),
        (body(schema=["x"]), "schema"),
        (body(schema="exposure.vanished"), "schema"),
        (body(version="2.0"), "version"),
        (body(version=None), "version"),
        (body(id="not-a-uuid"), "id"),
        (body(time="yesterday"), "time"),
        (body(data=[]), "data"),
        (body(data={"exposure_id": 5, "uri": "u"}), "exposure_id"),
        (body(data={"exposure_id": "e", "uri": "u", "expected_exposures": 0}), "expected_exposures"),
    ],
    # The bodies hold an id of the moment, and pytest-xdist wants the same names in every process.
    ids=lambda value: value if isinstance(value, str) else "body",
)
def test_what_is_not_understood_is_said_in_one_line(said: bytes, field: str) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(said)
    assert caught.value.keyword == field
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.just("two\nlines"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(data=anything, schema=st.sampled_from([*SCHEMAS, "two\nlines"]))
def test_no_body_raises_anything_else(data: object, schema: str) -> None:
    changes = [{"schema": schema, "data": data}, {"version": data}, {"id": data}, {"time": data}]
    for said in (json.dumps(data).encode(), *(body(**change) for change in changes)):
        try:
            parse(said)
        except BadMessage as error:
            one_line = str(error)
        else:
            one_line = ""
        assert "\n" not in one_line


def test_the_same_work_has_the_same_id_and_another_kind_of_message_another() -> None:
    announced = ExposureAnnounced(exposure_id="e", uri="u")
    rejected = ExposureRejected(exposure_id="e", uri="u", check="c", reason="r")
    assert Envelope.of(announced, "k").id == Envelope.of(announced, "k").id
    assert Envelope.of(announced, "k").id != Envelope.of(announced, "l").id
    assert Envelope.of(announced, "k").id != Envelope.of(rejected, "k").id


def test_what_follows_from_a_message_is_known_to_belong_to_it() -> None:
    cause = Envelope.of(ExposureAnnounced(exposure_id="e", uri="u"), "k")
    cause = cause.model_copy(update={"traceparent": TRACE})
    effect = Envelope.of(ExposureRejected(exposure_id="e", uri="u", check="c", reason="r"), "k", cause=cause)
    assert effect.correlation_id == cause.correlation_id
    assert effect.traceparent == TRACE


def test_an_envelope_crosses_processes() -> None:
    message = Envelope.of(SetCheck(configuration="c", scheduled_at=datetime.now(UTC)), "c")
    assert pickle.loads(pickle.dumps(message)) == message


def test_not_a_number_is_said_so_that_it_is_read_back() -> None:
    measured = NoiseMeasured(
        configuration="c", manifest="m", headline={"cds_noise_e": math.nan, "temporal": None}, verdict="v"
    )
    output = Envelope.of(measured, "k").encode()
    assert json.loads(output, parse_constant=pytest.fail)
    headline = parse(output).content.headline
    assert math.isnan(headline["cds_noise_e"])
    assert headline["temporal"] is None
