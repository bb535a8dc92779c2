"""Opens the broker that the settings name.

A module of its own, because the embedded broker must not import pika, and RabbitMQ's must not import this.
"""

import os
from collections.abc import Mapping

from shared.broker.base import Broker
from shared.broker.memory import MemoryBroker
from shared.errors import EnvironmentFault

#: The URL of a broker inside this process, for trying things out: nobody else can reach it.
EMBEDDED = "memory://"


def open_broker(environment: Mapping[str, str] = os.environ) -> Broker:
    """Return the broker that DARKS_BROKER_URL names; RabbitMQ is not contacted yet.

    Raises
    ------
    EnvironmentFault
        If a DARKS_BROKER_ setting is wrong.
    """
    if environment.get("DARKS_BROKER_URL") == EMBEDDED:
        return MemoryBroker()
    # Imported here because pika takes time to import and is needed for RabbitMQ only.
    from shared.broker.rabbitmq import RabbitBroker

    return RabbitBroker()


def open_services_broker(environment: Mapping[str, str] = os.environ) -> Broker:
    """Return the broker of the services, for a command that publishes to them.

    Raises
    ------
    EnvironmentFault
        If a DARKS_BROKER_ setting is wrong, or names the embedded broker: no service would get the messages.
    """
    if environment.get("DARKS_BROKER_URL") == EMBEDDED:
        raise EnvironmentFault(
            f"DARKS_BROKER_URL={EMBEDDED} is a broker inside this process, where messages to the services "
            "are lost; name the services' broker",
            setting="DARKS_BROKER_URL",
        )
    return open_broker()
