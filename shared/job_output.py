"""Where a job process's words go when they go to a file: each line under the message that it belongs to."""

import io
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from shared.messages import Envelope


def log_lines(path: Path | None) -> Callable[[str, Envelope], None]:
    """Send what this process prints, logs and warns to a file, or nowhere.

    Returns
    -------
    callable
        Told ``(service, message)`` at the beginning of each job: the lines from then on name it.
    """
    lines = _LogLines(path)
    sys.stdout = sys.stderr = lines
    logging.basicConfig(stream=lines, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

    def begin(service: str, message: Envelope) -> None:
        lines.subject = f"{service} {message.id}"

    return begin


class _LogLines(io.TextIOBase):
    """Appends whole lines to the log file, each with time and subject in front.

    What compiled code writes past Python comes there too, by the process's own stdout and stderr.
    """

    def __init__(self, path: Path | None) -> None:
        self.subject = "start"
        self._part = ""
        self._lock = threading.Lock()
        self._fd = os.open(path or os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._part = (self._part + text).split("\n")
            for line in lines:
                self._put(line)
        return len(text)

    def flush(self) -> None:
        with self._lock:
            if self._part:
                self._put(self._part)
            self._part = ""

    def _put(self, line: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            # One write a line: lines of several processes do not mix.
            os.write(self._fd, f"{stamp} [{self.subject}] {line}\n".encode(errors="replace"))
        except OSError:
            # A full disk must not turn a log line into a failed job.
            return
