"""Make the broker's exchanges, queues, bindings and policies those of `shared.topology`.

Limits are policies, for the arguments of a queue can never be changed. Nothing of anybody else's is
touched: a queue that the archive binds to our exchange stays. Nor is a hold of `nircam-darks drain`
ended: a version may be rolled out, its topology applied, while announcements are held.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from shared.broker.rabbitmq.management import Management
from shared.broker.rabbitmq.settings import BrokerSettings
from shared.broker.rabbitmq.wire import (
    DELAY_EXCHANGE,
    DELAY_STEPS,
    LONG_DELAY,
    RETURN_EXCHANGE,
    delay_queue,
)
from shared.errors import EnvironmentFault
from shared.topology import (
    BINDINGS,
    DELIVERY_LIMIT,
    EXCHANGE,
    HELD_FROM,
    HELD_KEY,
    HELD_QUEUE,
    dead_letter_queue,
)

_EXCHANGES = (EXCHANGE, DELAY_EXCHANGE, RETURN_EXCHANGE)
_STEPS = (*(str(step) for step in DELAY_STEPS), LONG_DELAY)
_PRIORITY = 10
# From RabbitMQ 4.0 a quorum queue without a limit has one of 20, past which a message that was looked
# at too often would be gone.
_NO_LIMIT = 1_000_000_000


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it should be.

    Attributes
    ----------
    action : str
        ``create``, ``change`` or ``remove``; ``conflict`` where only its owner can decide; ``leave`` for
        what is otherwise on purpose.
    what : str
        For a person: kind, name, and how it differs.
    """

    action: Literal["create", "change", "remove", "conflict", "leave"]
    what: str

    def __str__(self) -> str:
        return f"{self.action} {self.what}"


_Step = tuple[Difference, Callable[[], None]]


def apply(settings: BrokerSettings, dry_run: bool = False) -> list[Difference]:
    """Bring the broker's topology in order; a second call finds nothing to do but ``leave``.

    Parameters
    ----------
    dry_run : bool
        Only say what would be done.

    Returns
    -------
    differences : list of Difference
        As they were found, in the order of their mending.

    Raises
    ------
    EnvironmentFault
        If the virtual host is not there, the user lacks rights, or (not with `dry_run`) something in
        the way has to be removed by its owner first. Nothing is changed then.
    TransientError
        If the management API does not answer.
    """
    api = Management(settings)
    vhost = settings.vhost
    # The list shows each user its own; a single one is for administrators only.
    if vhost not in {each["name"] for each in api.get("vhosts") or []}:
        raise EnvironmentFault(
            f"the broker at {settings.where} has no virtual host {vhost!r}; create it "
            f"(`rabbitmqctl add_vhost {vhost}`), or correct DARKS_BROKER_URL"
        )
    # Policies first, so that a queue has its limits from its first message on.
    steps = [*_policies(api, vhost), *_exchanges(api, vhost), *_queues(api, vhost), *_bindings(api, vhost)]
    conflicts = [str(difference) for difference, _ in steps if difference.action == "conflict"]
    if dry_run:
        return [difference for difference, _ in steps]
    if conflicts:
        raise EnvironmentFault(f"nothing was changed at {settings.where}: {'; '.join(conflicts)}")
    for _, mend in steps:
        mend()
    return [difference for difference, _ in steps]


def policies() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return what the queues' policies must be: by name, the pattern and the definition."""
    kept = {"dead-letter-strategy": "at-least-once", "overflow": "reject-publish"}
    wanted: dict[str, tuple[str, dict[str, Any]]] = {}
    for queue in BINDINGS:
        dead = dead_letter_queue(queue)
        # The broker dead-letters at the return after its limit: one less makes DELIVERY_LIMIT deliveries.
        limit = {"delivery-limit": DELIVERY_LIMIT - 1}
        route = {"dead-letter-exchange": "", "dead-letter-routing-key": dead}
        wanted[f"{EXCHANGE}-{queue}"] = (f"^{re.escape(queue)}$", limit | route | kept)
        wanted[f"{EXCHANGE}-{dead}"] = (f"^{re.escape(dead)}$", {"delivery-limit": _NO_LIMIT})
        if queue == HELD_FROM:
            # Announcements may have been published with an expiration.
            held = {"delivery-limit": _NO_LIMIT} | route | kept
            wanted[f"{EXCHANGE}-{HELD_QUEUE}"] = (f"^{re.escape(HELD_QUEUE)}$", held)
    wanted[DELAY_EXCHANGE] = (
        f"^{re.escape(DELAY_EXCHANGE)}\\.",
        {"dead-letter-exchange": RETURN_EXCHANGE, "delivery-limit": _NO_LIMIT} | kept,
    )
    return wanted


def bindings() -> set[tuple[str, str, str]]:
    """Return the bindings that must be: (exchange, routing key, queue)."""
    wanted = {(EXCHANGE, key, queue) for queue, keys in BINDINGS.items() for key in keys}
    wanted |= {(RETURN_EXCHANGE, f"*.{queue}", queue) for queue in BINDINGS}
    return wanted | {(DELAY_EXCHANGE, f"{step}.*", delay_queue(step)) for step in _STEPS}


def queues() -> list[str]:
    """Return the queues that must be."""
    return [*BINDINGS, *map(dead_letter_queue, BINDINGS), *map(delay_queue, _STEPS), HELD_QUEUE]


def _policies(api: Management, vhost: str) -> Iterator[_Step]:
    standing = {policy["name"]: policy for policy in api.get("policies", vhost) or []}
    wanted = policies()
    for name, (pattern, definition) in wanted.items():
        body = {"pattern": pattern, "definition": definition, "priority": _PRIORITY, "apply-to": "queues"}
        there = standing.get(name)
        if there is None or any(there.get(key) != value for key, value in body.items()):
            action: Literal["create", "change"] = "create" if there is None else "change"
            what = f"policy {name} of {pattern}: {_said(definition)}"
            if there is not None:
                what += f" (now {there['pattern']}: {_said(there['definition'])})"
            yield Difference(action, what), _call(api.put, "policies", vhost, name, body=body)
    for name, policy in standing.items():
        if name in wanted or policy["apply-to"] in ("exchanges", "classic_queues", "streams"):
            continue
        hidden = [queue for queue in queues() if _matches(policy["pattern"], queue)]
        if hidden and policy["priority"] >= _PRIORITY:
            yield _conflict(
                f"policy {name} (priority {policy['priority']}) would hide ours on {', '.join(hidden)}: "
                f"give it a priority below {_PRIORITY}, or another pattern"
            )


def _exchanges(api: Management, vhost: str) -> Iterator[_Step]:
    for name in _EXCHANGES:
        there = api.get("exchanges", vhost, name)
        if there is None:
            body = {
                "type": "topic",
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            yield (
                Difference("create", f"exchange {name} (topic, durable)"),
                _call(api.put, "exchanges", vhost, name, body=body),
            )
        elif there["type"] != "topic" or not there["durable"] or there["auto_delete"] or there["internal"]:
            yield _conflict(f"exchange {name} is there as {there['type']}, not as a durable topic: delete it")


def _queues(api: Management, vhost: str) -> Iterator[_Step]:
    for name in queues():
        there = api.get("queues", vhost, name)
        if there is None:
            body = {"durable": True, "auto_delete": False, "arguments": {"x-queue-type": "quorum"}}
            yield (
                Difference("create", f"queue {name} (quorum)"),
                _call(api.put, "queues", vhost, name, body=body),
            )
        elif (there.get("arguments") or {}) != {"x-queue-type": "quorum"}:
            yield _conflict(
                f"queue {name} is there with arguments {_said(there.get('arguments') or {})}, which cannot "
                "be changed: drain it and delete it"
            )


def _bindings(api: Management, vhost: str) -> Iterator[_Step]:
    ours = set(queues())
    standing = {
        (each["source"], each["routing_key"], each["destination"]): each["properties_key"]
        for each in api.get("bindings", vhost) or []
        if each["source"] in _EXCHANGES
        and each["destination_type"] == "queue"
        and each["destination"] in ours
        and not each.get("arguments")
    }
    wanted = bindings()
    held, let_in = (EXCHANGE, HELD_KEY, HELD_QUEUE), (EXCHANGE, HELD_KEY, HELD_FROM)
    if held in standing:
        # A drain that was cut short may have left both.
        wanted = (wanted - {let_in}) | {held} | ({let_in} & standing.keys())
        yield (
            Difference(
                "leave",
                f"binding {EXCHANGE} --{HELD_KEY}--> {HELD_QUEUE}: announcements are held, "
                "`nircam-darks drain --resume` lets them in",
            ),
            lambda: None,
        )
    for exchange, key, queue in sorted(wanted - standing.keys()):
        yield (
            Difference("create", f"binding {exchange} --{key}--> {queue}"),
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
    for exchange, key, queue in sorted(standing.keys() - wanted):
        properties = standing[exchange, key, queue]
        yield (
            Difference("remove", f"binding {exchange} --{key}--> {queue}"),
            _call(api.delete, "bindings", vhost, "e", exchange, "q", queue, properties),
        )


def _conflict(what: str) -> _Step:
    return Difference("conflict", what), lambda: None


def _call(method: Callable[..., None], *path: str, **body: Any) -> Callable[[], None]:
    return lambda: method(*path, **body)


def _said(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items())) or "none"


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        # Erlang's patterns know a little more; what cannot be read here cannot be judged either.
        return False
