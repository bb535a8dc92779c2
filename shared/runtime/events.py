"""What a worker tells those who watch it: progress bars, metrics, logs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shared.messages import Envelope
from shared.stage import Outgoing
from shared.store.counting import NO_TRAFFIC, StoreTraffic

EventKind = Literal["received", "progress", "finished", "retried", "dead-lettered", "put-back", "paused"]


@dataclass(frozen=True)
class WorkerEvent:
    """Something a worker did, for progress bars, metrics and logs.

    Attributes
    ----------
    envelope : Envelope or None
        None where the message could not be read.
    outgoing : sequence of Outgoing
        What was published (``"finished"``).
    reason : str
        For a person (``"retried"``, ``"dead-lettered"``, ``"put-back"``, ``"paused"``).
    error : str
        Name of the exception's type, where one led to it (``"retried"``, ``"dead-lettered"``).
    done, total, what
        As reported by the job (``"progress"``).
    seconds : float
        How long the job ran; for ``"paused"``, how long the worker will rest.
    traceback : str
        Of an error that nobody foresaw.
    evidence : str
        Lines that the reason rests on (`shared.evidence`), where a job failed.
    attempt : int
        Which attempt of the message this is, from 1.
    redelivered : bool
        The message was delivered before, whatever became of that.
    traffic : StoreTraffic
        Bytes that the job read from and wrote to the store, once it is over.
    """

    service: str
    kind: EventKind
    envelope: Envelope | None = None
    outgoing: Sequence[Outgoing] = ()
    reason: str = ""
    done: int = 0
    total: int = 0
    what: str = ""
    seconds: float = 0.0
    traceback: str = ""
    evidence: str = ""
    error: str = ""
    attempt: int = 1
    redelivered: bool = False
    traffic: StoreTraffic = NO_TRAFFIC
