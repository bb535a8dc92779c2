"""Every setting of every stage, in one documented table.

Read from the environment as ``DARKS_<NAME>``; the command line overrides.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class StageSettings(BaseSettings):
    """Settings handed to a stage's handler; picklable, so that a job's process gets the same.

    Attributes are documented by their ``description``: `docs/settings.md` is made from them.
    """

    model_config = SettingsConfigDict(env_prefix="DARKS_", extra="forbid")

    store: Path = Field(description="Root folder of the embedded store")
    mode: Literal["reference", "flight"] = Field(
        default="reference", description="How darkref combines: the notebook's seven steps, or flight mode"
    )
    overrides: dict[str, Path] = Field(
        default_factory=dict, description="Reference files by reftype, used in place of CRDS's choice"
    )
    min_integrations: int = Field(
        default=2, ge=1, description="Integrations a set needs before a dark reference is built from it"
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


def settings_table() -> str:
    """Return the table of docs/settings.md: one row a setting, as Markdown."""
    rows = ["| environment | default | meaning |", "|---|---|---|"]
    for name, entry in StageSettings.model_fields.items():
        default = "required" if entry.is_required() else repr(entry.get_default(call_default_factory=True))
        rows.append(f"| `DARKS_{name.upper()}` | `{default}` | {entry.description} |")
    return "\n".join(rows)
