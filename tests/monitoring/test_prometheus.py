"""A real Prometheus, with the project's rules, sees real services and a real RabbitMQ."""

import pytest

from support.watched_services import Watched, http_port, sample_names

pytestmark = pytest.mark.xdist_group("ceph")

QUEUES = ("messages_ready", "messages_unacked", "consumers")


def test_every_documented_metric_is_found(watched: Watched) -> None:
    # Given services that made all products of one set, and hold an exposure of another
    # Then each metric of docs/services.md has a sample, and RabbitMQ's plugin tells of every queue
    missing = [name for name in sample_names() if not watched.prometheus.query(name)]
    assert missing == []
    queues = {"ingest", "darkref", "noise", "ingest.dead", "darkref.dead", "noise.dead", "ingest.held"}
    for what in QUEUES:
        result = watched.prometheus.query(f"rabbitmq_detailed_queue_{what}")
        assert queues <= {each["metric"]["queue"] for each in result}
    assert watched.prometheus.query("rabbitmq_connections")


def test_what_is_shown_is_what_was_done(watched: Watched) -> None:
    value = watched.prometheus.value
    # Three exposures ingested and measured, one reference and one set's noise
    assert value('sum(darks_messages_published_total{schema="exposure.ingested"})') == 3
    assert value('sum(darks_messages_published_total{schema="noise.measured"})') == 4
    assert value('darks_references_built_total{verification="unverified"}') == 1
    # The long-wave set, of which an exposure is to come, and that of an earlier version
    assert value("darks:sets_waiting") == 2
    assert value("sum(darks:workers)") == 3
    assert value('sum(darks_messages_processed_total{outcome=~"retried|dead-lettered"})') == 0
    current = value('darks:dark_current_electrons_per_kilosecond:newest{detector="NRCB1"}')
    assert current == value('darks_dark_current_electrons_per_kilosecond{detector="NRCB1"}')


def test_every_rule_evaluates_and_every_recording_has_a_value(watched: Watched) -> None:
    rules = watched.prometheus.rules()
    assert {rule["type"] for rule in rules} == {"alerting", "recording"}
    failed = {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"}
    assert failed == {}
    recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
    assert {name for name in recorded if not watched.prometheus.query(name)} == set()
    # And no series of ours is of an exposure, a set or a message
    ids = [announcement.content.exposure_id for announcement in watched.here.announcements]
    ids += [str(each.id) for each in watched.here.announcements]
    shown = str(watched.prometheus.query('{__name__=~"darks.+"}'))
    assert [entry for entry in ids if entry in shown] == []


def test_alerts_are_told_when_it_breaks_and_end_when_it_is_mended(watched: Watched) -> None:
    prometheus, noise = watched.prometheus, watched.service("noise")
    science = {"DarksDarkCurrentOutOfBand", "DarksNoiseOutOfBand", "DarksSetOutdated"}
    assert prometheus.firing() <= {(name, "") for name in science}
    # Given noise killed, an exposure that makes work for it, and a body that nobody can read
    noise.kill()
    try:
        watched.here.broker.publish(watched.to_come)
        watched.announce_nonsense()
        # Then each is told, with the service that it is about
        wanted = {
            ("DarksWorkerDown", "noise"),
            ("DarksBacklogWithoutConsumers", "noise"),
            ("DarksDeadLetters", "ingest"),
        }
        prometheus.until(lambda: wanted <= prometheus.firing(), f"{wanted}, where {prometheus.firing()}", 150)
    finally:
        # When it is mended, the letter thrown away
        noise.start()
        prometheus.until(lambda: http_port(noise), "noise to listen")
    prometheus.until(lambda: noise_listens_anew(watched), "noise at its new port")
    watched.throw_dead_letters_away()
    # Then nobody is told any more
    prometheus.until(lambda: not wanted & prometheus.firing(), "the alerts to end", 150)


def noise_listens_anew(watched: Watched) -> float | None:
    watched.look_at_services()
    return watched.prometheus.value('up{service="noise"} == 1')
