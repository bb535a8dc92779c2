"""Progress bars, one per stage, driven by the events of the workers."""

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

from shared.contracts.routing import BINDINGS, STAGES
from shared.runtime.events import WorkerEvent


class StageBars:
    """Bars on `console`, as a context manager. Where that is not a terminal, only the end state is printed.

    Parameters
    ----------
    console : rich.console.Console
    exposures : int
        Number of files that will be announced.
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
            stage.name: self._progress.add_task(
                stage.title, total=exposures if "exposure.announced" in stage.receives else 0, doing=""
            )
            for stage in STAGES
        }

    def observe(self, event: WorkerEvent) -> None:
        """Advance the bar of the event's stage, and lengthen those of the stages that get its messages."""
        task = self._tasks[event.service]
        with self._lock:
            if event.kind == "progress":
                self._progress.update(task, doing=f"{event.what} {event.done}/{event.total}")
            elif event.kind in ("finished", "dead-lettered"):
                # The bar of ingest counts exposures, not set checks.
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
