"""What a trigger says to the broker."""

import hashlib

import pytest
from typer.testing import CliRunner

from nircam_darks.cli.main import app
from nircam_darks.operations.announce import announce
from nircam_darks.operations.candidates import Candidate
from shared.broker.memory import MemoryBroker
from shared.contracts.messages import parse
from shared.errors import BadInput, EnvironmentFault
from support.ingest_exposures import START_MJD, write_exposure

GAP = 10.0


@pytest.fixture
def exposures(tmp_path):
    """Two exposures of one configuration, and one whose configuration cannot be read."""
    return [dark(tmp_path, "a"), dark(tmp_path, "b", 0.1), dark(tmp_path, "x", configuration=None)]


def dark(folder, name: str, day: float | None = 0.0, configuration: str | None = "c1") -> Candidate:
    path = folder / f"{name}_uncal.fits"
    path.write_bytes(name.encode() * 10)
    start = None if day is None else 60000.0 + day
    return Candidate(path, name, configuration=configuration, start_mjd=start, end_mjd=start)


def announced(broker) -> list:
    consumer = broker.consume("ingest", prefetch=10)
    results = []
    while delivery := consumer.poll(0.01):
        results.append(parse(delivery.body))
        consumer.ack(delivery)
    return results


def test_an_announcement_holds_size_digest_and_the_number_of_its_set(exposures):
    broker = MemoryBroker()
    output = list(announce(exposures, broker, True, GAP))
    heard = [message.content for message in announced(broker)]
    assert [each.exposure_id for each in output] == [entry.exposure_id for entry in heard] == ["a", "b", "x"]
    assert heard[0].size == 10
    assert heard[0].sha256 == hashlib.sha256(b"a" * 10).hexdigest()
    assert [one.expected_exposures for one in heard] == [2, 2, None]


def test_each_campaign_of_a_configuration_has_a_number_of_its_own(tmp_path):
    # Given campaigns of three and of two, a second file of an exposure, and one that does not say when
    candidates = [
        *(dark(tmp_path, name, day) for name, day in (("a", 0), ("d", 100), ("b", 8), ("e", 101))),
        dark(tmp_path, "c", 16),
        dark(tmp_path, "c", 16),
        dark(tmp_path, "undated", None),
        dark(tmp_path, "other", 0, "c2"),
    ]
    broker = MemoryBroker()
    # When
    list(announce(candidates, broker, True, GAP))
    # Then the one that ingest will refuse, and take as missing in each, is one of each
    names = {message.content.exposure_id: message.content.expected_exposures for message in announced(broker)}
    assert names == {"a": 4, "b": 4, "c": 4, "d": 3, "e": 3, "undated": None, "other": 1}


def test_the_command_takes_the_gap_of_the_services(tmp_path, monkeypatch):
    # Given two exposures that lie 20 days apart
    results = {
        dark(tmp_path, "a").path: dark(tmp_path, "a"),
        dark(tmp_path, "b").path: dark(tmp_path, "b", 20),
    }
    broker = MemoryBroker()
    monkeypatch.setattr(
        "nircam_darks.operations.find_exposures.candidate_of", lambda probe, settings, path: results[path]
    )
    monkeypatch.setattr(broker, "close", lambda: None)
    monkeypatch.setattr("shared.broker.opening.open_broker", lambda: broker)
    words = ["announce", "--complete", *map(str, results)]
    for environment, number in (({}, 1), ({"DARKS_EPOCH_GAP_DAYS": "30"}, 2)):
        # When
        assert CliRunner().invoke(app, words, env=environment).exit_code == 0
        # Then
        assert [message.content.expected_exposures for message in announced(broker)] == [number] * 2


def test_without_complete_no_number_is_said(exposures):
    broker = MemoryBroker()
    list(announce(exposures, broker, False, GAP))
    assert {message.content.expected_exposures for message in announced(broker)} == {None}


def test_the_same_exposure_is_announced_under_the_same_id_at_the_address_of_the_services(exposures):
    broker = MemoryBroker()
    once = list(announce(exposures, broker, True, GAP, uri_prefix="s3://archive/darks/"))
    again = list(announce(exposures, broker, True, GAP, uri_prefix="s3://archive/darks/"))
    assert once == again
    assert once[0].uri == "s3://archive/darks/a_uncal.fits"


def test_an_address_is_announced_as_it_is_beside_files(tmp_path, monkeypatch):
    # Given a file, and the address of an exposure that this machine does not see
    here = dark(tmp_path, "a")
    broker = MemoryBroker()
    monkeypatch.setattr("nircam_darks.operations.candidates.peek", {here.path: here}.__getitem__)
    monkeypatch.setattr(broker, "close", lambda: None)
    monkeypatch.setattr("shared.broker.opening.open_broker", lambda: broker)
    address = "s3://darks/raw/jw01062001001_02101_00001_nrca1_uncal.fits"
    # When both are announced, the address twice
    done = CliRunner().invoke(app, ["announce", str(here.path), address, address])
    # Then each is announced once, the exposure called what its object is called
    assert done.exit_code == 0, done.output
    heard = [message.content for message in announced(broker)]
    assert [(each.exposure_id, each.uri) for each in heard] == [
        ("a", here.path.as_uri()),
        ("jw01062001001_02101_00001_nrca1", address),
    ]
    assert (heard[1].size, heard[1].sha256) == (None, None)


@pytest.mark.parametrize("option", [["--complete"], ["--uri-prefix", "s3://other/"]])
def test_what_only_a_file_can_say_is_refused_for_an_address(option):
    done = CliRunner().invoke(app, ["announce", "s3://darks/raw/x_uncal.fits", *option])
    assert done.exit_code == 2
    assert option[0] in done.output


def test_a_file_that_is_not_there_is_not_announced(exposures, tmp_path):
    broker = MemoryBroker()
    with pytest.raises(BadInput) as caught:
        list(announce([Candidate(tmp_path / "gone.fits", "gone")], broker, True, GAP))
    assert (caught.value.check, caught.value.where) == ("file", str(tmp_path / "gone.fits"))
    assert announced(broker) == []


@pytest.mark.parametrize(
    "command",
    [["announce", "s3://darks/raw/x_uncal.fits"], ["backfill", "s3://darks/raw/"]],
    ids=lambda c: c[0],
)
def test_nothing_is_announced_to_a_broker_that_nobody_else_can_reach(command, tmp_path, monkeypatch):
    monkeypatch.setenv("DARKS_BROKER_URL", "memory://")
    monkeypatch.setenv("DARKS_STORE", str(tmp_path))
    monkeypatch.setenv("DARKS_ALLOWED_SOURCES", '["s3://darks/raw/"]')
    with pytest.raises(EnvironmentFault) as caught:
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert caught.value.setting == "DARKS_BROKER_URL"


@pytest.mark.parametrize(("truncate", "counts"), [(None, {1, 2}), ("5", {3})])
def test_sets_are_counted_as_services_that_truncate_form_them(tmp_path, monkeypatch, truncate, counts):
    # Given two exposures of five groups and one of six
    for number, ngroups in enumerate((5, 5, 6)):
        path = tmp_path / f"{number}_nrca3_uncal.fits"
        write_exposure(path, ngroups=ngroups, start_mjd=START_MJD + number / 100)
    broker = MemoryBroker()
    monkeypatch.setattr("shared.broker.opening.open_services_broker", lambda: broker)
    if truncate is not None:
        monkeypatch.setenv("DARKS_TRUNCATE", truncate)
    # When all are announced as the only exposures of their sets
    done = CliRunner().invoke(app, ["announce", "--complete", str(tmp_path)])
    # Then their number is that of the sets that the services will form, and odd lengths are named
    assert done.exit_code == 0, done.output
    assert {message.content.expected_exposures for message in announced(broker)} == counts
    assert ("--truncate 5" in done.output) == (truncate is None)
