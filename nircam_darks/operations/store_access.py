"""Settings and store of an operator's command, from the same environment variables as the services'."""

from pathlib import Path

from shared.errors import DarksError, EnvironmentFault
from shared.runtime.store_monitor import require_store
from shared.settings.service import read_settings, read_settings_file
from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.opening import open_store


def operator_settings() -> StageSettings:
    """Read the stage settings, as the services do.

    Raises
    ------
    EnvironmentFault
        If a setting is missing or wrong.
    """
    read_settings_file()
    return read_settings(StageSettings)


def impatient(settings: StageSettings) -> StageSettings:
    """Return settings with fewer attempts, so that a person at a terminal soon learns of a missing bucket."""
    quick = settings.s3.model_copy(update={"attempts": min(settings.s3.attempts, 2)})
    return settings.model_copy(update={"s3": quick})


def open_existing(settings: StageSettings) -> Store:
    """Open the store that `settings` names, and check that it answers.

    Raises
    ------
    EnvironmentFault
        If there is no such folder or bucket, or access is denied.
    StoreUnavailable
        If it does not answer.
    """
    if isinstance(settings.store, Path) and not settings.store.is_dir():
        raise EnvironmentFault(f"store {settings.store}: no such folder; correct DARKS_STORE")
    store = open_store(settings)
    try:
        require_store(store)
    except OSError as error:
        store.close()
        raise EnvironmentFault(f"store {settings.store}: {error.strerror}; correct DARKS_STORE") from error
    except DarksError:
        store.close()
        raise
    return store
