"""Every setting of every stage, in one documented table.

Read from the environment as ``DARKS_<NAME>``; the command line overrides.
"""

import os
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.addresses import bucket_address
from shared.nircam.detectors import READ_PATTERNS

#: Names that settings had before, still accepted: former name -> name.
FORMER_NAMES = {"max_equivalent_groups": "max_fullframe_groups", "min_measurements": "min_valid"}
#: More threads for one exposure were never tried.
MOST_INGEST_THREADS = 16


def _mode_today(mode: Any) -> Any:
    # What notebook mode was called at first, on the command line and in the environment.
    return "notebook" if mode == "reference" else mode


class BucketAccess(BaseSettings):
    """How buckets are reached. Credentials are none of it: boto3 finds them by itself."""

    endpoint: str | None = Field(
        title="the server's http:// or https:// URL without a password",
        examples=["https://host:port"],
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
        title="a results folder or an s3:// URL",
        examples=["s3://bucket/prefix"],
        description="Where products are kept: a folder, s3://bucket or s3://bucket/prefix",
    )
    scratch: Path | None = Field(
        default=None,
        description="Folder for files being written when the store is a bucket; None: a folder of the "
        "user's own in the system's temporary folder",
    )
    s3: S3Settings = Field(default_factory=S3Settings, description="How a store in a bucket is reached")
    source_s3: SourceS3Settings = Field(
        default_factory=SourceS3Settings, description="How exposures in buckets are reached"
    )
    allowed_sources: list[str] = Field(
        examples=[["s3://bucket/prefix/"]],
        default_factory=list,
        description="Where announced exposures may lie, such as s3://bucket/prefix/ or, on a disk that "
        "every worker sees, file:///data/darks/; if empty, every exposure is refused",
    )
    mode: Annotated[Literal["flight", "notebook"], BeforeValidator(_mode_today)] = Field(
        default="flight",
        description="How exposures are combined: flight mode, or notebook mode, the seven steps of the "
        "NRC-09 notebook to the letter (also called reference)",
    )
    overrides: dict[str, Path] = Field(
        examples=[{"mask": "mask.fits"}],
        default_factory=dict,
        description="Reference file to use in place of CRDS's choice, by reference type",
    )
    steps: dict[str, str] = Field(
        examples=[{"jump.expand_large_events": "true"}],
        default_factory=dict,
        description="Parameter of a pipeline step in place of jwst's default, such as "
        "jump.expand_large_events=true; parameter references of CRDS (pars-*) are not used",
    )
    min_integrations: int = Field(
        default=2, ge=1, description="Minimum number of integrations for a dark reference"
    )
    min_valid: int = Field(
        default=3,
        ge=1,
        description="Minimum number of measurements per group; a pixel of a flight-mode dark with fewer "
        "is flagged UNRELIABLE_DARK",
    )
    verify: bool = Field(
        default=True,
        description="Verify each reference before it is announced, which takes a second pass over the ramps",
    )
    max_memory: int = Field(
        default=2 * 1024**3,
        ge=64 * 1024**2,
        description="Memory limit of one darkref or noise job, and of an ingest job that is to find showers "
        "(bytes)",
    )
    ingest_threads: int = Field(
        default=1,
        ge=1,
        le=MOST_INGEST_THREADS,
        description="Maximum number of threads with which one ingest job calibrates an exposure: as many are "
        "started as fit into memory, two for full frames; where there are fewer exposures than jobs, `run` "
        "raises it",
    )
    max_fullframe_groups: int | None = Field(
        default=None,
        ge=1,
        description="Upper limit on the groups held in memory at once, over all exposures, counted in full "
        "frames (the notebook's max_equivalent_groups); by default the memory limit alone counts",
    )
    persistence_time: int = Field(
        default=1000, ge=0, description="Window of the persistence step (s); 0 skips the step"
    )
    use_problem_data: bool = Field(
        default=False,
        description="Take exposures whose header reports a problem (DATAPROB = T, VISITSTA = UNSUCCESSFUL), "
        "which are rejected otherwise",
    )
    derive_keywords: bool = Field(
        default=False,
        description="Derive keywords that a header lacks, such as NOUTPUTS of ground tests, from the others; "
        "a file that lacks them is rejected otherwise",
    )
    truncate: int | None = Field(
        default=None,
        ge=2,
        description="Use only this many groups, the first, of exposures that have more, so that exposures of "
        "different lengths form one set; by default all groups",
    )
    epoch_gap_days: float = Field(
        default=10.0, gt=0, description="Exposures more than this many days apart belong to different sets"
    )
    settle_seconds: float | None = Field(
        default=None,
        description="Seconds without a new exposure after which a set counts as complete; None: never",
    )
    pixels: list[tuple[int, int]] = Field(
        title="a JSON list of [x, y]",
        examples=[[[1024, 512]]],
        default_factory=list,
        description="Pixel whose ramps the report shows, as 0-based x and y; by default the report "
        "chooses some",
    )
    emulate: list[str] = Field(
        examples=[["DEEP8"]],
        default_factory=list,
        description="Also estimate the noise of RAPID sets in this readout pattern, such as DEEP8, by "
        "combining their frames",
    )
    previous_references: list[str] = Field(
        examples=[["s3://bucket/dark.fits"]],
        default_factory=list,
        description="Dark reference (a file or s3://bucket/key) to compare new ones with, in place of "
        "the newest in the store; of several, the first with the detector, subarray and "
        "readout of the set counts, and a set without one is refused (flight mode only)",
    )
    author: str = Field(default="nircam-darks", description="AUTHOR of reference files")
    descrip: str | None = Field(
        default=None,
        max_length=65,
        description="DESCRIP of reference files; by default it says what they were made from",
    )
    pedigree: Literal["INFLIGHT", "GROUND", "MODEL", "DUMMY", "SIMULATION"] | None = Field(
        default=None,
        description="PEDIGREE of reference files; by default INFLIGHT with the dates of the data, GROUND "
        "for exposures from before the launch, or SIMULATION for simulated exposures, for which INFLIGHT "
        "and GROUND are refused",
    )
    useafter: str | None = Field(
        examples=["2022-04-11T06:00:00"],
        default=None,
        description="USEAFTER of reference files, such as 2022-04-11T06:00:00; by default the start of "
        "the first exposure of the set",
    )

    @model_validator(mode="before")
    @classmethod
    def _former_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        for former, name in FORMER_NAMES.items():
            if former in values:
                values[name] = values.pop(former)
            elif (value := os.environ.get(f"DARKS_{former.upper()}")) is not None:
                values.setdefault(name, value)
        return values

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
        if addresses and info.data.get("mode") == "notebook":
            raise ValueError("notebook mode compares with no earlier reference; use flight mode")
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
        """How exposures in buckets are reached; in the way of the store, unless set otherwise."""
        return self.source_s3 if self.source_s3.model_fields_set else self.s3

    @property
    def local_folder(self) -> Path:
        """The folder of this machine that is written to: the store's own, or for a bucket the scratch."""
        if isinstance(self.store, Path):
            return self.store
        return self.scratch or Path(tempfile.gettempdir()) / f"nircam-darks-{os.getuid()}"


#: How a value that is no plain text is written in the environment.
_FORMS = {list: " (a JSON list)", dict: " (a JSON object)"}


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
        form = next((form for kind, form in _FORMS.items() if get_origin(entry.annotation) is kind), "")
        rows.append(f"| `DARKS_{name.upper()}` | `{default}` | {entry.description}{form} |")
    return "\n".join(rows)
