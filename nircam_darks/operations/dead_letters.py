"""Inspect dead letters, export them to files, and requeue them.

An exported letter is two files: its body, byte for byte, and a JSON record beside it with everything else.
"""

import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shared.broker.rabbitmq.dead_letters import (
    SERVICE_QUEUES,
    DeadLetterQueues,
    StoredLetter,
    record_of,
    revived,
)
from shared.broker.rabbitmq.wire import Publication
from shared.contracts.routing import BINDINGS
from shared.errors import BadInput, EnvironmentFault
from shared.settings.broker import BrokerSettings

_BODY, _RECORD, _REPLAYED = ".body", ".json", ".replayed"

_T = TypeVar("_T")


@dataclass(frozen=True)
class LetterFile:
    """An exported letter that has not been requeued yet; `path` is that of its record."""

    path: Path
    id: str
    queue: str

    def publication(self) -> Publication:
        """Return the message that brings the letter back to its service's queue.

        Raises
        ------
        BadInput
            If the files are not as `write_letter` wrote them.
        """
        body = self.path.with_suffix(_BODY)
        with _disk(body):
            return _read(self.path, lambda record: revived(record, body.read_bytes()))

    def mark_replayed(self) -> None:
        """Rename the record, so that the letter is not requeued twice."""
        with _disk(self.path):
            self.path.rename(self.path.with_suffix(_REPLAYED))
            _sync(self.path.parent)


def write_letter(folder: Path, stored: StoredLetter, used: set[Path]) -> Path:
    """Write a letter under ``folder/<queue>/<id>``, and return the path of its record.

    The record appears only once the whole letter is on disk. A letter that was exported before keeps its
    files; another letter with the same id gets a number after its name.

    Parameters
    ----------
    folder : Path
    stored : StoredLetter
    used : set of Path
        Records that this export has written; this one is added.

    Raises
    ------
    EnvironmentFault
        If the files cannot be written.
    """
    record = json.dumps(record_of(stored), indent=1).encode()
    of_queue = folder / stored.letter.queue
    with _disk(of_queue):
        of_queue.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            stem = stored.id if number == 1 else f"{stored.id}-{number}"
            path = of_queue / f"{stem}{_RECORD}"
            if path not in used and (not path.exists() or path.read_bytes() == record):
                break
            number += 1
        used.add(path)
        _write(of_queue / f"{stem}{_BODY}", stored.letter.body)
        _write(path, record)
        _sync(of_queue)
        _sync(folder)
    return path


def written_letters(folder: Path) -> list[LetterFile]:
    """Return the letters under `folder` that `write_letter` wrote and that have not been requeued.

    Raises
    ------
    BadInput
        If there is none, or a record cannot be read.
    """
    paths = sorted(folder.rglob(f"*{_RECORD}"))
    if not paths:
        raise BadInput(
            "folder", f"{folder} holds no exported dead letters (*{_RECORD}) to requeue", where=folder
        )
    return [_read(path, functools.partial(_letter_file, path)) for path in paths]


def _letter_file(path: Path, record: dict[str, Any]) -> LetterFile:
    return LetterFile(path, record["id"], record["queue"])


def _read(path: Path, make: Callable[[dict[str, Any]], _T]) -> _T:
    try:
        return make(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(
            "dead letter", f"{path} is not as `dead-letters export` wrote it: {error}", where=path
        ) from None


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.making")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _sync(folder: Path) -> None:
    # A new name survives a power failure only once its folder is on disk.
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(
            f"{error.filename or path}: {error.strerror or error}; the letter is still in its queue",
            where=error.filename or path,
        ) from None


_REASON_SHOWN = 200
_BYTES_SHOWN = 2000


def service_queues(names: Sequence[str]) -> list[str]:
    """Return the service queues named by their own names or those of their dead-letter queues; none: all.

    Raises
    ------
    BadInput
        If a name is not one of these queues.
    """
    queues = [SERVICE_QUEUES.get(name, name) for name in names]
    for name in queues:
        if name not in BINDINGS:
            raise BadInput("queue", f"{name}: no such queue; choose from {', '.join(BINDINGS)}", where=name)
    return list(dict.fromkeys(queues)) or list(BINDINGS)


def letters(settings: BrokerSettings, queues: Sequence[str]) -> Iterator[StoredLetter]:
    """Yield the dead letters of `queues`, oldest first in each, and leave them there.

    Raises
    ------
    TransientError
        If the broker cannot be reached, or another command reads its dead letters.
    EnvironmentFault
        If the broker refuses, or a queue does not exist.
    """
    with DeadLetterQueues(settings) as broker:
        for queue in queues:
            yield from broker.letters(queue)


def summary(stored: StoredLetter) -> dict[str, Any]:
    """Return what `list` shows of a letter, with the reason in one line."""
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
    """Return everything known about a letter.

    ``body`` is its parsed JSON, or the beginning of its text with unprintable characters escaped; ``body_is``
    tells which: ``json``, ``text`` (all of it) or ``beginning``.
    """
    try:
        body, kind = json.loads(stored.letter.body), "json"
    except (ValueError, RecursionError):
        body = escaped(stored.letter.body[:_BYTES_SHOWN].decode("utf-8", "backslashreplace"))
        kind = "text" if len(stored.letter.body) <= _BYTES_SHOWN else "beginning"
    return record_of(stored) | {"body_is": kind, "body": body}


def escaped(text: str) -> str:
    """Return `text`, which anyone may have written, without control sequences for the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def letters_of_id(settings: BrokerSettings, queues: Sequence[str], wanted: str) -> list[StoredLetter]:
    """Return all letters with that id.

    Raises
    ------
    BadInput
        If there is none.
    """
    matches = [stored for stored in letters(settings, queues) if stored.id == wanted]
    if not matches:
        raise _missing([wanted], queues)
    return matches


def export(
    settings: BrokerSettings, queues: Sequence[str], folder: Path, remove: bool
) -> Iterator[tuple[StoredLetter, Path]]:
    """Write each letter to its own files; yield the letter once they are on disk.

    Parameters
    ----------
    settings : BrokerSettings
    queues : sequence of str
    folder : Path
    remove : bool
        Then remove it from its queue.

    Raises
    ------
    EnvironmentFault
        If a file cannot be written; its letter, and those after it, stay in their queues.
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
    """Requeue letters for their services, with their attempts reset; yield each once it is requeued.

    Letters that look unreadable are requeued too: only the services know what their version can read, and
    giving up a letter again costs them one attempt.

    Parameters
    ----------
    settings : BrokerSettings
    queues : sequence of str
    wanted : sequence of str or None
        Ids, each of which may be that of several letters; None: all letters.

    Raises
    ------
    BadInput
        If there is no letter with one of the ids; raised after all others have been requeued.
    PublishFailed
        If the broker did not confirm a letter; that letter, and those after it, stay.
    """
    # A dictionary keeps the order of the ids for the error.
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
    """Requeue exported letters for their services; yield each once it is marked as requeued.

    Raises
    ------
    BadInput
        If a file is not as `export` wrote it, or there is none.
    PublishFailed
        If the broker did not confirm a letter; another call continues with it.
    """
    files = written_letters(folder)
    with DeadLetterQueues(settings) as broker:
        for file in files:
            broker.publish(file.publication())
            file.mark_replayed()
            yield file


def _missing(ids: Sequence[str], queues: Sequence[str]) -> BadInput:
    return BadInput(
        "id",
        f"no dead letter {', '.join(ids)} in {', '.join(queues)}; see `nircam-darks dead-letters list`",
        where=", ".join(ids),
    )
