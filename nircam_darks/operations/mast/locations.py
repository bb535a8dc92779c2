"""Where the services find an exposure of the archive: in its public bucket, or where it was downloaded."""

from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from nircam_darks.operations.mast.client import MastArchive
from nircam_darks.operations.mast.records import DarkFile
from shared.addresses import bucket_address
from shared.errors import EnvironmentFault
from shared.settings.stage import BucketAccess, S3Settings, StageSettings
from shared.store.base import Store
from shared.store.s3_client import MISSING, code_of, make_client, s3_faults


@dataclass(frozen=True)
class Placed:
    """Address of a file for the services.

    `sha256` is known only if it was downloaded here, `etag` only in the public bucket.
    """

    uri: str
    size: int | None
    sha256: str | None
    etag: str | None = None


class Places(AbstractContextManager["Places", None]):
    """Finds the address under which the services can read a file, downloading the file if need be.

    Parameters
    ----------
    archive : MastArchive
    settings : StageSettings
    public_bucket : str
        ``s3://bucket/prefix`` of the archive's public copy; empty if there is none.
    store : Store
        The services' store; downloads go there, under ``mast/files/``, unless `download_to` is given.
    download_to : str, optional
        ``s3://bucket/prefix``, or a folder that every worker sees.
    """

    def __init__(
        self,
        archive: MastArchive,
        settings: StageSettings,
        public_bucket: str,
        store: Store,
        download_to: str | None = None,
    ) -> None:
        self._archive = archive
        self._settings = settings
        self._public = _PublicCopy(public_bucket, settings.source_bucket) if public_bucket else None
        self._stack = ExitStack()
        self._store, self._prefix = store, "mast/files/"
        if download_to is not None:
            self._store, self._prefix = self._stack.enter_context(closing(self._opened(download_to))), ""
        self._reachable = download_to is not None or _same_server(settings)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store that files are downloaded to, unless it is the services' own."""
        self._stack.close()

    def public(self, file: DarkFile) -> Placed | None:
        """Return the address of a file in the public bucket; None if it is missing or has another size.

        Raises
        ------
        StoreUnavailable, EnvironmentFault
            As `shared.store.s3_client.s3_fault` says.
        """
        return self._public.find(file) if self._public else None

    def download(self, file: DarkFile) -> Placed:
        """Download a file from the archive, and store it where the services can read it.

        Raises
        ------
        DownloadRefused, ArchiveUnavailable
            As from `MastArchive.download`; nothing is stored then.
        StoreUnavailable, EnvironmentFault
            If the file cannot be stored; EnvironmentFault also if the services could not read it there.
        """
        if not self._reachable:
            raise EnvironmentFault(
                f"{file.name} is not in the public bucket, and the services could not read it from the "
                "store, because DARKS_SOURCE_S3_ENDPOINT names another server; give --download-to a place "
                "that they can read"
            )
        path = self._store.scratch() / file.name
        try:
            self._archive.download(file, path)
            key = f"{self._prefix}{_below(file)}"
            size, digest = self._store.put_file(key, path)
        finally:
            path.unlink(missing_ok=True)
        return Placed(self._store.uri(key), size, digest)

    def _opened(self, address: str) -> Store:
        if "://" not in address:
            # Absolute, because the services run in other working directories.
            from shared.store.local import LocalStore

            return LocalStore(Path(address).absolute())
        from shared.store.s3 import S3Store

        access = self._settings.source_bucket
        values = {name: getattr(access, name) for name in BucketAccess.model_fields}
        return S3Store(address.removesuffix("/"), S3Settings(**values), self._settings.local_folder)


class _PublicCopy:
    def __init__(self, address: str, access: BucketAccess) -> None:
        self._bucket, self._prefix = bucket_address(address)
        self._access = access
        self._client: Any = None

    def find(self, file: DarkFile) -> Placed | None:
        key = f"{self._prefix}/{_below(file)}" if self._prefix else _below(file)
        uri = f"s3://{self._bucket}/{key}"
        try:
            size, etag = self._head(key, uri)
        except EnvironmentFault as error:
            raise EnvironmentFault(
                f"{error}; to read the archive's public bucket, set DARKS_SOURCE_S3_ANONYMOUS=true; to do "
                "without it, set DARKS_MAST_PUBLIC_BUCKET= (empty)"
            ) from error
        # Another size means an older delivery of the same exposure.
        return Placed(uri, size, None, etag) if size is not None and file.size in (None, size) else None

    def _head(self, key: str, uri: str) -> tuple[int | None, str | None]:
        with s3_faults(uri):
            if self._client is None:
                self._client = make_client(self._access)
            try:
                answer = self._client.head_object(Bucket=self._bucket, Key=key)
                return int(answer["ContentLength"]), answer.get("ETag")
            except ClientError as error:
                if code_of(error) in MISSING:
                    return None, None
                raise


def _below(file: DarkFile) -> str:
    """Return the key below the prefix, in the layout of the public bucket (docs/archive.md)."""
    return f"{file.program}/{file.visit}/{file.name}"


def _same_server(settings: StageSettings) -> bool:
    if isinstance(settings.store, Path):
        return True
    return settings.source_bucket.endpoint == settings.s3.endpoint
