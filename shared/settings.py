"""Every setting of every stage, in one documented table.

Read from the environment as ``DARKS_<NAME>``; the command line overrides.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.store.keys import bucket_address


class BucketAccess(BaseSettings):
    """How buckets are reached. Credentials are none of it: boto3 finds them by itself."""

    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/@\s]+/?$",
        description="https://host:port of the server; None: AWS",
    )
    region: str | None = Field(
        default=None, description="Region; None: what AWS_DEFAULT_REGION or the profile says"
    )
    path_style: bool | None = Field(
        default=None, description="Bucket in the path, not in the host name; None: where an endpoint is given"
    )
    ca: Path | None = Field(
        default=None, description="Certificates (PEM) of the authority that vouches for the server"
    )
    attempts: int = Field(default=5, ge=1, description="How often a request is tried, ever more slowly")
    connect_timeout: float = Field(default=5.0, gt=0, description="Seconds to wait for a connection")
    read_timeout: float = Field(default=30.0, gt=0, description="Seconds to wait for an answer")
    anonymous: bool = Field(default=False, description="Send no credentials: for public buckets")


class S3Settings(BucketAccess):
    """How a store in a bucket is reached."""

    model_config = SettingsConfigDict(env_prefix="DARKS_S3_", extra="forbid")

    part_size: int = Field(
        default=32 * 1024**2,
        ge=5 * 1024**2,
        description="Bytes in one part of a large object; also what is held in memory of it",
    )


class SourceS3Settings(BucketAccess):
    """How announced exposures in buckets are reached, where not as the store is."""

    model_config = SettingsConfigDict(env_prefix="DARKS_SOURCE_S3_", extra="forbid")


class StageSettings(BaseSettings):
    """Settings handed to a stage's handler; picklable, so that a job's process gets the same.

    Attributes are documented by their ``description``: `docs/settings.md` is made from them.
    """

    model_config = SettingsConfigDict(env_prefix="DARKS_", extra="forbid")

    store: Path | str = Field(
        description="Where products are kept: a folder, or s3://bucket or s3://bucket/prefix"
    )
    scratch: Path | None = Field(
        default=None,
        description="Folder for files in the making where the store is a bucket; "
        "None: a user's own in the system's temporary folder",
    )
    s3: S3Settings = Field(default_factory=S3Settings, description="How a store in a bucket is reached")
    source_s3: SourceS3Settings = Field(
        default_factory=SourceS3Settings, description="How exposures in buckets are reached"
    )
    allowed_sources: list[str] = Field(
        default_factory=list,
        description="Where announced exposures may lie, such as s3://bucket/prefix/ or, on a disk that every "
        "worker sees, file:///data/darks/ (a JSON list); empty: nowhere, everything is refused",
    )
    mode: Literal["reference", "flight"] = Field(
        default="flight",
        description="How darkref combines: flight mode, or reference: the notebook's seven steps to the "
        "letter",
    )
    overrides: dict[str, Path] = Field(
        default_factory=dict, description="Reference files by reftype, used in place of CRDS's choice"
    )
    min_integrations: int = Field(
        default=2, ge=1, description="Integrations a set needs before a dark reference is built from it"
    )
    min_measurements: int = Field(
        default=3,
        ge=1,
        description="Measurements that a pixel of a flight-mode dark needs in every group; with fewer it is "
        "flagged UNRELIABLE_DARK",
    )
    verify: bool = Field(
        default=True,
        description="Whether darkref verifies a reference before it is announced; takes a second pass over "
        "the ramps",
    )
    max_memory: int = Field(
        default=2 * 1024**3, ge=64 * 1024**2, description="Bytes that darkref and noise may use for a job"
    )
    max_equivalent_groups: int | None = Field(
        default=None,
        ge=1,
        description="Upper bound on full-frame-equivalent groups in memory at once, over all exposures",
    )
    persistence_time: int = Field(
        default=1000, ge=0, description="Window of the persistence step in s; 0 skips the step"
    )
    epoch_gap_days: float = Field(
        default=10.0, gt=0, description="A gap longer than this without an exposure starts a new set"
    )
    settle_seconds: float | None = Field(
        default=None, description="A set is taken as complete when nothing came for this long; None: never"
    )
    pixels: list[tuple[int, int]] = Field(
        default_factory=list, description="(x, y) of pixels whose ramps are plotted, 0-based; empty: chosen"
    )
    author: str = Field(default="nircam-darks", description="AUTHOR of reference files")
    descrip: str | None = Field(default=None, max_length=65, description="DESCRIP of reference files")

    @field_validator("store")
    @classmethod
    def _folder_or_bucket(cls, store: Path | str) -> Path | str:
        if isinstance(store, Path):
            return store
        if "://" not in store:
            return Path(store)
        bucket_address(store)
        return store

    @field_validator("allowed_sources")
    @classmethod
    def _folders_or_buckets(cls, allowed: list[str]) -> list[str]:
        for prefix in allowed:
            if not prefix.startswith("file:///"):
                bucket_address(prefix)
        return allowed

    @property
    def source_bucket(self) -> BucketAccess:
        """How exposures in buckets are reached: as the store is, where nothing else is said."""
        return self.source_s3 if self.source_s3.model_fields_set else self.s3

    @property
    def local_folder(self) -> Path:
        """The folder of this machine that is written to: the store's own, or for a bucket the scratch."""
        if isinstance(self.store, Path):
            return self.store
        return self.scratch or Path(tempfile.gettempdir()) / f"nircam-darks-{os.getuid()}"


def settings_table() -> str:
    """Return the table of docs/settings.md: one row a setting, as Markdown."""
    nested: dict[str, type[BaseSettings]] = {"s3": S3Settings, "source_s3": SourceS3Settings}
    rows = {name: entry for name, entry in StageSettings.model_fields.items() if name not in nested}
    for prefix, settings in nested.items():
        rows |= {f"{prefix}_{name}": entry for name, entry in settings.model_fields.items()}
    return settings_rows(rows)


def settings_rows(fields: Mapping[str, FieldInfo]) -> str:
    """Return a table of `fields`, as Markdown."""
    rows = ["| environment | default | meaning |", "|---|---|---|"]
    for name, entry in fields.items():
        value = entry.get_default(call_default_factory=True)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        default = "required" if entry.is_required() else repr(value)
        rows.append(f"| `DARKS_{name.upper()}` | `{default}` | {entry.description} |")
    return "\n".join(rows)
