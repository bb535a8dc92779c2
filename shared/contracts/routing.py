"""The stages of the pipeline, and how their messages are routed.

`STAGES` is the one list of services. Queues, bindings, handlers, product folders and the progress bars are
made from it; a test holds to it the files that have to spell the names out: the Dockerfile's targets,
compose, Kubernetes, Prometheus' rules, and the rights at the broker and the bucket.
"""

from dataclasses import dataclass

EXCHANGE = "darks"

#: Attempts of one message before it is dead-lettered.
DELIVERY_LIMIT = 5


@dataclass(frozen=True)
class Stage:
    """One service of the pipeline.

    Attributes
    ----------
    name : str
        Of the service, its package in ``services``, its queue and its image ``nircam-darks-<name>``.
    title : str
        What it makes, for people.
    receives : tuple of str
        Routing keys bound to its queue.
    sends : tuple of str
        Routing keys that it publishes.
    """

    name: str
    title: str
    receives: tuple[str, ...]
    sends: tuple[str, ...]

    @property
    def handler(self) -> str:
        """The stage's entry point, ``"package.module:function"``, loaded by the job's process alone."""
        return f"services.{self.name}.handler:handle"

    @property
    def products(self) -> str:
        """Prefix of the keys of its products in the store."""
        return f"{self.name}/"


#: In the order of the data. `exposure.announced` comes from outside.
STAGES = (
    Stage(
        "ingest",
        "ingest",
        receives=("exposure.announced", "set.check"),
        sends=("exposure.ingested", "exposure.rejected", "set.check", "set.ready"),
    ),
    Stage("darkref", "dark references", receives=("set.ready",), sends=("reference.built",)),
    Stage("noise", "noise", receives=("exposure.ingested", "set.ready"), sends=("noise.measured",)),
)

#: Queue (one per service) -> the routing keys bound to it.
BINDINGS: dict[str, tuple[str, ...]] = {stage.name: stage.receives for stage in STAGES}
#: Service -> the routing keys that it publishes.
SENDS: dict[str, tuple[str, ...]] = {stage.name: stage.sends for stage in STAGES}
#: Service -> its entry point.
STAGE_HANDLERS: dict[str, str] = {stage.name: stage.handler for stage in STAGES}
#: Prefix of the product keys of each service.
PRODUCT_FOLDERS: tuple[str, ...] = tuple(stage.products for stage in STAGES)

#: Published for whoever listens (operators, the archive); an unroutable one is no failure.
INFORMATIONAL = frozenset(
    {key for keys in SENDS.values() for key in keys} - {key for keys in BINDINGS.values() for key in keys}
)

#: While services are drained, messages under this key wait in a queue of their own.
HELD_KEY = "exposure.announced"
HELD_QUEUE = "ingest.held"
#: The queue that they are held from, and return to.
HELD_FROM = "ingest"


def dead_letter_queue(queue: str) -> str:
    """Return the name of the dead-letter queue beside `queue`."""
    return f"{queue}.dead"
