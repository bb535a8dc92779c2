"""What a trigger says to the broker."""

import hashlib

import pytest

from services.operations.announce import announce
from services.schedule import Candidate
from shared.broker.memory import MemoryBroker
from shared.errors import BadInput
from shared.messages import parse


@pytest.fixture
def exposures(tmp_path):
    """Two exposures of one configuration, and one whose configuration cannot be read."""
    made = []
    for name, configuration in (("a", "c1"), ("b", "c1"), ("x", None)):
        path = tmp_path / f"{name}_uncal.fits"
        path.write_bytes(name.encode() * 10)
        made.append(Candidate(path, name, configuration=configuration))
    return made


def announced(broker) -> list:
    consumer = broker.consume("ingest", prefetch=10)
    found = []
    while delivery := consumer.poll(0.01):
        found.append(parse(delivery.body))
        consumer.ack(delivery)
    return found


def test_an_announcement_holds_size_digest_and_the_number_of_its_set(exposures):
    broker = MemoryBroker()
    said = list(announce(exposures, broker, complete=True))
    heard = [message.content for message in announced(broker)]
    assert [one.exposure_id for one in said] == [one.exposure_id for one in heard] == ["a", "b", "x"]
    assert heard[0].size == 10
    assert heard[0].sha256 == hashlib.sha256(b"a" * 10).hexdigest()
    assert [one.expected_exposures for one in heard] == [2, 2, None]


def test_without_complete_no_number_is_said(exposures):
    broker = MemoryBroker()
    list(announce(exposures, broker, complete=False))
    assert {message.content.expected_exposures for message in announced(broker)} == {None}


def test_the_same_exposure_is_announced_under_the_same_id_at_the_address_of_the_services(exposures):
    broker = MemoryBroker()
    once = list(announce(exposures, broker, complete=True, uri_prefix="s3://archive/darks/"))
    again = list(announce(exposures, broker, complete=True, uri_prefix="s3://archive/darks/"))
    assert once == again
    assert once[0].uri == "s3://archive/darks/a_uncal.fits"


def test_a_file_that_is_not_there_is_not_announced(exposures, tmp_path):
    broker = MemoryBroker()
    with pytest.raises(BadInput, match="no such file"):
        list(announce([Candidate(tmp_path / "gone.fits", "gone")], broker, complete=True))
    assert announced(broker) == []
