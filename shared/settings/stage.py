"""Every setting of every stage, in one documented table.

Read from the environment as ``DARKS_<NAME>``; the command line overrides.
"""

import os
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.detectors import READ_PATTERNS
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
    emulate: list[str] = Field(
        default_factory=list,
        description="Readout patterns, such as DEEP8, that noise makes of the frames of RAPID sets, to tell "
        "their effective noise too (a JSON list)",
    )
    previous_references: list[str] = Field(
        default_factory=list,
        description="Dark references, files or s3://bucket/key, that new ones are compared with in place of "
        "what the store holds (a JSON list): each set takes the first of its detector, subarray and readout, "
        "and is refused if there is none; flight mode only",
    )
    author: str = Field(default="nircam-darks", description="AUTHOR of reference files")
    descrip: str | None = Field(
        default=None, max_length=65, description="DESCRIP of reference files; None: what they are of"
    )
    pedigree: Literal["INFLIGHT", "GROUND", "MODEL", "DUMMY", "SIMULATION"] | None = Field(
        default=None,
        description="PEDIGREE of reference files; INFLIGHT gets the data's dates. None: INFLIGHT, or of "
        "simulated exposures SIMULATION; of these INFLIGHT and GROUND are refused",
    )
    useafter: str | None = Field(
        default=None,
        description="USEAFTER of reference files, yyyy-mm-ddThh:mm:ss; None: when the set's first exposure "
        "began",
    )

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

    @field_validator("emulate")
    @classmethod
    def _patterns(cls, patterns: list[str]) -> list[str]:
        # Of RAPID all others are made.
        choices = [pattern for pattern in READ_PATTERNS if pattern != "RAPID"]
        for pattern in patterns:
            if pattern.upper() not in choices:
                raise ValueError(f"{pattern!r} cannot be emulated; choose from {', '.join(choices)}")
        return sorted({pattern.upper() for pattern in patterns})

    @field_validator("previous_references")
    @classmethod
    def _references_or_none(cls, addresses: list[str], info: ValidationInfo) -> list[str]:
        for address in addresses:
            if address.startswith("s3://"):
                bucket_address(address)
            elif "://" in address and not address.startswith("file:///"):
                raise ValueError(f"{address!r} is neither a file nor s3://bucket/key")
        if addresses and info.data.get("mode") == "reference":
            raise ValueError("reference mode compares with no earlier reference; use flight mode")
        return addresses

    @field_validator("useafter")
    @classmethod
    def _as_crds_writes_it(cls, useafter: str | None) -> str | None:
        if useafter is not None:
            try:
                same = f"{datetime.fromisoformat(useafter):%Y-%m-%dT%H:%M:%S}"
            except ValueError:
                same = ""
            if same != useafter:
                raise ValueError(f"{useafter!r} is no time; write it as 2022-04-11T06:00:00")
        return useafter

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
