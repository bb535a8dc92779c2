"""`nircam-darks status`: its options, its call, its tables."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from nircam_darks.cli.options import AsJson
from nircam_darks.cli.tables import damaged_manifest, print_answer, short_names, titled_table
from nircam_darks.report.text import count, seconds

if TYPE_CHECKING:
    from nircam_darks.operations.status import (
        ConfigurationStatus,
        ProductStatus,
        QueueStatus,
        Status,
        StoreStatus,
    )

_DAY = 86400.0


def status_command(
    last: Annotated[int, typer.Option(min=0, help="Number of most recent products to show.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the queues, what each exposure set is waiting for, and the most recent products.

    DARKS_BROKER_URL and DARKS_STORE name broker and store. Exit code 3 if either does not answer.
    """
    from nircam_darks.operations.status import ask_status
    from nircam_darks.operations.store_access import impatient, open_existing, operator_settings
    from shared.broker.rabbitmq.management import queue_states
    from shared.settings.broker import broker_settings

    settings = operator_settings()
    answer = ask_status(
        lambda: queue_states(broker_settings()), lambda: open_existing(impatient(settings)), settings, last
    )
    print_answer(answer, status_tables(answer), as_json)
    raise typer.Exit(0 if answer.whole else 3)


def status_tables(status: "Status") -> Iterator[RenderableType]:
    """Yield what the terminal shows; a server that does not answer has one line in place of its tables."""
    if status.queues is not None:
        yield _queues(status.queues)
    else:
        yield Text(f"Broker: {status.broker_problem}", style="bold red")
    if status.store is not None:
        yield from _store(status.store)
    else:
        yield Text(f"\nStore: {status.store_problem}", style="bold red")


def _queues(queues: "list[QueueStatus]") -> RenderableType:
    table = titled_table("Queues", "queue", "waiting", "in progress", "consumers")
    for queue in queues:
        style = "red" if queue.kind == "dead" and queue.ready else ""
        # Other queues are not meant to have consumers.
        consumers = str(queue.consumers) if queue.kind == "service" or queue.consumers else ""
        table.add_row(queue.name, str(queue.ready), str(queue.unacked), consumers, style=style)
    return table


def _store(store: "StoreStatus") -> Iterator[RenderableType]:
    head = Text(f"\n{count(store.ingested, 'exposure')} ingested, ")
    head.append(f"{store.rejected} rejected", style="bold red" if store.rejected else "")
    if store.not_needed:
        head.append(f"; {count(len(store.not_needed), 'file')} not needed (--json says which)")
    yield head
    for address in store.damaged:
        yield damaged_manifest(address)
    for note in store.unserved:
        yield Text(f"Not served: {note}", style="yellow")
    slugs = {product.configuration for product in store.last_products if product.configuration is not None}
    names = short_names({configuration.configuration for configuration in store.configurations} | slugs)
    if store.configurations:
        titles = ("configuration", "expected", "ingested", "rejected", "sets", "references")
        table = titled_table("Configurations", *titles)
        for configuration in store.configurations:
            table.add_row(
                names[configuration.configuration],
                "–" if configuration.expected is None else str(configuration.expected),
                str(configuration.ingested),
                str(configuration.rejected),
                str(len(configuration.sets)),
                _references(configuration),
            )
        yield table
    if store.waiting_for_segments:
        table = titled_table("Exposures that wait for segments", "exposure", "missing", "arrived")
        for exposure in store.waiting_for_segments:
            missing = f"{', '.join(map(str, exposure.missing))} of {exposure.total}"
            table.add_row(exposure.exposure_id, Text(missing, style="yellow"), ", ".join(exposure.arrived))
        yield table
    apart = [(names[each.configuration], part) for each in store.configurations for part in each.sets]
    if any(part.calibrated_before for _, part in apart):
        table = titled_table(
            "Sets told apart by their calibration", "configuration", "exposures", "made with"
        )
        for name, part in apart:
            if part.calibrated_before:
                table.add_row(name, str(len(part.exposures)), part.calibrated_before)
        yield table
    waiting = [configuration for configuration in store.configurations if configuration.waits_for]
    if waiting:
        table = titled_table("Incomplete sets", "configuration", "waiting for")
        for configuration in waiting:
            reason = Text(configuration.waits_for or "", style="yellow")
            table.add_row(names[configuration.configuration], reason)
        yield table
    if store.last_products:
        table = titled_table("Most recent products", "age", "product", "subject", "verdict")
        for product in store.last_products:
            of_set = product.kind in ("reference", "set-noise") and product.configuration is not None
            subject = names[product.configuration or ""] if of_set else product.subject
            table.add_row(_age(product.age_seconds), product.kind, subject, _verdict(product))
        yield table


def _verdict(product: "ProductStatus") -> Text:
    if product.kind == "rejection":
        # The reason begins with the name of the file, which the subject already shows.
        reason = product.verdict or ""
        return Text(reason.partition(": ")[2] or reason, style="red")
    return Text(product.short or "", style="red" if product.is_off else "")


def _references(configuration: "ConfigurationStatus") -> str:
    current = sum(reference.superseded_by is None for reference in configuration.references)
    superseded = len(configuration.references) - current
    return f"{current} (+{superseded} superseded)" if superseded else str(current)


def _age(value: float) -> str:
    return f"{value / _DAY:.0f} days" if value >= 2 * _DAY else seconds(max(value, 0.0))
