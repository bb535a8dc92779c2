"""Three RabbitMQ nodes that form one cluster, each on a loopback address of its own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.broker.rabbitmq import BrokerSettings
from shared.broker.rabbitmq.management import Management
from support.rabbitmq_node import RabbitNode, free_port


class RabbitCluster:
    """Nodes that were joined."""

    def __init__(self, nodes: list[RabbitNode]) -> None:
        self.nodes = nodes

    def settings(self, **others: Any) -> BrokerSettings:
        """Return settings that name every node, the first one in the URL."""
        first, *rest = self.nodes
        return first.settings(nodes=[f"{node.host}:{node.port}" for node in rest], **others)

    def queue(self, name: str) -> dict[str, Any]:
        """Return what a running node says of a queue."""
        return Management(self.settings()).get("queues", "/", name)


@contextlib.contextmanager
def three_nodes(folder: Path) -> Iterator[RabbitCluster]:
    """Start three nodes of this machine's RabbitMQ and join them."""
    # As in a real cluster they differ in their host, not in their ports.
    ports = {"port": free_port(), "management_port": free_port()}
    nodes: list[RabbitNode] = []
    with contextlib.ExitStack() as stack:
        for number in range(3):
            beside = nodes[0] if nodes else None
            node = RabbitNode(folder / str(number), None, f"127.0.0.{number + 1}", beside, **ports)
            stack.callback(node.stop)
            node.start()
            if beside is not None:
                for command in (["stop_app"], ["join_cluster", beside.name], ["start_app"]):
                    node.ctl(*command)
            nodes.append(node)
        yield RabbitCluster(nodes)
