"""From settings to the broker they name."""

import os
from collections.abc import Mapping

from shared.broker.base import Broker
from shared.broker.memory import MemoryBroker

#: A broker of the process's own, for a try: nobody else can reach it.
EMBEDDED = "memory://"


def open_broker(environment: Mapping[str, str] = os.environ) -> Broker:
    """Return the broker that DARKS_BROKER_URL names. RabbitMQ is not yet asked for anything.

    Raises
    ------
    EnvironmentFault
        If a DARKS_BROKER_ setting does not fit.
    """
    if environment.get("DARKS_BROKER_URL") == EMBEDDED:
        return MemoryBroker()
    # pika is not needed without it, and takes time to import.
    from shared.broker.rabbitmq import RabbitBroker

    return RabbitBroker()
