"""RabbitMQ's management API: what defines the topology, and how many messages each queue holds.

The number of ready messages and of consumers comes from a passive ``queue.declare``, which is exact. Only the
management API knows the number of unacked messages; it takes it from its statistics, which are a few seconds
old.
"""

import ssl
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import requests

from shared.broker.rabbitmq.connection import Nodes, Session, tls_context
from shared.broker.rabbitmq.wire import DELAY_STEPS, LONG_DELAY, delay_queue
from shared.contracts.routing import BINDINGS, HELD_QUEUE, dead_letter_queue
from shared.errors import EnvironmentFault, TransientError
from shared.settings.broker import BrokerSettings

_TIMEOUT = 15.0


class Management:
    """Sends requests to the management API of the first node of the broker that answers.

    Parameters
    ----------
    settings : BrokerSettings
        The user and password are the broker's own, unless the management URL has others.

    Raises
    ------
    EnvironmentFault
        If a certificate cannot be read. Every request raises it if the API refuses: wrong password, missing
        rights, no such virtual host, a bad request.
    TransientError
        From every request, if no node's API answers or all of them fail; the message names each.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._nodes = Nodes(settings)
        self._count = 1 + len(settings.nodes)
        self._verify = _authorities(settings)
        self._certificate = (
            (str(settings.cert_file), str(settings.key_file or settings.cert_file))
            if settings.cert_file is not None
            else None
        )
        if settings.management.startswith("https"):
            # Reads the files now, and names the one that cannot be used.
            tls_context(settings)

    def get(self, *path: str) -> Any:
        """Return the JSON at `path`, given as unquoted parts; None if there is nothing."""
        return self._ask("GET", path)

    def put(self, *path: str, body: dict[str, Any]) -> None:
        """Put `body` at `path`."""
        self._ask("PUT", path, body)

    def post(self, *path: str, body: dict[str, Any]) -> None:
        """Post `body` to `path`."""
        self._ask("POST", path, body)

    def delete(self, *path: str) -> None:
        """Delete what is at `path`, if there is anything."""
        self._ask("DELETE", path)

    def _ask(self, method: str, path: tuple[str, ...], body: dict[str, Any] | None = None) -> Any:
        faults = []
        for _ in range(self._count):
            try:
                return self._ask_node(self._nodes.current, method, path, body)
            except TransientError as error:
                # Every request declares a desired state, so repeating it on another node is safe.
                faults.append(error)
                self._nodes.go_on()
        raise TransientError(
            "; ".join(map(str, faults)),
            where=", ".join(fault.where for fault in faults),
            setting="DARKS_BROKER_MANAGEMENT_URL",
        )

    def _ask_node(
        self, node: BrokerSettings, method: str, path: tuple[str, ...], body: dict[str, Any] | None
    ) -> Any:
        url = f"{node.management}/api/" + "/".join(quote(part, safe="") for part in path)
        credentials = _credentials(node)
        try:
            with requests.Session() as session:
                # The API runs beside the broker: no HTTP proxy leads to it, and no .netrc knows it.
                session.trust_env = False
                answer = session.request(
                    method,
                    url,
                    json=body,
                    auth=credentials,
                    timeout=_TIMEOUT,
                    verify=self._verify,
                    cert=self._certificate,
                )
            if answer.ok:
                return answer.json() if answer.content else None
        except requests.RequestException as error:
            raise _no_answer(error, node) from None
        return _refused(answer, node, method, path)


def _authorities(settings: BrokerSettings) -> str | bool:
    """Return the certificates to trust: the configured ones, else the system's, as the broker's port does."""
    system = ssl.get_default_verify_paths()
    return str(settings.ca_file or system.cafile or system.capath or "") or True


def _no_answer(error: requests.RequestException, node: BrokerSettings) -> TransientError:
    cause = _innermost(error)
    reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    fault = "no TLS" if isinstance(error, requests.exceptions.SSLError) else "no answer"
    return TransientError(
        f"{fault} from the broker's management API at {node.management}: {' '.join(reason.split())[:200]}; "
        "enable the plugin rabbitmq_management, or correct DARKS_BROKER_MANAGEMENT_URL",
        where=node.management,
        setting="DARKS_BROKER_MANAGEMENT_URL",
    )


def _innermost(error: BaseException) -> BaseException:
    """Return the error that requests and urllib3 wrapped."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error


#: RabbitMQ's supervisor of the processes that dead-letter at least once, as its errors name it.
_DEAD_LETTER_WORKERS = "rabbit_fifo_dlx_sup"


def _refused(answer: requests.Response, node: BrokerSettings, method: str, path: tuple[str, ...]) -> None:
    where, status = node.management, answer.status_code
    if status == requests.codes.not_found and method in ("GET", "DELETE"):
        return
    if status in (requests.codes.unauthorized, requests.codes.forbidden):
        raise EnvironmentFault(
            f"the management API at {where} refuses user {node.username!r}: check the password; the user "
            "needs the tag management, and for `topology apply` the tag policymaker",
            where=where,
        )
    detail = " ".join(answer.text[:1000].split())[:300]
    fault = f"the management API at {where} answered {status} to {method} {'/'.join(path)}: {detail}"
    if _DEAD_LETTER_WORKERS in answer.text and "noproc" in answer.text:
        fault = (
            f"the node at {where} has lost the supervisor of its dead-letter workers, without which no queue "
            "of ours can be declared (rabbitmq-server issue 16652): on that node, run `rabbitmqctl eval "
            f"'supervisor:restart_child(rabbit_sup, {_DEAD_LETTER_WORKERS}).'`, or restart the node"
        )
    raise (TransientError if status >= requests.codes.server_error else EnvironmentFault)(fault, where=where)


def _credentials(node: BrokerSettings) -> tuple[bytes, bytes]:
    user, password = node.username, None
    if node.management_url is not None:
        parts = urlsplit(node.management_url.get_secret_value())
        user, password = parts.username or user, parts.password
    # As bytes: requests would encode text as Latin-1.
    return user.encode(), (password or node.password()).encode()


Kind = Literal["service", "dead", "delay", "held"]

#: Age in s that statistics may have: by default a queue reports every 5 s, and reports are sampled every 5 s.
STATISTICS_SECONDS = 10.0


@dataclass(frozen=True)
class QueueState:
    """How many messages a queue holds, and how many consumers are attached to it.

    Attributes
    ----------
    name : str
    kind : str
        ``service``, ``dead`` (a dead-letter queue), ``delay`` (its messages wait until they are due)
        or ``held`` (announcements that `nircam-darks drain` holds back).
    ready : int
        Messages waiting; exact.
    unacked : int
        Messages delivered to a consumer and not yet acked; up to `STATISTICS_SECONDS` old.
    consumers : int
        Attached consumers; exact.
    """

    name: str
    kind: Kind
    ready: int
    unacked: int
    consumers: int


class QueueReader(AbstractContextManager["QueueReader", None]):
    """Reads the states of all queues, as often as asked, over one connection.

    Parameters
    ----------
    settings : BrokerSettings

    Raises
    ------
    TransientError
        If the broker or its management API cannot be reached, now or by a later call.
    EnvironmentFault
        If one of them refuses, or a queue does not exist.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._vhost = settings.vhost
        self._api = Management(settings)
        self._session = Session(settings, "read queues")

    def states(self) -> list[QueueState]:
        """Return the state of every queue: services, dead letters, delays, and held announcements."""
        # The statistics first: they are the older figure in any case.
        unacked = {
            each["name"]: int(each.get("messages_unacknowledged") or 0)
            for each in self._api.get("queues", self._vhost) or []
        }
        return [self._state(name, kind, unacked.get(name, 0)) for name, kind in _kinds().items()]

    def rest(self, seconds: float) -> None:
        """Wait, answering the broker's heartbeats meanwhile."""
        self._session.rest(seconds)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _state(self, name: str, kind: Kind, unacked: int) -> QueueState:
        answer = self._session.ask("queue_declare", name, passive=True).method
        return QueueState(name, kind, int(answer.message_count), unacked, int(answer.consumer_count))


def queue_states(settings: BrokerSettings) -> list[QueueState]:
    """Return the state of every queue of `shared.broker.rabbitmq.topology`, once.

    Raises
    ------
    TransientError
        If the broker or its management API cannot be reached.
    EnvironmentFault
        If one of them refuses, or a queue does not exist.
    """
    with QueueReader(settings) as reader:
        return reader.states()


def _kinds() -> dict[str, Kind]:
    kinds: dict[str, Kind] = dict.fromkeys(BINDINGS, "service")
    kinds |= dict.fromkeys(map(dead_letter_queue, BINDINGS), "dead")
    kinds |= {delay_queue(str(step)): "delay" for step in (*DELAY_STEPS, LONG_DELAY)}
    kinds[HELD_QUEUE] = "held"
    return kinds
