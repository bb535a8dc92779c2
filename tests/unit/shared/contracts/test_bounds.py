"""What a foreign message may contain."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.bounds import DEEPEST, TRACEPARENT, fault_of, in_utf8, is_plausible
from shared.contracts.messages import parse
from shared.errors import BadMessage
from support.handlers import announcement
from support.paths import GOLDEN

ANY_TEXT = st.text(st.characters(categories=["L", "N", "P", "Cs", "Cc"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
)


@given(JSON)
def test_what_passes_can_be_encoded_and_what_does_not_cannot(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        assert fault_of(value) is not None
    else:
        assert fault_of(value) is None


@pytest.mark.parametrize("depth", [DEEPEST, DEEPEST + 1, 100_000])
@pytest.mark.parametrize("key", [None, "k"], ids=["lists", "objects"])
def test_depth_is_bounded_without_recursion(depth: int, key: str | None) -> None:
    value: Any = 1
    for _ in range(depth - 1):
        value = [value] if key is None else {key: value}
    assert (fault_of(value) is None) == (depth <= DEEPEST)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "Infinity", "NaN"])
def test_a_number_that_is_not_finite_would_become_null_on_its_way(number: str) -> None:
    assert fault_of(json.loads(f'{{"a": [{number}]}}')) is not None
    assert fault_of(json.loads(f'{{"a": ["{number}", 1e308]}}')) is None
    body = announcement("jw1").encode().replace(b'"data":{', f'"data":{{"more":{number},'.encode())
    with pytest.raises(BadMessage):
        parse(body)


@given(ANY_TEXT)
def test_text_made_fit_for_headers_can_be_encoded_and_good_text_stays(text: str) -> None:
    fit = in_utf8(text)
    fit.encode()
    if fit != text:
        with pytest.raises(UnicodeEncodeError):
            text.encode()


@pytest.mark.parametrize(
    ("time", "plausible"),
    [
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), False),
        (datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=12))), False),
        (datetime(1960, 1, 1, tzinfo=UTC), False),
        (datetime(2026, 11, 30, tzinfo=UTC), True),
        (datetime(2026, 11, 30), True),
    ],
)
def test_times_of_messages_are_bounded(time: datetime, plausible: bool) -> None:
    assert is_plausible(time) is plausible


def test_a_set_that_names_a_ramp_twice_is_refused(golden_set: dict[str, Any]) -> None:
    golden_set["data"]["members"].append(golden_set["data"]["members"][0])
    with pytest.raises(BadMessage):
        parse(json.dumps(golden_set).encode())


def test_a_trace_context_is_w3c_s_or_none() -> None:
    message = json.loads(announcement("e").encode())
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert TRACEPARENT.fullmatch(good)
    assert parse(json.dumps(message | {"traceparent": good}).encode()).traceparent == good
    for bad in ("0" * 140_000, good.upper(), f"{good}-01", "\n" + good, ""):
        assert parse(json.dumps(message | {"traceparent": bad}).encode()).traceparent is None


@pytest.fixture
def golden_set() -> dict[str, Any]:
    return json.loads((GOLDEN / "set.ready-1.2.json").read_text())
