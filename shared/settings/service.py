"""The settings of a service beside those of its stage, its store and its broker."""

import os
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Annotated, TypeVar

from dotenv import dotenv_values
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.broker.rabbitmq.settings import BrokerSettings
from shared.errors import EnvironmentFault
from shared.logs import Format, Level, LogSettings
from shared.mast_settings import MastSettings
from shared.settings import S3Settings, SourceS3Settings, StageSettings, settings_rows

#: Names a file of further variables, ``NAME=value`` a line; the environment itself wins.
FILE_VARIABLE = "DARKS_SETTINGS_FILE"

_Seconds = Annotated[float, Field(gt=0)]
_Settings = TypeVar("_Settings", bound=BaseSettings)


class ServiceSettings(BaseSettings):
    """How a service runs.

    Attributes are documented by their ``description``: `docs/settings.md` is made from them.
    """

    model_config = SettingsConfigDict(env_prefix="DARKS_", extra="forbid", frozen=True)

    http_host: str = Field(
        default="0.0.0.0", description="Address that `/live`, `/ready` and `/metrics` are served on"
    )
    http_port: int = Field(default=8080, ge=0, le=65535, description="Its port; 0: any free one, see the log")
    live_seconds: _Seconds = Field(
        default=120.0, description="`/live` fails when the I/O loop has not ticked for so many seconds"
    )
    job_seconds: _Seconds = Field(default=3600.0, description="Seconds that a job may take")
    job_memory: int | None = Field(
        default=None, ge=64 * 1024**2, description="Bytes that a job's process may hold; None: no limit"
    )
    grace_seconds: float = Field(
        default=25.0, ge=0, description="Seconds that the job at hand may still take after SIGTERM"
    )
    messages: int | None = Field(
        default=None, ge=1, description="End after so many messages, with exit code 0; None: never"
    )
    idle_seconds: _Seconds | None = Field(
        default=None, description="End when no message came for so long, with exit code 0; None: never"
    )
    retry_delays: list[_Seconds] = Field(
        default=[1.0, 5.0, 25.0, 125.0],
        min_length=1,
        description="Seconds before the second, third, ... attempt; the last one repeats",
    )
    announce_pattern: str = Field(
        default="*.fits",
        min_length=1,
        description="An S3 event notification counts as announcement if the object's key fits this pattern",
    )
    simulated_metrics: bool = Field(
        default=False,
        description="Show figures of simulated exposures in the science gauges too: for rehearsals only",
    )
    log_level: Level = Field(
        default="info", description="Least level that is logged: debug, info, warning or error"
    )
    log_format: Format = Field(default="json", description="`json`: an object a line; `console`: for people")

    def logs(self) -> LogSettings:
        """Return how this service and its jobs log."""
        return LogSettings(self.log_level, self.log_format)


_KINDS: tuple[type[BaseSettings], ...] = (
    ServiceSettings,
    StageSettings,
    S3Settings,
    SourceS3Settings,
    BrokerSettings,
    MastSettings,
)


def read_settings_file(environment: MutableMapping[str, str] = os.environ) -> None:
    """Add to `environment` what the file that it names holds and it has not.

    Raises
    ------
    EnvironmentFault
        If the file cannot be read, or holds a ``DARKS_`` name that is no setting.
    """
    name = environment.get(FILE_VARIABLE)
    if not name:
        return
    try:
        with Path(name).open() as file:
            found = dotenv_values(stream=file, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise EnvironmentFault(
            f"{name} cannot be read: {reason}; correct {FILE_VARIABLE}, or unset it"
        ) from None
    for variable, value in found.items():
        if variable.startswith("DARKS_") and variable not in known_variables():
            raise EnvironmentFault(
                f"{name}: {variable} is no setting; docs/settings.md lists them all"
            ) from None
        environment.setdefault(variable, value or "")


def read_settings(kind: Callable[[], _Settings]) -> _Settings:
    """Read settings of some kind from the environment.

    Raises
    ------
    EnvironmentFault
        If one is missing or wrong. No value is quoted: it may be a secret.
    """
    try:
        return kind()
    except ValidationError as error:
        prefix = next((_prefix(kind) for kind in _KINDS if kind.__name__ == error.title), "")
        faults = "; ".join(_fault(prefix, each["loc"], each["msg"]) for each in error.errors())
        raise EnvironmentFault(f"wrong settings: {faults}; docs/settings.md lists them all") from None
    except ValueError as error:
        # What cannot even be parsed. Its cause would quote the value.
        raise EnvironmentFault(
            f"wrong settings: {error}; lists and tables are written as JSON, see docs/settings.md"
        ) from None


def known_variables() -> set[str]:
    """Return the name of every setting, as it stands in the environment."""
    return {f"{_prefix(kind)}{name.upper()}" for kind in _KINDS for name in kind.model_fields}


def service_settings_table() -> str:
    """Return the table of a service's own settings in docs/settings.md, as Markdown."""
    return settings_rows(ServiceSettings.model_fields)


def broker_settings_table() -> str:
    """Return the table of the broker's settings in docs/settings.md, as Markdown."""
    return settings_rows({f"broker_{name}": one for name, one in BrokerSettings.model_fields.items()})


def _prefix(kind: type[BaseSettings]) -> str:
    return str(kind.model_config["env_prefix"])


def _fault(prefix: str, location: tuple[int | str, ...], words: str) -> str:
    first, *rest = [str(part) for part in location] or ["..."]
    return f"{'.'.join([prefix + first.upper(), *rest])}: {words}"
