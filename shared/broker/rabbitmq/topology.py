"""The broker's topology: exchanges, queues, bindings and policies as `shared.contracts.routing` has them.

`apply` brings a broker's topology in line. Limits are set by policies, because the arguments of a queue can
never be changed. `apply` touches nothing that belongs to others, such as a queue that the archive binds to
our exchange. Nor does it end a hold: a new version may be rolled out, and its topology applied, while
announcements are held.

`Hold` is what `nircam-darks drain` does: it holds announcements back in a queue of their own, and lets them
in again. A published message always finds a queue, because the new binding is made before the old one is
removed. For a moment a message may go to both; handlers do nothing twice.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from shared.broker.rabbitmq import wire
from shared.broker.rabbitmq.connection import Session
from shared.broker.rabbitmq.management import Management
from shared.broker.rabbitmq.publisher import Publisher
from shared.broker.rabbitmq.wire import (
    DELAY_EXCHANGE,
    DELAY_STEPS,
    LONG_DELAY,
    RETURN_EXCHANGE,
    delay_queue,
)
from shared.contracts.routing import (
    BINDINGS,
    DELIVERY_LIMIT,
    EXCHANGE,
    HELD_FROM,
    HELD_KEY,
    HELD_QUEUE,
    dead_letter_queue,
)
from shared.errors import EnvironmentFault
from shared.settings.broker import BrokerSettings

_EXCHANGES = (EXCHANGE, DELAY_EXCHANGE, RETURN_EXCHANGE)
_STEPS = (*(str(step) for step in DELAY_STEPS), LONG_DELAY)
_PRIORITY = 10
# From RabbitMQ 4.0 on a quorum queue without a delivery limit has one of 20, so that a message that was
# looked at too often would be lost.
_NO_LIMIT = 1_000_000_000
#: Seconds within which a message arrives that was under way to a queue when its binding was removed.
_IN_FLIGHT = 0.5


@dataclass(frozen=True)
class TopologyChange:
    """A difference between the topology as it is and as it should be, and what is to be done about it.

    Attributes
    ----------
    action : str
        ``create``, ``change`` or ``remove``; ``conflict`` if only its owner can resolve it; ``leave`` if it
        differs on purpose.
    what : str
        Kind, name and difference, for a person.
    """

    action: Literal["create", "change", "remove", "conflict", "leave"]
    what: str

    def __str__(self) -> str:
        return f"{self.action} {self.what}"


_Step = tuple[TopologyChange, Callable[[], None]]


def apply(settings: BrokerSettings, dry_run: bool = False) -> list[TopologyChange]:
    """Bring the broker's topology in line; a second call finds nothing to do but ``leave``.

    Parameters
    ----------
    settings : BrokerSettings
    dry_run : bool
        Whether to return the changes without making them.

    Returns
    -------
    list of TopologyChange
        In the order in which they were made.

    Raises
    ------
    EnvironmentFault
        If the virtual host does not exist, the user lacks rights, or (unless `dry_run`) something in the way
        must first be removed by its owner. Nothing is changed then.
    TransientError
        If the management API does not answer.
    """
    api = Management(settings)
    vhost = settings.vhost
    # The list shows each user its own virtual hosts; only administrators may ask for a single one.
    if vhost not in {each["name"] for each in api.get("vhosts") or []}:
        raise EnvironmentFault(
            f"the broker at {settings.where} has no virtual host {vhost!r}; create it "
            f"(`rabbitmqctl add_vhost {vhost}`), or correct DARKS_BROKER_URL",
            where=settings.where,
            setting="DARKS_BROKER_URL",
        )
    # Policies come first, so that a queue has its limits from its first message on.
    steps = [*_policies(api, vhost), *_exchanges(api, vhost), *_queues(api, vhost), *_bindings(api, vhost)]
    conflicts = [str(difference) for difference, _ in steps if difference.action == "conflict"]
    if dry_run:
        return [difference for difference, _ in steps]
    if conflicts:
        raise EnvironmentFault(
            f"nothing was changed at {settings.where}: {'; '.join(conflicts)}", where=settings.where
        )
    for _, mend in steps:
        mend()
    return [difference for difference, _ in steps]


def policies() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the policies that queues must have: name -> (pattern, definition)."""
    kept = {"dead-letter-strategy": "at-least-once", "overflow": "reject-publish"}
    wanted: dict[str, tuple[str, dict[str, Any]]] = {}
    for queue in BINDINGS:
        dead = dead_letter_queue(queue)
        # The broker dead-letters a message when it returns for the time after the limit: a limit of one less
        # makes DELIVERY_LIMIT deliveries.
        limit = {"delivery-limit": DELIVERY_LIMIT - 1}
        route = {"dead-letter-exchange": "", "dead-letter-routing-key": dead}
        wanted[f"{EXCHANGE}-{queue}"] = (f"^{re.escape(queue)}$", limit | route | kept)
        wanted[f"{EXCHANGE}-{dead}"] = (f"^{re.escape(dead)}$", {"delivery-limit": _NO_LIMIT})
        if queue == HELD_FROM:
            # Announcements may have been published with an expiration; those that expire become dead letters.
            held = {"delivery-limit": _NO_LIMIT} | route | kept
            wanted[f"{EXCHANGE}-{HELD_QUEUE}"] = (f"^{re.escape(HELD_QUEUE)}$", held)
    wanted[DELAY_EXCHANGE] = (
        f"^{re.escape(DELAY_EXCHANGE)}\\.",
        {"dead-letter-exchange": RETURN_EXCHANGE, "delivery-limit": _NO_LIMIT} | kept,
    )
    return wanted


def bindings() -> set[tuple[str, str, str]]:
    """Return the bindings that must exist, as (exchange, routing key, queue)."""
    wanted = {(EXCHANGE, key, queue) for queue, keys in BINDINGS.items() for key in keys}
    wanted |= {(RETURN_EXCHANGE, f"*.{queue}", queue) for queue in BINDINGS}
    return wanted | {(DELAY_EXCHANGE, f"{step}.*", delay_queue(step)) for step in _STEPS}


def queues() -> list[str]:
    """Return the names of the queues that must exist."""
    return [*BINDINGS, *map(dead_letter_queue, BINDINGS), *map(delay_queue, _STEPS), HELD_QUEUE]


def _policies(api: Management, vhost: str) -> Iterator[_Step]:
    existing = {policy["name"]: policy for policy in api.get("policies", vhost) or []}
    wanted = policies()
    for name, (pattern, definition) in wanted.items():
        body = {"pattern": pattern, "definition": definition, "priority": _PRIORITY, "apply-to": "queues"}
        current = existing.get(name)
        if current is None or any(current.get(key) != value for key, value in body.items()):
            action: Literal["create", "change"] = "create" if current is None else "change"
            what = f"policy {name} of {pattern}: {_listed(definition)}"
            if current is not None:
                what += f" (now {current['pattern']}: {_listed(current['definition'])})"
            yield TopologyChange(action, what), _call(api.put, "policies", vhost, name, body=body)
    for name, policy in existing.items():
        if name in wanted or policy["apply-to"] in ("exchanges", "classic_queues", "streams"):
            continue
        hidden = [queue for queue in queues() if _matches(policy["pattern"], queue)]
        if hidden and policy["priority"] >= _PRIORITY:
            yield _conflict(
                f"policy {name} (priority {policy['priority']}) would hide ours on {', '.join(hidden)}: "
                f"give it a priority below {_PRIORITY}, or another pattern"
            )


def _exchanges(api: Management, vhost: str) -> Iterator[_Step]:
    wanted = {"type": "topic", "durable": True, "auto_delete": False, "internal": False}
    for name in _EXCHANGES:
        current = api.get("exchanges", vhost, name)
        if current is None:
            yield (
                TopologyChange("create", f"exchange {name} (topic, durable)"),
                _call(api.put, "exchanges", vhost, name, body=wanted | {"arguments": {}}),
            )
        elif any(current[property] != value for property, value in wanted.items()):
            yield _conflict(f"exchange {name} exists as {current['type']}, not as a durable topic: delete it")


def _queues(api: Management, vhost: str) -> Iterator[_Step]:
    for name in queues():
        current = api.get("queues", vhost, name)
        if current is None:
            body = {"durable": True, "auto_delete": False, "arguments": {"x-queue-type": "quorum"}}
            yield (
                TopologyChange("create", f"queue {name} (quorum)"),
                _call(api.put, "queues", vhost, name, body=body),
            )
        elif (current.get("arguments") or {}) != {"x-queue-type": "quorum"}:
            yield _conflict(
                f"queue {name} exists with arguments {_listed(current.get('arguments') or {})}, which cannot "
                "be changed: drain it and delete it"
            )


def _bindings(api: Management, vhost: str) -> Iterator[_Step]:
    ours = set(queues())
    existing = {
        (each["source"], each["routing_key"], each["destination"]): each["properties_key"]
        for each in api.get("bindings", vhost) or []
        if each["source"] in _EXCHANGES
        and each["destination_type"] == "queue"
        and each["destination"] in ours
        and not each.get("arguments")
    }
    wanted = bindings()
    held, let_in = (EXCHANGE, HELD_KEY, HELD_QUEUE), (EXCHANGE, HELD_KEY, HELD_FROM)
    if held in existing:
        # A drain that was interrupted may have left both.
        wanted = (wanted - {let_in}) | {held} | ({let_in} & existing.keys())
        yield (
            TopologyChange(
                "leave",
                f"binding {EXCHANGE} --{HELD_KEY}--> {HELD_QUEUE}: announcements are held, "
                "`nircam-darks drain --resume` lets them in",
            ),
            lambda: None,
        )
    for exchange, key, queue in sorted(wanted - existing.keys()):
        yield (
            TopologyChange("create", f"binding {exchange} --{key}--> {queue}"),
            _call(
                api.post,
                "bindings",
                vhost,
                "e",
                exchange,
                "q",
                queue,
                body={"routing_key": key, "arguments": {}},
            ),
        )
    for exchange, key, queue in sorted(existing.keys() - wanted):
        properties = existing[exchange, key, queue]
        yield (
            TopologyChange("remove", f"binding {exchange} --{key}--> {queue}"),
            _call(api.delete, "bindings", vhost, "e", exchange, "q", queue, properties),
        )


def _conflict(what: str) -> _Step:
    return TopologyChange("conflict", what), lambda: None


def _call(method: Callable[..., None], *path: str, **body: Any) -> Callable[[], None]:
    return lambda: method(*path, **body)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items())) or "none"


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        # Erlang's patterns know a little more than Python's; what cannot be read here is taken not to match.
        return False


class Hold(AbstractContextManager["Hold", None]):
    """Holds announcements back, or lets them through to their service.

    Every method may be called again, even after a crash in the middle of it.

    Parameters
    ----------
    settings : BrokerSettings

    Raises
    ------
    TransientError
        If the broker cannot be reached, now or later.
    EnvironmentFault
        If the broker refuses, or the topology has not been applied.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._session = Session(settings, "hold announcements")
        self._publisher = Publisher(settings)

    def hold(self) -> None:
        """Make announcements wait in the held queue from now on."""
        self._session.ask("queue_bind", HELD_QUEUE, EXCHANGE, HELD_KEY)
        self._session.ask("queue_unbind", HELD_FROM, EXCHANGE, HELD_KEY)

    def release(self) -> int:
        """Let new announcements through again, then those that were held; return the number of the latter.

        Each is published as a confirmed copy before it leaves the held queue.

        Raises
        ------
        PublishFailed
            If a copy was not confirmed; that message and those behind it stay held.
        """
        self._session.ask("queue_bind", HELD_FROM, EXCHANGE, HELD_KEY)
        self._session.ask("queue_unbind", HELD_QUEUE, EXCHANGE, HELD_KEY)
        moved = 0
        for _ in range(2):
            while self._move_one():
                moved += 1
            self._session.rest(_IN_FLIGHT)
        return moved

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._publisher.close()
        self._session.close()

    def _move_one(self) -> bool:
        method, properties, body = self._session.ask("basic_get", HELD_QUEUE)
        if method is None:
            return False
        self._publisher.publish(wire.reset(HELD_FROM, HELD_KEY, body, properties))
        self._session.ask("basic_ack", method.delivery_tag)
        return True
