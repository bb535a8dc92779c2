"""From settings to the store they name; the same in every process."""

from pathlib import Path

from shared.settings import StageSettings
from shared.store.base import Store
from shared.store.local import LocalStore


def open_store(settings: StageSettings) -> Store:
    """Return the store that `settings` names, opened in this process; a bucket is not asked yet."""
    if isinstance(settings.store, Path):
        return LocalStore(settings.store)
    # A laptop's jobs need not wait for boto3 to be imported.
    from shared.store.s3 import S3Store

    return S3Store(settings.store, settings.s3, settings.local_folder)
