"""Look at dead letters, and put them back to work."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from services.operations.dead_letter_files import LetterFile, write_letter, written_letters
from shared.broker.rabbitmq.dead_letters import DeadLetterQueues
from shared.broker.rabbitmq.letters import SERVICE_QUEUES, StoredLetter, record_of
from shared.broker.rabbitmq.settings import BrokerSettings
from shared.errors import BadInput
from shared.topology import BINDINGS

_REASON_SHOWN = 200
_BYTES_SHOWN = 2000


def service_queues(names: Sequence[str]) -> list[str]:
    """Return the service queues that `names` mean, theirs or their dead-letter queues'; none means all.

    Raises
    ------
    BadInput
        If one is no queue of ours.
    """
    found = [SERVICE_QUEUES.get(name, name) for name in names]
    for name in found:
        if name not in BINDINGS:
            raise BadInput("queue", f"{name}: no such queue; there are {', '.join(BINDINGS)}")
    return list(dict.fromkeys(found)) or list(BINDINGS)


def letters(settings: BrokerSettings, queues: Sequence[str]) -> Iterator[StoredLetter]:
    """Yield the dead letters of `queues`, oldest first in each. They stay there.

    Raises
    ------
    TransientError
        If the broker cannot be reached, or another command reads its dead letters.
    EnvironmentFault
        If it refuses, or a queue is not there.
    """
    with DeadLetterQueues(settings) as broker:
        for queue in queues:
            yield from broker.letters(queue)


def summary(stored: StoredLetter) -> dict[str, Any]:
    """Return what `list` says of a letter, the reason in one line."""
    letter = stored.letter
    return {
        "id": stored.id,
        "queue": letter.queue,
        "routing_key": letter.routing_key,
        "died": stored.died.isoformat() if stored.died else None,
        "attempts": letter.attempts,
        "reason": " ".join(letter.reason.split())[:_REASON_SHOWN],
        "size": len(letter.body),
    }


def detail(stored: StoredLetter) -> dict[str, Any]:
    """Return everything that is known of a letter.

    ``body`` is what its JSON says, or the beginning of its text with what cannot be printed escaped;
    ``body_is`` says which: ``json``, ``text`` or ``beginning``.
    """
    try:
        said, kind = json.loads(stored.letter.body), "json"
    except (ValueError, RecursionError):
        said = escaped(stored.letter.body[:_BYTES_SHOWN].decode("utf-8", "backslashreplace"))
        kind = "text" if len(stored.letter.body) <= _BYTES_SHOWN else "beginning"
    return record_of(stored) | {"body_is": kind, "body": said}


def escaped(text: str) -> str:
    """Return `text`, which a stranger may have written, with nothing in it that a terminal obeys."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def named(settings: BrokerSettings, queues: Sequence[str], wanted: str) -> list[StoredLetter]:
    """Return each letter of that id.

    Raises
    ------
    BadInput
        If there is none.
    """
    found = [stored for stored in letters(settings, queues) if stored.id == wanted]
    if not found:
        raise _missing([wanted], queues)
    return found


def export(
    settings: BrokerSettings, queues: Sequence[str], folder: Path, remove: bool
) -> Iterator[tuple[StoredLetter, Path]]:
    """Write each letter to files of its own; yield it once they are on the disk.

    Parameters
    ----------
    remove : bool
        Take it off its queue then.

    Raises
    ------
    EnvironmentFault
        If a file cannot be written; its letter, and those behind it, stay.
    """
    with DeadLetterQueues(settings) as broker:
        used: set[Path] = set()
        for queue in queues:
            for stored in broker.letters(queue):
                path = write_letter(folder, stored, used)
                if remove:
                    broker.remove(stored)
                yield stored, path


def replay(
    settings: BrokerSettings, queues: Sequence[str], wanted: Sequence[str] | None
) -> Iterator[StoredLetter]:
    """Put letters back into their services' queues, as if nobody had tried them; yield each then.

    A letter that no service will ever read goes too: whether it can be read is the services' to say, of
    whatever version, and it costs them one attempt to give it up again.

    Parameters
    ----------
    wanted : sequence of str or None
        Ids, each of which may stand for several letters; None: all.

    Raises
    ------
    BadInput
        After all others, if there is no letter of some id.
    PublishFailed
        If one was not confirmed; it, and those behind it, stay.
    """
    # In the order they were given, for the error.
    missing, every = dict.fromkeys(wanted or []), frozenset(wanted or [])
    with DeadLetterQueues(settings) as broker:
        for queue in queues:
            for stored in broker.letters(queue):
                if wanted is None or stored.id in every:
                    broker.replay(stored)
                    missing.pop(stored.id, None)
                    yield stored
    if missing:
        raise _missing(list(missing), queues)


def replay_files(settings: BrokerSettings, folder: Path) -> Iterator[LetterFile]:
    """Publish exported letters to their services' queues; yield each once it is marked as replayed.

    Raises
    ------
    BadInput
        If a file is not as `export` wrote it, or there is none.
    PublishFailed
        If one was not confirmed; the same call goes on from it.
    """
    found = written_letters(folder)
    with DeadLetterQueues(settings) as broker:
        for file in found:
            broker.publish(file.publication())
            file.mark_replayed()
            yield file


def _missing(ids: Sequence[str], queues: Sequence[str]) -> BadInput:
    return BadInput(
        "id", f"no dead letter {', '.join(ids)} of {', '.join(queues)}; see `nircam-darks dead-letters list`"
    )
