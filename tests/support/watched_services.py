"""The services at work, and the Prometheus that watches them."""

import json
from dataclasses import dataclass

import pika

from shared.broker.rabbitmq.connection import parameters
from shared.contracts.messages import Envelope
from shared.contracts.routing import EXCHANGE, dead_letter_queue
from shared.runtime.metric_names import METRICS
from support.deployed_services import Deployment, Service
from support.prometheus_server import Prometheus


@dataclass
class Watched:
    """A deployment that did some work, and the Prometheus that saw it.

    Attributes
    ----------
    to_come : Envelope
        The announcement, not yet published, of the exposure that completes the set that waits.
    """

    here: Deployment
    prometheus: Prometheus
    to_come: Envelope

    def service(self, name: str) -> Service:
        return next(service for service in self.here.services if service.name == name)

    def look_at_services(self) -> None:
        """Tell Prometheus where the services listen now: after each start at another port."""
        targets = [
            (f"127.0.0.1:{http_port(service)}", {"service": service.name}) for service in self.here.services
        ]
        self.prometheus.watch("darks", *targets)

    def announce_nonsense(self) -> None:
        """Publish a body that no service can read: a dead letter, at once."""
        with pika.BlockingConnection(parameters(self.here.broker.settings, "nonsense")) as connection:
            connection.channel().basic_publish(EXCHANGE, "exposure.announced", b"not JSON")

    def throw_dead_letters_away(self) -> None:
        with pika.BlockingConnection(parameters(self.here.broker.settings, "tidy")) as connection:
            connection.channel().queue_purge(dead_letter_queue("ingest"))


def http_port(service: Service) -> int:
    """Return the port that a service said it listens on when it was last started; 0 if it has not yet."""
    *lines, _ = service.log.read_text().split("\n")
    output = [json.loads(line) for line in lines]
    return next((line["port"] for line in reversed(output) if line["event"].startswith("serving /live")), 0)


def sample_names() -> list[str]:
    """Return the name of one sample of every metric that is documented."""
    return [f"{metric.name}_bucket" if metric.kind == "histogram" else metric.name for metric in METRICS]
