"""From an operator's environment to settings and store: the same variables as the services have."""

from pathlib import Path

from shared.errors import DarksError, EnvironmentFault
from shared.service_settings import read_settings, read_settings_file
from shared.settings import StageSettings
from shared.store.base import Store
from shared.store.opening import open_store
from shared.store_watch import require_store


def operator_settings() -> StageSettings:
    """Read the stages' settings, as the services do.

    Raises
    ------
    EnvironmentFault
        If one is missing or wrong.
    """
    read_settings_file()
    return read_settings(StageSettings)


def impatient(settings: StageSettings) -> StageSettings:
    """Return settings with which a bucket that is away is noticed soon: somebody waits at a terminal."""
    quick = settings.s3.model_copy(update={"attempts": min(settings.s3.attempts, 2)})
    return settings.model_copy(update={"s3": quick})


def open_existing(settings: StageSettings) -> Store:
    """Open the store that `settings` names and ask it for an answer.

    Raises
    ------
    EnvironmentFault
        If there is no such folder or bucket, or it may not be read.
    StoreUnavailable
        If it does not answer.
    """
    if isinstance(settings.store, Path) and not settings.store.is_dir():
        raise EnvironmentFault(f"store {settings.store}: there is no such folder; correct DARKS_STORE")
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
