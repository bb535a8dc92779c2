"""A progress bar a stage, fed by what the workers say."""

import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from shared.topology import BINDINGS
from shared.worker import WorkerEvent

_TITLES = {"ingest": "ingest", "darkref": "dark references", "noise": "noise"}


class StageBars:
    """Bars on `console`; use it in a ``with``. On no terminal, rich prints the end state only.

    Parameters
    ----------
    console : rich.console.Console
    exposures : int
        Files that will be announced.
    """

    def __init__(self, console: Console, exposures: int) -> None:
        self._lock = threading.Lock()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[doing]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {
            service: self._progress.add_task(title, total=exposures if service == "ingest" else 0, doing="")
            for service, title in _TITLES.items()
        }

    def observe(self, event: WorkerEvent) -> None:
        """Move the bar of the event's stage, and lengthen those of the stages it feeds."""
        task = self._tasks[event.service]
        with self._lock:
            if event.kind == "progress":
                self._progress.update(task, doing=f"{event.what} {event.done}/{event.total}")
            elif event.kind in ("finished", "dead-lettered"):
                # A set check is no exposure: it does not count in ingest's bar.
                counts = event.envelope is None or event.envelope.schema_name != "set.check"
                self._progress.update(task, advance=1 if counts else 0, doing="")
                for outgoing in event.outgoing:
                    self._expect(outgoing.message.schema_name)
            elif event.kind in ("retried", "paused"):
                self._progress.update(task, doing=event.reason)

    def _expect(self, routing_key: str) -> None:
        for service, keys in BINDINGS.items():
            if routing_key in keys and routing_key != "set.check":
                task = self._progress.tasks[self._tasks[service]]
                self._progress.update(task.id, total=(task.total or 0) + 1)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
