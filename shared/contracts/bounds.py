"""What a foreign message may contain: bounds that are checked before anything is made of it.

Whoever may announce an exposure can put anything into a message. What JSON allows is more than the programs
behind it can carry: a lone surrogate ends up in a header that AMQP cannot encode, a body nested a thousand
deep overflows the stack of the process that passes it on, a time before 1970 has no AMQP timestamp, and a
number that Python reads as infinite (1e999) is passed on as null.
"""

import math
import re
from datetime import UTC, datetime
from typing import Any

#: Levels of objects and lists within each other. A message of ours has seven.
DEEPEST = 32
#: Times of messages lie between these: no NIRCam exposure was announced before the first.
FIRST_TIME = datetime(2000, 1, 1, tzinfo=UTC)
LAST_TIME = datetime(2100, 1, 1, tzinfo=UTC)
#: W3C trace context, level 1: version, trace id, parent id, flags.
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def fault_of(value: Any) -> str | None:
    """Return why a parsed JSON value cannot be a message of ours, or None.

    The value may be nested too deeply, or hold text that UTF-8 cannot encode, or a number that is not finite
    (messages of ours have the string "NaN" in its place). The walk keeps a list of its
    own, since a recursive one would overflow on what it looks for.
    """
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        each, depth = waiting.pop()
        if depth > DEEPEST:
            return f"it is nested more than {DEEPEST} levels deep"
        if isinstance(each, dict):
            waiting += [(part, depth + 1) for pair in each.items() for part in pair]
        elif isinstance(each, list):
            waiting += [(part, depth + 1) for part in each]
        elif isinstance(each, str) and not _is_utf8(each):
            return f"it holds text that is no Unicode: {in_utf8(each)[:60]}"
        elif isinstance(each, float) and not math.isfinite(each):
            return "it holds a number that is not finite"
    return None


def in_utf8(text: str) -> str:
    """Return a text with what UTF-8 cannot encode escaped, so that headers and logs can carry it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_plausible(time: datetime) -> bool:
    """Return whether a message may bear this time; without a time zone it is taken as UTC."""
    aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    # Comparing brings both to UTC, for which the first and the last year have no room.
    return FIRST_TIME.year <= aware.year < LAST_TIME.year


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
