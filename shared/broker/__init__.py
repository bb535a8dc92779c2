"""Brokers: the Protocol, the embedded default, RabbitMQ."""
