"""Opens the store that the settings name.

A module of its own, so that a job on a local folder does not import boto3.
"""

from pathlib import Path

from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.local import LocalStore


def open_store(settings: StageSettings) -> Store:
    """Return the store that `settings` names; a bucket is not contacted yet."""
    if isinstance(settings.store, Path):
        return LocalStore(settings.store)
    from shared.store.s3 import S3Store

    return S3Store(settings.store, settings.s3, settings.local_folder)
