"""The events that a worker reports to its observer: a progress bar, metrics, logs.

Kept apart from the worker, so that observers need not import it, and the broker and jobs with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shared.contracts.messages import Envelope
from shared.runtime.handler import Outgoing
from shared.store.counting import NO_TRAFFIC, StoreTraffic

EventKind = Literal["received", "progress", "finished", "retried", "dead-lettered", "requeued", "paused"]


@dataclass(frozen=True)
class WorkerEvent:
    """Something that a worker did.

    Attributes
    ----------
    service : str
    kind : str
    envelope : Envelope or None
        None if the message could not be read.
    outgoing : sequence of Outgoing
        The messages that were published (``"finished"``).
    reason : str
        For a person (``"retried"``, ``"dead-lettered"``, ``"requeued"``, ``"paused"``).
    error : str
        Name of the exception's type, if there was one (``"retried"``, ``"dead-lettered"``).
    done, total, what
        As reported by the job (``"progress"``).
    seconds : float
        How long the job ran; for ``"paused"``, how long the worker will rest.
    traceback : str
        Of an unforeseen error.
    evidence : str
        Lines that the reason rests on (`shared.runtime.crash_report`), if a job failed.
    attempt : int
        Number of this attempt, from 1.
    redelivered : bool
        Whether the message was delivered before, with whatever outcome.
    traffic : StoreTraffic
        Bytes that the job read from and wrote to the store, once it has ended.
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
