"""Exchange, queues and bindings, in one place for every broker.

``exposure.rejected``, ``reference.built`` and ``noise.measured`` are for whoever listens (ops, the
archive): no service consumes them, and they may be unroutable.
"""

EXCHANGE = "darks"

#: Queue (one a service) -> the routing keys bound to it.
BINDINGS: dict[str, tuple[str, ...]] = {
    "ingest": ("exposure.announced", "set.check"),
    "darkref": ("set.ready",),
    "noise": ("exposure.ingested", "set.ready"),
}

#: Service -> what it publishes. `exposure.announced` comes from outside.
SENDS: dict[str, tuple[str, ...]] = {
    "ingest": ("exposure.ingested", "exposure.rejected", "set.check", "set.ready"),
    "darkref": ("reference.built",),
    "noise": ("noise.measured",),
}

#: Published for whoever listens; an unroutable one is no failure.
INFORMATIONAL = frozenset({"exposure.rejected", "reference.built", "noise.measured"})

#: While services are drained, messages under this key wait in a queue of their own.
HELD_KEY = "exposure.announced"
HELD_QUEUE = "ingest.held"
#: The queue that they are held from, and come back to.
HELD_FROM = "ingest"

#: Attempts of one message before it is dead-lettered.
DELIVERY_LIMIT = 5


def dead_letter_queue(queue: str) -> str:
    """Return the name of the dead-letter queue beside `queue`."""
    return f"{queue}.dead"
