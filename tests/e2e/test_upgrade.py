"""A new version of ingest is rolled out while a set is half there: the set is whole in the end."""

import contextlib
import json

import pika
import pytest

from nircam_darks.operations.candidates import Candidate, peek
from services.ingest.plan import ALGORITHM_VERSION
from shared.broker.rabbitmq.connection import parameters
from shared.contracts.messages import Envelope, SetReady
from shared.store.manifest import MANIFEST, find_all
from support.deployed_services import Deployment, Service, deployed
from support.paths import TESTS
from support.steady_services import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ceph")]

OTHER_VERSION = TESTS / "support" / "other_version"
BEFORE = str(int(ALGORITHM_VERSION) - 1)
#: Seconds without a new exposure; long enough for a new worker to start meanwhile.
SETTLE = 8.0
#: What `basic_get` says of an empty queue.
EMPTY = (None, None, None)


def versions(here: Deployment) -> dict[str, set[str]]:
    """Exposure -> versions of ingest by which its ramps were made."""
    made: dict[str, set[str]] = {}
    for ramp in find_all(here.store, "ingest/"):
        made.setdefault(ramp.results["exposure_id"], set()).add(ramp.versions["algorithm"])
    return made


class AnnouncedSets:
    """Takes what is announced to darkref, which does not run here.

    Attributes
    ----------
    sets : list of (set of str, set of str)
        Exposures of each set, and the versions of ingest that made its ramps.
    """

    def __init__(self, here: Deployment) -> None:
        self.sets: list[tuple[set[str], set[str]]] = []
        self._here = here

    def have(self, *wanted: tuple[set[str], set[str]]) -> bool:
        """Take what there is; return whether these were among all so far."""
        here = self._here
        with contextlib.closing(pika.BlockingConnection(parameters(here.broker.settings, "look"))) as link:
            bodies = [body for _, _, body in iter(lambda: link.channel().basic_get("darkref", True), EMPTY)]
        made_by = {
            f"{ramp.path}/{MANIFEST}": ramp.versions["algorithm"] for ramp in find_all(here.store, "ingest/")
        }
        for body in bodies:
            members = SetReady.model_validate(json.loads(body)["data"]).members
            exposures = {member.exposure_id for member in members}
            self.sets.append((exposures, {made_by[member.manifest] for member in members}))
        return all(each in self.sets for each in wanted)


def ingest_rests(here: Deployment) -> bool:
    """Whether nothing waits for ingest, now or later; what it sends to others may lie in their queues."""
    waiting = {name: count for name, count in here.ready().items() if name != "noise"}
    return not any(waiting.values()) and not any(service.at_work for service in here.services)


def announce(here: Deployment, candidates: list[Candidate], counted: bool) -> None:
    """Announce some exposures, with or without the number of their set."""
    names = {candidate.exposure_id for candidate in candidates}
    for announcement in here.announcements:
        if announcement.content.exposure_id in names:
            content = announcement.content
            if not counted:
                content = content.model_copy(update={"expected_exposures": None})
            here.broker.publish(Envelope.of(content, identity=content.uri))


def until_ingested(here: Deployment, count: int, by: Service) -> None:
    def is_done() -> bool:
        by.require_alive()
        return len(versions(here)) == count

    until(is_done, f"{count} exposures")


def test_a_set_that_an_upgrade_meets_is_made_again_and_never_halved(
    rabbit_node, ceph, campaign, tmp_path
) -> None:
    # Given four exposures of one configuration, of which nobody says how many they are, and two of another,
    # whose number is announced
    files = {name: [path for path in campaign.files if name in path.name] for name in ("nrcalong", "nrcb1")}
    settling = [peek(path) for path in files["nrcalong"][:4]]
    counted = [peek(path) for path in files["nrcb1"]]
    of_settling, of_counted = ([each.exposure_id for each in some] for some in (settling, counted))
    with deployed(
        rabbit_node,
        ceph,
        [*settling, *counted],
        campaign.crds_path,
        tmp_path,
        ("ingest", "ingest"),
        PYTHONPATH=str(OTHER_VERSION),
        DARKS_SETTLE_SECONDS=str(SETTLE),
    ) as here:
        old, new = here.services
        old.environment["DARKS_TEST_ALGORITHM"] = BEFORE
        # When the version before takes half of each
        old.start()
        announce(here, settling[:2], counted=False)
        announce(here, counted[:1], counted=True)
        until_ingested(here, 3, old)
        # And this one takes its place, and takes the others
        new.start()
        until(lambda: '"event": "serving' in new.log.read_text(), "the new version")
        assert old.stop() == 0
        announce(here, settling[2:], counted=False)
        announce(here, counted[1:], counted=True)
        until_ingested(here, 6, new)
        # Then both sets are announced whole, with all their ramps by the new version
        whole = [(set(of_settling), {ALGORITHM_VERSION}), (set(of_counted), {ALGORITHM_VERSION})]
        announced = AnnouncedSets(here)
        until(lambda: announced.have(*whole), "both sets")
        until(lambda: announced.have() and ingest_rests(here), "the queues to be empty")
        halves = [each for each in announced.sets if each not in whole]
        # And none of the newer half was. (One of the older half is right: where a machine is so slow that the
        # configuration settles before the upgrade, nothing says that more will come.)
        assert all(each == (set(of_settling[:2]), {BEFORE}) for each in halves), halves
        # And the older exposures were made again, each once
        assert versions(here) == {
            name: {BEFORE, ALGORITHM_VERSION}
            if name in (*of_settling[:2], of_counted[0])
            else {ALGORITHM_VERSION}
            for name in (*of_settling, *of_counted)
        }
        assert sum(manifest.product == "ramp" for manifest in here.manifests()) == 9
        assert here.dead_letters() == []
        # And it was not done in silence
        warned = new.errors.read_text()
        assert all(each.configuration in warned for each in (settling[0], counted[0]))
