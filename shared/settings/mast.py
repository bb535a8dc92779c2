"""Settings of `nircam-darks watch-mast`: how the archive (MAST) is asked."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings.stage import settings_rows


class MastSettings(BaseSettings):
    """How MAST is reached, and where the public copy of its files is.

    Attributes are documented by their ``description``: `docs/settings.md` is made from them.
    """

    model_config = SettingsConfigDict(env_prefix="DARKS_MAST_", extra="forbid", frozen=True)

    url: str = Field(
        title="an http:// or https:// URL",
        default="https://mast.stsci.edu",
        pattern=r"^https?://[^/@\s]+/?$",
        description="https://host of the archive",
    )
    public_bucket: str = Field(
        title="an s3:// URL or nothing",
        default="s3://stpubdata/jwst/public",
        pattern=r"^(s3://\S+)?$",
        description="Address of the archive's public copy; empty: files are always downloaded",
    )
    page_size: int = Field(
        default=5000, ge=1, le=50_000, description="Largest number of exposures in one answer of the archive"
    )
    overlap_days: float = Field(
        default=30.0,
        ge=0,
        description="Days before the newest known exposure for which others may still appear",
    )
    attempts: int = Field(default=4, ge=1, description="Number of attempts of a request, with growing pauses")
    longest_pause: float = Field(default=60.0, gt=0, description="Longest pause between two attempts (s)")
    connect_timeout: float = Field(default=10.0, gt=0, description="Seconds to wait for a connection")
    read_timeout: float = Field(
        default=300.0, gt=0, description="Seconds to wait for an answer; a search may take a minute"
    )


def mast_settings_table() -> str:
    """Return the table of the archive's settings in docs/settings.md, as Markdown."""
    return settings_rows({f"mast_{name}": field for name, field in MastSettings.model_fields.items()})
