"""An exposure in segments, and one that is delivered again, through RabbitMQ and a bucket."""

import random
from pathlib import Path

import pytest
from astropy.io import fits

from nircam_darks.operations.candidates import Candidate, peek
from shared.contracts.messages import Envelope
from support.deployed_services import deployed
from support.ingest_exposures import edit, write_segments

pytestmark = pytest.mark.xdist_group("ceph")


def test_segments_and_a_redelivery_make_one_set_and_one_reference(
    rabbit_node, ceph, campaign, tmp_path: Path
) -> None:
    # Given two exposures: one in two segments, the other also with another pixel and a later DATE
    first, second = sorted(path for path in campaign.files if "nrcb1" in path.name)
    segments = write_segments(first, tmp_path / "segments", (1, 1))
    again = tmp_path / second.name.replace("_uncal", "_copy_uncal")
    again.write_bytes(second.read_bytes())
    with fits.open(again, mode="update") as hdus:
        hdus["SCI"].data[0, 0, 30, 30] += 1
    edit(again, DATE="2031-01-01T00:00:00.000")
    candidates: list[Candidate] = [peek(path) for path in (*segments, second, again)]
    exposures = {candidate.exposure_id for candidate in candidates}
    assert len(exposures) == 2
    with deployed(
        rabbit_node, ceph, candidates, campaign.crds_path, tmp_path, ("ingest", "ingest", "darkref", "noise")
    ) as here:
        # When all are announced twice, in any order, as one set of two, to two workers
        two = [
            Envelope.of(
                message.content.model_copy(update={"expected_exposures": 2}), identity=message.content.uri
            )
            for message in here.announcements
        ] * 2
        random.Random(4).shuffle(two)
        for message in two:
            here.broker.publish(message)
        for service in here.services:
            service.start()
        # The ramp of the earlier delivery is made, too, if that comes first.
        here.wanted.clear()
        here.wanted["reference"] = 1
        here.wait_until_all_is_done()
        here.stop()
        manifests = here.manifests()
        assert here.dead_letters() == []
    # Then the last reference is of both exposures, the second as it was delivered last
    references = [manifest for manifest in manifests if manifest.product == "reference"]
    last = max(references, key=lambda manifest: manifest.created)
    assert set(last.results["exposures"]) == exposures
    ramps = {manifest.path.rpartition("/")[2]: manifest.results for manifest in manifests}
    members = [ramps[entry.product] for entry in last.inputs if entry.product in ramps]
    assert sorted((ramp["segments"], ramp["integrations"]) for ramp in members) == [(1, 2), (2, 2)]
    assert "2031-01-01T00:00:00.000" in {ramp["file_date"] for ramp in members}
