"""RabbitMQ 3.10 to 4.3: the same Protocol as the embedded broker, over pika."""

from shared.broker.rabbitmq.broker import RabbitBroker
from shared.settings.broker import BrokerSettings

__all__ = ["BrokerSettings", "RabbitBroker"]
