"""From settings to the store they name; the same in every process."""

from shared.settings import StageSettings
from shared.store.base import Store
from shared.store.local import LocalStore


def open_store(settings: StageSettings) -> Store:
    """Return the store that `settings` names, opened in this process."""
    return LocalStore(settings.store)
