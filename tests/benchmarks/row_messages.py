"""Messages through a worker with an empty job and one confirmed follow-up each, against dramatiq."""

import tempfile
from pathlib import Path

from harness import HERE, ROOT, Row, Side, alternate, python, row

COUNT = 1500


def measure(work: Path, runs: int) -> list[Row]:
    """Run both on one broker, each in a virtual host of its own."""
    from shared.broker.rabbitmq.topology import apply
    from support.rabbitmq_node import RabbitNode

    with tempfile.TemporaryDirectory(prefix="bench-rabbit-") as folder:
        node = RabbitNode(Path(folder) / "node")
        try:
            node.start()
            with node.new_vhost() as ours_at, node.new_vhost() as theirs_at:
                apply(node.settings(ours_at))
                url = node.settings(ours_at).url.get_secret_value()
                ours = Side(python("messages_ours.py", url, COUNT, Path(folder) / "store"))
                theirs = Side(
                    [
                        str(ROOT / ".venv-bench" / "bin" / "python"),
                        str(HERE / "messages_dramatiq.py"),
                        str(COUNT),
                        folder,
                    ],
                    {"AMQP_URL": node.settings(theirs_at).url.get_secret_value()},
                )
                alternate(ours, theirs, runs)
        finally:
            node.stop()
    return [
        row(
            "a message through a worker, empty job, RabbitMQ",
            "dramatiq, one process, one confirmed follow-up each",
            "<= 2x",
            ours,
            theirs,
            lambda ratio: ratio <= 2,
            seconds=lambda run: run.said["message"],
            faster=False,
            note="ours with quorum queues, the job in a process of its own, logs and metrics; dramatiq with "
            "a classic queue and the job in a thread",
        )
    ]
