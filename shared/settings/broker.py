"""Settings of the broker: its address and the user; read from the environment as ``DARKS_BROKER_<NAME>``."""

from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from shared.errors import EnvironmentFault
from shared.settings.faults import settings_fault

_PORTS = {"amqp": 5672, "amqps": 5671}
_MANAGEMENT = {"amqp": ("http", 15672), "amqps": ("https", 15671)}


class BrokerSettings(BaseSettings):
    """Settings of the connection to RabbitMQ. None of their representations shows a password."""

    # Errors do not quote a wrong value, which may contain the password.
    model_config = SettingsConfigDict(
        env_prefix="DARKS_BROKER_", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    url: SecretStr = Field(
        examples=["amqp://user:password@host:5672/vhost"],
        default=SecretStr("amqp://localhost:5672/"),
        description="amqp:// or amqps:// URL: user, password, host, port and virtual host",
    )
    nodes: list[str] = Field(
        examples=[["rabbit-2:5672", "rabbit-3"]],
        default_factory=list,
        description="Further nodes of the same cluster, tried in turn when one is lost: "
        '"host:port" or "host"; user, virtual host and TLS are those of the URL',
    )
    user: str | None = Field(default=None, description="User name; by default the URL's, or guest")
    password_file: Path | None = Field(
        default=None, description="File with the password, read for each connection; by default the URL's"
    )
    ca_file: Path | None = Field(
        default=None,
        description="CA certificates for the broker's (amqps); by default the system's",
    )
    cert_file: Path | None = Field(default=None, description="Client certificate (amqps)")
    key_file: Path | None = Field(default=None, description="Key of the client certificate")
    heartbeat: int = Field(
        default=60, ge=2, description="Seconds without a sign of life after which a connection counts as lost"
    )
    publish_timeout: float = Field(
        default=20.0,
        gt=0,
        description="Seconds to wait for a message to be confirmed, including reconnections",
    )
    management_url: SecretStr | None = Field(
        examples=["http://host:15672"],
        default=None,
        description="URL of the management HTTP API; by default the broker's host, port 15672 or 15671. "
        "If it does not answer, the hosts of the other nodes are asked, at the same port",
    )

    @field_validator("nodes")
    @classmethod
    def _are_addresses(cls, nodes: list[str]) -> list[str]:
        for node in nodes:
            try:
                parts = urlsplit(f"//{node}")
                # Anything but host and port may be a URL, and thus contain a password.
                well = bool(parts.hostname) and parts.port != 0 and parts.netloc == node and "@" not in node
            except ValueError:
                well = False
            if not well:
                raise ValueError(
                    'not a list of addresses such as ["rabbit-2:5672", "rabbit-3"]; no user, password or '
                    "virtual host, which are the URL's"
                )
        return nodes

    @field_validator("url", "management_url")
    @classmethod
    def _is_a_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        schemes = _PORTS if value.get_secret_value().startswith("amqp") else ("http", "https")
        try:
            parts = urlsplit(value.get_secret_value())
            well = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:
            well = False
        if not well:
            raise ValueError(
                "not a URL such as amqp://user:password@host:5672/vhost (percent-encode '/', '@', ':')"
            )
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.scheme not in _PORTS:
            raise ValueError("DARKS_BROKER_URL must begin with amqp:// or amqps://")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError(
                "a client certificate needs both DARKS_BROKER_CERT_FILE and DARKS_BROKER_KEY_FILE"
            )
        return self

    @property
    def scheme(self) -> str:
        """``amqp`` or ``amqps``."""
        return urlsplit(self.url.get_secret_value()).scheme

    @property
    def host(self) -> str:
        """Host of the broker."""
        return urlsplit(self.url.get_secret_value()).hostname or "localhost"

    @property
    def port(self) -> int:
        """AMQP port of the broker."""
        return urlsplit(self.url.get_secret_value()).port or _PORTS[self.scheme]

    @property
    def vhost(self) -> str:
        """Virtual host; the default one where the URL has no path."""
        return unquote(urlsplit(self.url.get_secret_value()).path[1:]) or "/"

    @property
    def username(self) -> str:
        """Name to log in with."""
        return self.user or unquote(urlsplit(self.url.get_secret_value()).username or "guest")

    @property
    def where(self) -> str:
        """The broker as an error names it, without the password."""
        return f"{self.scheme}://{_in_url(self.host)}:{self.port}"

    @property
    def management(self) -> str:
        """The management HTTP API, without user and password."""
        if self.management_url is not None:
            parts = urlsplit(self.management_url.get_secret_value())
            port = f":{parts.port}" if parts.port else ""
            return f"{parts.scheme}://{_in_url(parts.hostname or '')}{port}{parts.path.rstrip('/')}"
        scheme, port_of_scheme = _MANAGEMENT[self.scheme]
        return f"{scheme}://{_in_url(self.host)}:{port_of_scheme}"

    def each_node(self) -> tuple[Self, ...]:
        """Return these settings for each node of the cluster alone, the URL's first."""
        return (self.model_copy(update={"nodes": []}), *map(self._of_node, self.nodes))

    def _of_node(self, address: str) -> Self:
        def moved(url: SecretStr, netloc: str) -> SecretStr:
            parts = urlsplit(url.get_secret_value())
            user, at, _ = parts.netloc.rpartition("@")
            return SecretStr(urlunsplit(parts._replace(netloc=user + at + netloc)))

        changes: dict[str, Any] = {"nodes": [], "url": moved(self.url, address)}
        if self.management_url is not None:
            port = urlsplit(self.management_url.get_secret_value()).port
            host = _in_url(urlsplit(f"//{address}").hostname or "")
            changes["management_url"] = moved(self.management_url, f"{host}:{port}" if port else host)
        return self.model_copy(update=changes)

    def password(self) -> str:
        """Return the password; its file is read each time, so that the password may change meanwhile.

        Raises
        ------
        EnvironmentFault
            If the file cannot be read.
        """
        if self.password_file is None:
            return unquote(urlsplit(self.url.get_secret_value()).password or "guest")
        try:
            return self.password_file.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise EnvironmentFault(
                f"the broker's password cannot be read from {self.password_file}: {reason}; "
                "mount it there, or correct DARKS_BROKER_PASSWORD_FILE",
                where=self.password_file,
                setting="DARKS_BROKER_PASSWORD_FILE",
            ) from None


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def broker_settings(**given: Any) -> BrokerSettings:
    """Read the settings; what is `given` overrides the environment.

    Raises
    ------
    EnvironmentFault
        If one does not fit; the message names the variable and what it takes, in one line without the value.
    """
    try:
        return BrokerSettings(**given)
    except (SettingsError, ValidationError) as error:
        raise settings_fault(BrokerSettings, error) from None
