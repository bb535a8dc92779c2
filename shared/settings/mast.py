"""How the archive (MAST) is asked: settings of `nircam-darks watch-mast`."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings import settings_rows


class MastSettings(BaseSettings):
    """How MAST is reached, and where the public copy of its files lies.

    Attributes are documented by their ``description``: `docs/settings.md` is made from them.
    """

    model_config = SettingsConfigDict(env_prefix="DARKS_MAST_", extra="forbid", frozen=True)

    url: str = Field(
        default="https://mast.stsci.edu",
        pattern=r"^https?://[^/@\s]+/?$",
        description="https://host of the archive",
    )
    public_bucket: str = Field(
        default="s3://stpubdata/jwst/public",
        pattern=r"^(s3://\S+)?$",
        description="Where the archive's public copy lies; empty: files are always downloaded",
    )
    page_size: int = Field(
        default=5000, ge=1, le=50_000, description="Exposures that one answer of the archive may list"
    )
    overlap_days: float = Field(
        default=30.0,
        ge=0,
        description="Days before the newest known exposure in which others may still turn up",
    )
    attempts: int = Field(default=4, ge=1, description="How often a question is asked, ever more slowly")
    longest_pause: float = Field(default=60.0, gt=0, description="Seconds between two attempts at most")
    connect_timeout: float = Field(default=10.0, gt=0, description="Seconds to wait for a connection")
    read_timeout: float = Field(
        default=300.0, gt=0, description="Seconds to wait for an answer: a search may take a minute"
    )


def mast_settings_table() -> str:
    """Return the table of the archive's settings in docs/settings.md, as Markdown."""
    return settings_rows({f"mast_{name}": one for name, one in MastSettings.model_fields.items()})
