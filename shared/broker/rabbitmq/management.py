"""The broker's management HTTP API, as far as the topology needs it."""

import json
import ssl
from base64 import b64encode
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from shared.broker.rabbitmq.connection import Nodes, tls_context
from shared.broker.rabbitmq.settings import BrokerSettings
from shared.errors import EnvironmentFault, TransientError

_TIMEOUT = 15.0


class Management:
    """Requests to the management API of a broker: of the first of its nodes that answers.

    Parameters
    ----------
    settings : BrokerSettings
        User and password are those of the broker, unless the management URL has its own.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._nodes = Nodes(settings)
        self._count = 1 + len(settings.nodes)
        context = tls_context(settings) if settings.management.startswith("https") else None
        # The API stands beside the broker, which no HTTP proxy leads to.
        self._opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))

    def get(self, *path: str) -> Any:
        """Return what lies at `path` (its parts, not yet quoted); None if nothing does."""
        return self._ask("GET", path)

    def put(self, *path: str, body: dict[str, Any]) -> None:
        """Put `body` at `path`."""
        self._ask("PUT", path, body)

    def post(self, *path: str, body: dict[str, Any]) -> None:
        """Post `body` to `path`."""
        self._ask("POST", path, body)

    def delete(self, *path: str) -> None:
        """Delete what lies at `path`, if anything does."""
        self._ask("DELETE", path)

    def _ask(self, method: str, path: tuple[str, ...], body: dict[str, Any] | None = None) -> Any:
        """Return the answer's JSON.

        Raises
        ------
        TransientError
            If no node's API answers, or all fail; each is named.
        EnvironmentFault
            If it refuses: wrong password, no rights, no such virtual host, a bad request.
        """
        faults = []
        for _ in range(self._count):
            try:
                return self._ask_node(self._nodes.current, method, path, body)
            except TransientError as error:
                # Every request here may be made twice: it says how things are to be.
                faults.append(str(error))
                self._nodes.go_on()
        raise TransientError("; ".join(faults))

    def _ask_node(
        self, node: BrokerSettings, method: str, path: tuple[str, ...], body: dict[str, Any] | None
    ) -> Any:
        where = node.management
        request = Request(
            f"{where}/api/" + "/".join(quote(part, safe="") for part in path),
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Basic {_credentials(node)}", "Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as answer:
                text = answer.read()
            return json.loads(text) if text else None
        except HTTPError as error:
            return _refused(error, node, method, path)
        except (URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            fault = "no TLS" if isinstance(reason, ssl.SSLError) else "no answer"
            raise TransientError(
                f"{fault} from the broker's management API at {where}: {' '.join(said.split())[:200]}; "
                "enable the plugin rabbitmq_management, or correct DARKS_BROKER_MANAGEMENT_URL"
            ) from None


def _refused(error: HTTPError, node: BrokerSettings, method: str, path: tuple[str, ...]) -> None:
    where = node.management
    if error.code == 404 and method in ("GET", "DELETE"):
        return
    if error.code in (401, 403):
        raise EnvironmentFault(
            f"the management API at {where} refuses user {node.username!r}: check the password; the user "
            "needs the tag management, and for `topology apply` the tag policymaker"
        ) from None
    detail = " ".join(error.read(1000).decode(errors="replace").split())[:300]
    fault = f"the management API at {where} answered {error.code} to {method} {'/'.join(path)}: {detail}"
    raise (TransientError if error.code >= 500 else EnvironmentFault)(fault) from None


def _credentials(node: BrokerSettings) -> str:
    user, password = node.username, None
    if node.management_url is not None:
        parts = urlsplit(node.management_url.get_secret_value())
        user, password = parts.username or user, parts.password
    return b64encode(f"{user}:{password or node.password()}".encode()).decode()
