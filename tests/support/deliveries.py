"""What the tests of RabbitMQ's own take from a queue, and how they call it."""

import time
from typing import Any

from shared.broker.base import Delivery
from shared.contracts.messages import parse

SOON = 20.0


def take(consumer: Any, within: float = SOON) -> Delivery:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        delivery = consumer.poll(0.2)
        if delivery is not None:
            return delivery
    raise AssertionError("nothing came")


def name(delivery: Delivery) -> str:
    return parse(delivery.body).content.exposure_id
