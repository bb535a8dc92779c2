"""The messages as other programs read them: JSON Schemas and an AsyncAPI document.

They are generated from the models and checked in: ``python -m shared.contracts.schemas deploy/schemas``
writes them again, and a test compares the checked-in files with the models.
"""

import json
import sys
from pathlib import Path
from typing import Any

from shared.contracts.messages import SCHEMAS, VERSION, Envelope
from shared.contracts.routing import BINDINGS, EXCHANGE, SENDS

ASYNCAPI = "asyncapi.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def files() -> dict[str, str]:
    """Return the text of every generated file by its name."""
    documents = {schema_file_name(name): message_schema(name) for name in SCHEMAS}
    documents[ASYNCAPI] = asyncapi()
    return {
        name: json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        for name, document in documents.items()
    }


def schema_file_name(message: str) -> str:
    """Return the name of a message's schema file."""
    return f"{message}-{VERSION}.schema.json"


def message_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a whole message of the current version: envelope and data.

    Parameters
    ----------
    name : str
        A schema's name, one of `shared.contracts.messages.SCHEMAS`.
    """
    envelope = Envelope.model_json_schema(by_alias=True)
    data = SCHEMAS[name].model_json_schema()
    definitions = data.pop("$defs", {})
    properties = envelope["properties"]
    properties["schema"] = {"const": name}
    major = VERSION.split(".")[0]
    # A reader accepts every minor version of the major version that it knows.
    properties["version"] = {"type": "string", "pattern": rf"^{major}(\.|$)", "examples": [VERSION]}
    properties["data"] = data
    return {
        "$schema": _DIALECT,
        "title": f"{name} {VERSION}",
        "description": _line(SCHEMAS[name]),
        "type": "object",
        "properties": properties,
        "required": sorted({*envelope["required"], "version"}),
        **({"$defs": definitions} if definitions else {}),
    }


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3 document: one channel per routing key, and the operations of each service."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "nircam-darks",
            "version": VERSION,
            "description": f"Messages travel through the topic exchange {EXCHANGE!r}, each under the name of "
            "its schema. The ingest queue also takes S3 event notifications (AWS, MinIO, Ceph).",
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name) for name in SCHEMAS},
        "operations": {
            f"{service}.{action}.{name}": {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": f"{service} {action}s {name}",
            }
            for action, table in (("receive", BINDINGS), ("send", SENDS))
            for service, names in table.items()
            for name in names
        },
        "components": {
            "messages": {
                name: {
                    "name": name,
                    "title": f"{name} {VERSION}",
                    "summary": _line(model),
                    "contentType": "application/json",
                    "correlationId": {
                        "description": "Shared by every message that one announcement led to",
                        "location": "$message.payload#/correlation_id",
                    },
                    "payload": {"$ref": f"./{schema_file_name(name)}"},
                }
                for name, model in SCHEMAS.items()
            }
        },
    }


def _channel(name: str) -> dict[str, Any]:
    return {
        "address": name,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": EXCHANGE, "type": "topic", "durable": True, "autoDelete": False},
                "bindingVersion": "0.3.0",
            }
        },
    }


def _line(model: type) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def write_schemas(folder: Path) -> None:
    """Write every generated file into `folder`, and remove schemas of messages that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    made = files()
    for name, text in made.items():
        (folder / name).write_text(text)
    for path in folder.glob(f"*-{VERSION}.schema.json"):
        if path.name not in made:
            path.unlink()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m shared.contracts.schemas FOLDER")
    write_schemas(Path(sys.argv[1]))
