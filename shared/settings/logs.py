"""How a process logs: level and format.

Apart from the other settings, because a job process gets these alone.
"""

from dataclasses import dataclass
from typing import Literal

Level = Literal["debug", "info", "warning", "error"]


Format = Literal["json", "console"]


@dataclass(frozen=True)
class LogSettings:
    """How a process logs; picklable, so that a job's process logs as its service does."""

    level: Level = "info"
    format: Format = "json"
