"""Messages as nobody sends them: golden ones with bits, structure, values and sizes changed, from a seed."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from support.paths import TESTS

_FOLDERS = (TESTS / "contract" / "golden", TESTS / "contract" / "notifications")
#: Values that are odd for one field or another.
_ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, 5e-324, -0.0, 0.5),
    *(float("inf"), float("-inf"), float("nan")),
    *("", " ", ".", "..", "../../etc/passwd", "\0", "a\nb", "\ud800", "\udfff\ud800", "\u202e", "é" * 50),
    *("a" * 300, "a" * 100_000, "%00", "%2e%2e/", "NaN", "null", "set.check", "1.9", "2.0"),
    *("0001-01-01T00:00:00Z", "1960-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-13-01", "2026-01-01"),
    *("file:///dev/zero", "file:///etc/passwd", "file:///proc/self/mem", "file://host/x", "s3://"),
    *("s3://raw-data/x.fits?versionId=", "http://127.0.0.1/x.fits", "gopher://x", "/", "//", "file:", "file:///"),
    *([], {}, [[]], [None] * 1000, {"": ""}, {"a": {"a": {"a": {}}}}, ["x"] * 20_000),
]  # fmt: skip


def golden_messages() -> list[bytes]:
    """Return the bodies to start from; those that ingest takes count thrice."""
    files = sorted(path for folder in _FOLDERS for path in folder.glob("*.json"))
    bodies = [path.read_bytes() for path in files]
    return bodies + 2 * [
        path.read_bytes()
        for path in files
        if path.parent.name == "notifications" or path.name.startswith(("exposure.announced", "set.check"))
    ]


def mutated_messages(seed: int, count: int, bodies: list[bytes] | None = None) -> Iterator[bytes]:
    """Yield `count` mutated messages; the same for the same seed and bodies.

    Parameters
    ----------
    seed, count : int
    bodies : list of bytes, optional
        To start from; by default the golden messages.
    """
    random = Random(seed)
    bodies = golden_messages() if bodies is None else bodies
    for _ in range(count):
        body = random.choice(bodies)
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            body = random.choice(_MUTATIONS)(body, random)
        yield body


def mutated_headers(random: Random) -> dict[str, Any]:
    """Return AMQP properties of a stranger's message."""
    headers: dict[str, Any] = {}
    names = (
        "x-darks-attempts",
        "x-delivery-count",
        "x-darks-reason",
        "x-darks-routing-key",
        "traceparent",
        "x-death",
        "x",
        "é",
        "",
    )
    for _ in range(random.randrange(4)):
        odd = [2**63 - 1, *(value for value in _ODD if _is_amqp(value))]
        headers[random.choice(names)] = random.choice(odd)
    properties: dict[str, Any] = {"headers": headers} if headers else {}
    for name in ("content_type", "correlation_id", "reply_to", "type", "app_id", "content_encoding"):
        if random.random() < 0.1:
            properties[name] = random.choice(["", "x", "é" * 50, "gzip", "application/json", "a" * 255])
    if random.random() < 0.1:
        properties["timestamp"] = random.choice([0, 1, 2**31, 2**53])
    if random.random() < 0.1:
        properties["priority"] = random.choice([0, 9, 255])
    return properties


def _is_amqp(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) < 1000 and "\ud800" not in value
    return value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63)


def _flip_bits(body: bytes, random: Random) -> bytes:
    changed = bytearray(body)
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(body: bytes, random: Random) -> bytes:
    start, stop = sorted(random.randrange(len(body) + 1) for _ in range(2))
    return random.choice((body[:start], body[start:], body[:start] + body[stop:], body + body[start:stop]))


def _insert_bytes(body: bytes, random: Random) -> bytes:
    odd = (
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"{",
        b"[" * 5000,
        b'"',
        b"\\ud800",
        b"1" * 5000,
        b"e999",
        b",",
    )
    at = random.randrange(len(body) + 1)
    return body[:at] + random.choice((*odd, random.randbytes(8))) + body[at:]


def _inflate(body: bytes, random: Random) -> bytes:
    # Mostly a little, seldom past the bound on a body's size.
    return body + b" " * random.choice((10, 1000, 100_000, *[9 * 1024**2] * (random.random() < 0.02)))


def _restructure(body: bytes, random: Random) -> bytes:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return _flip_bits(body, random)
    try:
        for _ in range(random.choice((1, 1, 2, 5))):
            value = _changed(value, random)
            if not _is_writable(value):
                return body
        return json.dumps(value).encode()
    except RecursionError:
        return body


def _changed(value: Any, random: Random) -> Any:
    """Return the value with one place in it changed."""
    places = list(islice(_places(value), 20_000))
    if not places or random.random() < 0.02:
        return deepcopy(random.choice(_ODD))
    parent, key = random.choice(places)
    action = random.randrange(6)
    if action == 0:
        del parent[key]
    elif action == 1 and isinstance(parent, dict):
        parent[random.choice(["", "Records", "schema", "data", "x", str(key).upper()])] = parent.pop(key)
    elif action == 2:
        deep: Any = parent[key]
        for _ in range(random.choice((1, 5, 30, 40, 400))):
            deep = random.choice(([deep], {"a": deep}))
        parent[key] = deep
    elif action == 3 and isinstance(parent, list):
        parent.extend([parent[key]] * random.choice((1, 2, 1000)))
    elif action == 4:
        # What is right for another field.
        other, name = random.choice(places)
        parent[key] = json.loads(json.dumps(other.get(name) if isinstance(other, dict) else other[name]))
    else:
        # A copy: what is changed in it later must not be in it again, or have no end.
        parent[key] = deepcopy(random.choice(_ODD))
    return value


def _is_writable(value: Any) -> bool:
    """Return whether a value has at most 4 million letters and parts: what is in it twice counts twice."""
    waiting, left = [value], 4_000_000
    while waiting and left > 0:
        each = waiting.pop()
        left -= len(each) if isinstance(each, str | list | dict) else 1
        if isinstance(each, dict):
            waiting += [part for pair in each.items() for part in pair]
        elif isinstance(each, list) and left > 0:
            waiting += each
    return left > 0


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        keys = (
            list(each) if isinstance(each, dict) else list(range(len(each))) if isinstance(each, list) else []
        )
        for key in keys[:200]:
            yield each, key
            waiting.append(each[key])


_MUTATIONS: tuple[Callable[[bytes, Random], bytes], ...] = (
    *[_restructure] * 6,
    _flip_bits,
    _cut,
    _insert_bytes,
    _inflate,
)


def announcement_of(path: Path, name: str) -> bytes:
    """Return an honest announcement of a file as JSON; also what is mutated of a running service's input."""
    message = json.loads((_FOLDERS[0] / "exposure.announced-1.2.json").read_bytes())
    message["data"] = {"exposure_id": name, "uri": path.as_uri()}
    return json.dumps(message).encode()
