"""Mutated messages in this process: each is refused as a `BadMessage`, or is a message that can be served."""

import pickle
from collections import Counter
from itertools import islice
from pathlib import Path

import pika
import pytest

from services.ingest.handler import handle
from shared.broker.rabbitmq.wire import dead, properties_of
from shared.contracts.messages import Envelope, parse
from shared.contracts.s3_events import announcements
from shared.errors import BadMessage, DarksError
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.fuzz_limits import SEED, first_input, inputs, time_limit
from support.fuzz_messages import mutated_messages

SECONDS = 5.0


def read(body: bytes) -> list[Envelope]:
    """Read a body as ingest's worker does."""
    foreign = announcements(body, "*")
    return [parse(body)] if foreign is None else foreign


def carry(message: Envelope) -> None:
    """Do with a message what a worker and its broker do."""
    assert parse(message.encode()) == message
    pickle.loads(pickle.dumps(message))
    properties_of(message).encode()


def require_to_travel(reason: str) -> None:
    """Require that a reason is short, and fit for the header of a dead letter."""
    assert len(reason) < 1000
    letter = dead("ingest", "exposure.announced", b"", pika.BasicProperties(), 1, reason)
    letter.properties.encode()


@pytest.mark.timeout(0)
def test_a_mutated_message_is_refused_or_can_be_served(tmp_path: Path) -> None:
    # Given ingest with an empty store, and messages that were mutated
    settings = StageSettings(store=tmp_path / "store", allowed_sources=[(tmp_path / "in").as_uri()])
    context = StageContext(LocalStore(tmp_path / "store"), settings, lambda done, total, what: None)
    ends: Counter[str] = Counter()
    for body in islice(mutated_messages(SEED, inputs(1000)), first_input(), None):
        with time_limit(SECONDS):
            # When a message is read, Then it is refused with a reason that can travel with it
            try:
                messages = read(body)
            except BadMessage as error:
                reason = str(error)
            else:
                reason = ""
            if reason:
                require_to_travel(reason)
                ends["refused"] += 1
                continue
            # Or it can be carried on, and serving it ends in one of our own errors, or in products
            for message in messages:
                carry(message)
                try:
                    outgoing = handle(message, context)
                except DarksError:
                    ends["failed"] += 1
                else:
                    assert all(each.message.encode() for each in outgoing)
                    ends["served"] += 1
    # Then all three ends were met, and the store holds nothing but rejections
    print(f"ends: {dict(ends)}")
    assert ends.keys() == {"refused", "failed", "served"}
    assert {manifest.product for manifest in find_all(context.store, "ingest/")} <= {"rejection"}
