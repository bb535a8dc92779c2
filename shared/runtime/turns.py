"""Lets a job wait at one point of its work until the run that started it gives it its turn.

The exposures of one detector are calibrated side by side, but the persistence state passes from one to the
next in order of time. `nircam-darks run` therefore announces an exposure early with a *hold* on its message,
and lifts the hold once every earlier exposure has left its state. The job, in a process of its own, works up
to the point where it needs the state and waits there (`Turns.wait`).

A hold is an empty file beside the store, named after the message, because a job may be started again in
another process and must find its hold there too. Nothing but a run places holds: a worker of a deployment
finds none and never waits.
"""

import shutil
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self
from uuid import UUID

from shared.settings.stage import StageSettings

_FOLDER = ".turns"
#: Seconds between two looks at a hold; what follows the wait takes longer than that.
_LOOK_SECONDS = 0.02


class Turns(AbstractContextManager["Turns", None]):
    """The holds on the messages of one store; as a context manager, it lifts all of them at both ends.

    Parameters
    ----------
    settings : StageSettings
        The holds lie in the folder of this machine that these settings write to.

    Examples
    --------
    >>> import tempfile, uuid
    >>> turns = Turns(StageSettings(store=tempfile.mkdtemp()))
    >>> message = uuid.uuid4()
    >>> turns.hold(message)
    >>> turns.held(message)
    True
    >>> turns.release(message)
    >>> turns.wait(message)
    """

    def __init__(self, settings: StageSettings) -> None:
        self._folder = Path(settings.local_folder) / _FOLDER

    def hold(self, message: UUID) -> None:
        """Place a hold on a message, before it is published.

        Raises
        ------
        OSError
            If the file cannot be made, as on a full disk.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file(message).touch()

    def held(self, message: UUID) -> bool:
        """Return whether there is a hold on a message."""
        return self._file(message).exists()

    def release(self, message: UUID) -> None:
        """Lift the hold on a message; nothing happens if there is none."""
        self._file(message).unlink(missing_ok=True)

    def wait(self, message: UUID) -> None:
        """Return once there is no hold on a message."""
        while self.held(message):
            time.sleep(_LOOK_SECONDS)

    def __enter__(self) -> Self:
        # A killed run may have left holds behind.
        self._clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def _clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, message: UUID) -> Path:
        return self._folder / str(message)
