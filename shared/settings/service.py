"""Settings of a service as a process: port, time limits, retries, logs; and how all settings are read.

What the service computes with is in `shared.settings.stage`, its broker in `shared.settings.broker`.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Annotated, TypeVar

from dotenv import dotenv_values
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from shared.errors import EnvironmentFault
from shared.settings.broker import BrokerSettings
from shared.settings.faults import settings_fault, variable_of
from shared.settings.logs import Format, Level, LogSettings
from shared.settings.mast import MastSettings
from shared.settings.stage import FORMER_NAMES, S3Settings, SourceS3Settings, StageSettings, settings_rows

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
    http_port: int = Field(
        default=8080,
        ge=0,
        le=65535,
        description="Port of that address; 0: any free port, which the log names",
    )
    live_seconds: _Seconds = Field(
        default=120.0, description="`/live` fails once the I/O loop has not ticked for this many seconds"
    )
    job_seconds: _Seconds = Field(default=3600.0, description="Time limit of a job (s)")
    job_memory: int | None = Field(
        default=None, ge=64 * 1024**2, description="Memory limit of a job's process (bytes); None: no limit"
    )
    grace_seconds: float = Field(
        default=25.0, ge=0, description="Seconds that the current job may take to finish after SIGTERM"
    )
    messages: int | None = Field(
        default=None, ge=1, description="End after this many messages, with exit code 0; None: never"
    )
    idle_seconds: _Seconds | None = Field(
        default=None,
        description="End after this many seconds without a message, with exit code 0; None: never",
    )
    retry_delays: list[_Seconds] = Field(
        default=[1.0, 5.0, 25.0, 125.0],
        min_length=1,
        description="Seconds before the second, third, ... attempt; the last one repeats",
    )
    announce_pattern: str | None = Field(
        default=None,
        min_length=1,
        description="S3 event notifications announce the objects whose keys match this pattern, such as "
        "`*_uncal.fits`; None: `.fits` and `.fit`, also `.gz` or `.fz`, in any case, as `run` takes them",
    )
    simulated_metrics: bool = Field(
        default=False,
        description="Show figures of simulated exposures in the science gauges as well; for tests only",
    )
    log_level: Level = Field(
        default="info", description="Lowest level that is logged: debug, info, warning or error"
    )
    log_format: Format = Field(
        default="json", description="`json`: one object per line; `console`: for people"
    )

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
    """Add the variables of the file that `FILE_VARIABLE` names to `environment`, which takes precedence.

    Raises
    ------
    EnvironmentFault
        If the file cannot be read, or holds a ``DARKS_`` variable that is not a setting.
    """
    name = environment.get(FILE_VARIABLE)
    if not name:
        return
    try:
        with Path(name).open() as file:
            variables = dotenv_values(stream=file, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise EnvironmentFault(
            f"{name} cannot be read: {reason}; correct {FILE_VARIABLE}, or unset it",
            where=name,
            setting=FILE_VARIABLE,
        ) from None
    for variable, value in variables.items():
        if variable.startswith("DARKS_") and variable not in known_variables():
            raise EnvironmentFault(
                f"{name}: {variable} is not a setting; docs/settings.md lists all settings",
                where=name,
                setting=variable,
            ) from None
        environment.setdefault(variable, value or "")


def read_settings(kind: type[_Settings]) -> _Settings:
    """Read settings of some kind from the environment.

    Raises
    ------
    EnvironmentFault
        If one is missing or wrong; the message names each variable and what to set it to. It does not quote
        the value, which may be a secret.
    """
    try:
        return kind()
    except ValidationError as error:
        # The settings of the store's bucket are read while the stage's are.
        read = next((each for each in _KINDS if each.__name__ == error.title), kind)
        raise settings_fault(read, error) from None
    except SettingsError as error:
        raise settings_fault(kind, error) from None


def known_variables() -> set[str]:
    """Return the name of every setting, as it stands in the environment."""
    names = {variable_of(kind, name) for kind in _KINDS for name in kind.model_fields}
    return names | {variable_of(StageSettings, name) for name in FORMER_NAMES}


def service_settings_table() -> str:
    """Return the table of a service's own settings in docs/settings.md, as Markdown."""
    return settings_rows(ServiceSettings.model_fields)


def broker_settings_table() -> str:
    """Return the table of the broker's settings in docs/settings.md, as Markdown."""
    return settings_rows({f"broker_{name}": field for name, field in BrokerSettings.model_fields.items()})
