"""Dead letters as files: the body as it is, and a JSON record beside it that says the rest."""

import functools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shared.broker.rabbitmq.letters import StoredLetter, record_of, revived
from shared.broker.rabbitmq.wire import Publication
from shared.errors import BadInput, EnvironmentFault

_BODY, _RECORD, _REPLAYED = ".body", ".json", ".replayed"

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class LetterFile:
    """An exported letter that was not replayed yet; `path` is its record's."""

    path: Path
    id: str
    queue: str

    def publication(self) -> Publication:
        """Return what brings it back to its service's queue.

        Raises
        ------
        BadInput
            If the files are not as they were written.
        """
        body = self.path.with_suffix(_BODY)
        with _disk(body):
            return _read(self.path, lambda record: revived(record, body.read_bytes()))

    def mark_replayed(self) -> None:
        """Rename the record, so that it is not replayed again."""
        with _disk(self.path):
            self.path.rename(self.path.with_suffix(_REPLAYED))
            _sync(self.path.parent)


def write_letter(folder: Path, stored: StoredLetter, used: set[Path]) -> Path:
    """Write a letter under ``folder/<queue>/<id>``, and return its record's path.

    The record is there only once all of it is on the disk. A letter that was exported before finds its
    files; another one of the same id gets a number behind it.

    Parameters
    ----------
    used : set of Path
        Records that this run wrote; added to.

    Raises
    ------
    EnvironmentFault
        If the disk fails.
    """
    record = json.dumps(record_of(stored), indent=1).encode()
    there = folder / stored.letter.queue
    with _disk(there):
        there.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            stem = stored.id if number == 1 else f"{stored.id}-{number}"
            path = there / f"{stem}{_RECORD}"
            if path not in used and (not path.exists() or path.read_bytes() == record):
                break
            number += 1
        used.add(path)
        _write(there / f"{stem}{_BODY}", stored.letter.body)
        _write(path, record)
        _sync(there)
        _sync(folder)
    return path


def written_letters(folder: Path) -> list[LetterFile]:
    """Return the letters that `write_letter` left under `folder` and that were not replayed.

    Raises
    ------
    BadInput
        If there is none, or a record cannot be read.
    """
    paths = sorted(folder.rglob(f"*{_RECORD}"))
    if not paths:
        raise BadInput("folder", f"{folder} holds no exported dead letters (*{_RECORD}) to replay")
    return [_read(path, functools.partial(_letter_file, path)) for path in paths]


def _letter_file(path: Path, record: dict[str, Any]) -> LetterFile:
    return LetterFile(path, record["id"], record["queue"])


def _read(path: Path, make: Callable[[dict[str, Any]], _Made]) -> _Made:
    try:
        return make(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput("dead letter", f"{path} is not as `dead-letters export` wrote it: {error}") from None


def _write(path: Path, data: bytes) -> None:
    making = path.with_name(f".{path.name}.making")
    with making.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    making.replace(path)


def _sync(folder: Path) -> None:
    # A name is safe from a power cut once its folder is on the disk.
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
            f"{error.filename or path}: {error.strerror or error}; nothing of the letter was removed"
        ) from None
