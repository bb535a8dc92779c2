"""A new version of ingest is rolled out between the second and the third of four exposures."""

import pytest

from nircam_darks.operations.candidates import peek
from services.ingest.plan import ALGORITHM_VERSION
from shared.contracts.messages import Envelope
from shared.store.manifest import find_all
from support.deployed_services import Deployment, Service, deployed
from support.paths import TESTS
from support.steady_services import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ceph")]

OTHER_VERSION = TESTS / "support" / "other_version"
#: Long enough for the next exposure to be ingested, on a busy machine, too.
SETTLE = 8.0


def versions(here: Deployment) -> dict[str, set[str]]:
    """The versions of each exposure's ramps."""
    made: dict[str, set[str]] = {}
    for manifest in find_all(here.store, "ingest/"):
        made.setdefault(manifest.results["exposure_id"], set()).add(manifest.versions["algorithm"])
    return made


def sets(here: Deployment) -> list[set[str]]:
    """The exposures of each reference."""
    return [set(manifest.results["exposures"]) for manifest in find_all(here.store, "darkref/")]


def test_a_set_in_the_middle_of_an_upgrade_is_never_halved(rabbit_node, ceph, campaign, tmp_path) -> None:
    # Given four exposures of one configuration, announced without a count
    candidates = [peek(path) for path in campaign.files if "nrcalong" in path.name][:4]
    names = [candidate.exposure_id for candidate in candidates]
    before = str(int(ALGORITHM_VERSION) - 1)
    with deployed(
        rabbit_node,
        ceph,
        candidates,
        campaign.crds_path,
        tmp_path,
        ("darkref", "ingest", "ingest"),
        PYTHONPATH=str(OTHER_VERSION),
        DARKS_SETTLE_SECONDS=str(SETTLE),
    ) as here:
        darkref, old, new = here.services
        old.environment["DARKS_TEST_ALGORITHM"] = before

        def announce(first: int, last: int) -> None:
            for announcement in here.announcements[first:last]:
                content = announcement.content.model_copy(update={"expected_exposures": None})
                here.broker.publish(Envelope.of(content, identity=content.uri))

        def ingested(count: int, by: Service) -> None:
            def is_done() -> bool:
                by.require_alive()
                return len(versions(here)) == count

            until(is_done, f"{count} exposures")

        # When the version before takes the first two, and this one the others
        darkref.start()
        old.start()
        announce(0, 2)
        ingested(2, old)
        assert old.stop() == 0
        new.start()
        announce(2, 4)
        ingested(4, new)
        # Then the set holds all four, and none was ever built of the newer two
        until(lambda: set(names) in sets(here), "the reference of all four")
        assert set(names[2:]) not in sets(here)
        assert versions(here) == {
            name: {before, ALGORITHM_VERSION} if name in names[:2] else {ALGORITHM_VERSION} for name in names
        }
        # And the older ones were announced again by this version, which said so
        assert "their set waits" in new.log.read_text()
        until(here.idle, "the queues to be empty")
        assert sum(each == set(names) for each in sets(here)) == 1
        assert here.dead_letters() == []
