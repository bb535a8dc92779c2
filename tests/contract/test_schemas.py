"""The generated contracts: what is checked in is what the models say, and golden messages keep it."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from shared.contracts.messages import SCHEMAS
from shared.contracts.routing import BINDINGS, INFORMATIONAL
from shared.contracts.schemas import ASYNCAPI, asyncapi, files, schema_file_name, write_schemas
from support.paths import DEPLOY, GOLDEN

FOLDER = DEPLOY / "schemas"
MESSAGES = sorted(GOLDEN.glob("*.json"))


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((FOLDER / schema_file_name(name)).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def test_what_is_checked_in_is_what_the_models_say() -> None:
    there = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert there == files(), "run: .venv/bin/python -m shared.contracts.schemas deploy/schemas"


def test_writing_removes_the_schema_of_a_message_that_is_no_more(tmp_path: Path) -> None:
    (tmp_path / schema_file_name("exposure.vanished")).write_text("{}")
    (tmp_path / "README").write_text("kept")
    write_schemas(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*files(), "README"}


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_a_golden_message_keeps_its_schema(path: Path) -> None:
    message = json.loads(path.read_text())
    validator(message["schema"]).validate(message)


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_what_breaks_the_contract_is_noticed(path: Path) -> None:
    # Given a golden message, each time with one thing missing or wrong
    whole = json.loads(path.read_text())
    check = validator(whole["schema"])
    spoilt: list[dict[str, Any]] = [
        {name: value for name, value in whole.items() if name != left_out}
        for left_out in ("schema", "version", "id", "correlation_id", "time", "data")
    ]
    spoilt += [
        {**whole, "version": "2.0"},
        {**whole, "version": "10"},
        {**whole, "schema": "other"},
        {**whole, "id": 7},
    ]
    required = [n for n, f in SCHEMAS[whole["schema"]].model_fields.items() if f.is_required()]
    spoilt += [{**whole, "data": {n: v for n, v in whole["data"].items() if n != name}} for name in required]
    # Then the schema refuses it, and takes a newer minor version with a field it does not know
    assert [message for message in spoilt if check.is_valid(message)] == []
    check.validate({**whole, "version": "1.7", "novel": 1, "data": {**whole["data"], "novel": 1}})


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = json.loads((FOLDER / ASYNCAPI).read_text())

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            inner = [each for value in node.values() for each in references(value)]
            return inner + ([node["$ref"]] if "$ref" in node else [])
        return [each for value in node for each in references(value)] if isinstance(node, list) else []

    result = references(document)
    assert result
    for reference in result:
        if reference.startswith("./"):
            assert (FOLDER / reference).is_file(), reference
            continue
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_the_asyncapi_document_tells_who_sends_and_who_receives() -> None:
    operations = asyncapi()["operations"]
    received = {name for name in operations if ".receive." in name}
    assert received == {f"{queue}.receive.{key}" for queue, keys in BINDINGS.items() for key in keys}
    sent = [name.split(".send.")[1] for name in operations if ".send." in name]
    # Each message has one sender among the services; announcements come from outside.
    assert sorted(sent) == sorted(set(SCHEMAS) - {"exposure.announced"})
    assert set(sent) - {key for keys in BINDINGS.values() for key in keys} == INFORMATIONAL
