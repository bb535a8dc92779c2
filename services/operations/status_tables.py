"""The tables of `nircam-darks status`."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from services.operations.status import ConfigurationStatus, ProductStatus, QueueStatus, Status, StoreStatus
from services.report.wording import count, seconds, short_verdict, tone
from services.terminal import short_names, titled_table

_DAY = 86400.0


def status_tables(status: Status) -> Iterator[RenderableType]:
    """Yield what a person at the terminal is told; a server that is away has a line in its place."""
    if status.queues is not None:
        yield _queues(status.queues)
    else:
        yield Text(f"Broker: {status.broker_problem}", style="bold red")
    if status.store is not None:
        yield from _store(status.store)
    else:
        yield Text(f"\nStore: {status.store_problem}", style="bold red")


def _queues(queues: list[QueueStatus]) -> RenderableType:
    table = titled_table("Queues", "queue", "waiting", "in work", "consumers")
    for queue in queues:
        style = "red" if queue.kind == "dead" and queue.ready else ""
        # Nobody consumes from the others, and that is as it should be.
        consumers = str(queue.consumers) if queue.kind == "service" or queue.consumers else ""
        table.add_row(queue.name, str(queue.ready), str(queue.unacked), consumers, style=style)
    return table


def _store(store: StoreStatus) -> Iterator[RenderableType]:
    head = Text(f"\n{count(store.ingested, 'exposure')} ingested, ")
    head.append(f"{store.rejected} rejected", style="bold red" if store.rejected else "")
    yield head
    for address in store.damaged:
        yield Text(f"damaged: {address}; remove the folder it is in, and it is made again", style="red")
    named = {one.configuration for one in store.last_products if one.configuration is not None}
    short = short_names({one.configuration for one in store.configurations} | named)
    if store.configurations:
        table = titled_table(
            "Configurations", "configuration", "came", "rejected", "of", "sets", "references"
        )
        for one in store.configurations:
            table.add_row(
                short[one.configuration],
                str(one.ingested),
                str(one.rejected),
                "–" if one.expected is None else str(one.expected),
                str(len(one.sets)),
                _references(one),
            )
        yield table
    waiting = [one for one in store.configurations if one.waits_for]
    if waiting:
        table = titled_table("Waiting for more", "configuration", "so far")
        for one in waiting:
            table.add_row(short[one.configuration], Text(one.waits_for or "", style="yellow"))
        yield table
    if store.last_products:
        table = titled_table("Last products", "age", "product", "of", "verdict")
        for product in store.last_products:
            of_set = product.kind in ("reference", "set-noise") and product.configuration is not None
            subject = short[product.configuration or ""] if of_set else product.subject
            table.add_row(_age(product.age_seconds), product.kind, subject, _verdict(product))
        yield table


def _verdict(product: ProductStatus) -> Text:
    if product.kind == "rejection":
        # The reason begins with the file's name, which the exposure's stands for.
        reason = product.verdict or ""
        return Text(reason.partition(": ")[2] or reason, style="red")
    verdict = short_verdict(product.verdict or "")
    return Text(verdict, style="red" if tone(verdict) == "off" else "")


def _references(one: ConfigurationStatus) -> str:
    current = sum(reference.superseded_by is None for reference in one.references)
    superseded = len(one.references) - current
    return f"{current} (+{superseded} superseded)" if superseded else str(current)


def _age(value: float) -> str:
    return f"{value / _DAY:.0f} days" if value >= 2 * _DAY else seconds(max(value, 0.0))
