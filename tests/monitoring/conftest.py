"""A real Prometheus that watches the services at work: for whoever wants to see their metrics.

The tests that use it carry the mark `xdist_group("ceph")`, as every test of the bucket's server.
"""

from collections.abc import Iterator

import pytest

from nircam_darks.operations.candidates import peek
from shared.settings.stage import StageSettings
from support.arrivals import Exposure, Ingest
from support.deployed_services import deployed
from support.prometheus_server import program, running_prometheus
from support.watched_services import Watched, http_port


@pytest.fixture(scope="session")
def watched(rabbit_node, ceph, campaign, tmp_path_factory) -> Iterator[Watched]:
    """Three services that ingested two short-wave exposures, made all products of them, and hold a third."""
    # Before the servers are started for nothing
    program("prometheus")
    short = [peek(path) for path in campaign.files if "nrcb1" in path.name]
    long = [peek(path) for path in campaign.files if "nrcalong" in path.name]
    folder = tmp_path_factory.mktemp("watched")
    with deployed(
        rabbit_node,
        ceph,
        [*short, *long[:2]],
        campaign.crds_path,
        folder,
        # Figures of simulated exposures are all that there are.
        DARKS_SIMULATED_METRICS="true",
    ) as here:
        # Of two long-wave exposures, announced as a set, one comes: its set waits.
        *now, to_come = here.announcements
        # Of a fourth configuration lie two ramps there, of which an earlier version made the first.
        archive = Ingest(here.store, StageSettings(store="."))
        archive.ramp(Exposure("outdated", version="0"))
        archive.ramp(Exposure("current", day=1))
        here.wanted |= {"ramp": 3 + 2, "exposure-noise": 3, "reference": 1, "set-noise": 1}
        with running_prometheus(folder / "prometheus", here.broker.settings.vhost) as prometheus:
            watched = Watched(here, prometheus, to_come)
            prometheus.watch("rabbitmq", (f"127.0.0.1:{rabbit_node.metrics_port}", {}))
            for service in here.services:
                service.start()
            prometheus.until(lambda: all(map(http_port, here.services)), "the services to listen")
            watched.look_at_services()
            prometheus.until(lambda: prometheus.value('sum(up{job="darks"})') == 3, "the services' metrics")
            for announcement in now:
                here.broker.publish(announcement)
            here.wait_until_all_is_done()
            # What waits is read from the store every half minute.
            for last in ("darks_set_newest_timestamp_seconds", "darks_set_outdated_timestamp_seconds"):
                prometheus.until(lambda name=last: prometheus.query(name), "the set that waits", within=90)
            waiting = "darks:sets_waiting"
            prometheus.until(lambda: prometheus.value(waiting) == 2, "both sets that wait", within=90)
            yield watched
