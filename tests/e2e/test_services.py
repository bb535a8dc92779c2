"""The three services as processes of their own, over a real RabbitMQ and a real bucket."""

import hashlib
import io
import random
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from astropy.io import fits

from nircam_darks.operations.candidates import Candidate, peek
from shared.contracts.routing import BINDINGS
from shared.store.manifest import Manifest
from support.deployed_services import WAIT, Deployment, deployed
from support.running import Run, run_darks

# Their worker of pytest-xdist has the bucket's server; the broker, the quicker to start, comes beside it.
pytestmark = pytest.mark.xdist_group("ceph")

KILLS_EACH = 3


@dataclass(frozen=True)
class Found:
    """What a deployment left."""

    manifests: list[Manifest]
    dead_letters: list[str]
    claims: list[str]
    pixels: dict[str, tuple[np.ndarray, np.ndarray]]
    outcomes: Counter[str]

    @classmethod
    def of(cls, here: Deployment) -> "Found":
        manifests = here.manifests()
        pixels = {}
        for manifest in manifests:
            for entry in manifest.objects:
                body = here.store.get(entry.key)
                assert (len(body), hashlib.sha256(body).hexdigest()) == (entry.size, entry.sha256), entry.key
                if manifest.product == "reference" and entry.name == manifest.results["file"]:
                    with fits.open(io.BytesIO(body)) as hdus:
                        pixels[manifest.results["configuration"]] = hdus["SCI"].data, hdus["ERR"].data
        claims = [key for key in here.store.list("exposures/") if key.endswith("/claim.json")]
        return cls(manifests, here.dead_letters(), claims, pixels, here.outcomes())

    def subjects(self, product: str, name: str) -> list[str]:
        """What each product of a kind is of: its exposure, or its set."""
        return sorted(
            str(manifest.results[name]) for manifest in self.manifests if manifest.product == product
        )

    def require_each_once(self, candidates: list[Candidate]) -> None:
        exposures = sorted(candidate.exposure_id for candidate in candidates)
        assert self.subjects("ramp", "exposure_id") == exposures
        assert self.subjects("exposure-noise", "exposure_id") == exposures
        assert sorted(key.split("/")[1] for key in self.claims) == exposures
        sets = self.subjects("reference", "set_id")
        assert len(set(sets)) == len(sets) == len({candidate.configuration for candidate in candidates})
        assert self.subjects("set-noise", "set_id") == sets
        assert self.dead_letters == []
        assert {manifest.product for manifest in self.manifests} == {
            "ramp",
            "reference",
            "exposure-noise",
            "set-noise",
        }


@pytest.fixture(scope="module")
def candidates(campaign) -> list[Candidate]:
    """Both short-wave exposures, and four long-wave ones."""
    short = [path for path in campaign.files if "nrcb1" in path.name]
    long = [path for path in campaign.files if "nrcalong" in path.name]
    return [peek(path) for path in (*short, *long[:4])]


@pytest.fixture(scope="module")
def undisturbed(rabbit_node, ceph, candidates, campaign, tmp_path_factory) -> Found:
    folder = tmp_path_factory.mktemp("undisturbed")
    with deployed(rabbit_node, ceph, candidates, campaign.crds_path, folder, DARKS_VERIFY="true") as here:
        for service in here.services:
            service.start()
        for announcement in here.announcements:
            here.broker.publish(announcement)
        here.wait_until_all_is_done()
        here.stop()
        return Found.of(here)


@pytest.fixture(scope="module")
def at_once(candidates, tmp_path_factory) -> Run:
    """The same files by `nircam-darks run`."""
    out = tmp_path_factory.mktemp("at once") / "results"
    return run_darks(*(candidate.path for candidate in candidates), out=out)


def test_services_make_what_one_process_makes(undisturbed: Found, at_once: Run, candidates) -> None:
    # Given six exposures in a bucket, announced to the services; when no message is left
    # Then each exposure and each set was worked on once, and nothing was given up
    undisturbed.require_each_once(candidates)
    # And the references are to the last bit those of one process over files
    assert at_once.code == 0, at_once.text
    references = {
        reference["configuration"]: reference["path"] for reference in at_once.summary["references"]
    }
    assert undisturbed.pixels.keys() == references.keys()
    for configuration, (sci, err) in undisturbed.pixels.items():
        np.testing.assert_array_equal(sci, fits.getdata(references[configuration], "SCI"))
        np.testing.assert_array_equal(err, fits.getdata(references[configuration], "ERR"))


def disturb(here: Deployment, rng: random.Random) -> Counter[str]:
    """Kill each service several times amid its work, and restart the broker once; return what was done."""
    done: Counter[str] = Counter()
    broker_restart = rng.randrange(2, 5)
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        left = [service for service in here.services if done[service.name] < KILLS_EACH]
        if not left:
            break
        busy = [service for service in left if service.at_work]
        if not busy:
            if here.idle():
                break
            time.sleep(0.05)
            continue
        victim = rng.choice(busy)
        time.sleep(rng.choice((rng.uniform(0, 0.5), rng.uniform(0, 4))))
        done["amid its work"] += victim.at_work
        victim.kill()
        done[victim.name] += 1
        if sum(done[service.name] for service in here.services) == broker_restart:
            here.node.stop_server()
            here.node.start()
            done["broker"] += 1
        victim.start()
    return done


@pytest.mark.slow
def test_killed_restarted_told_twice_and_out_of_order_they_make_the_same(
    rabbit_node, ceph, candidates, campaign, undisturbed: Found, tmp_path, record_property
) -> None:
    rng = random.Random(20220418)
    with deployed(rabbit_node, ceph, candidates, campaign.crds_path, tmp_path) as here:
        # Given every announcement twice, in any order
        twice = here.announcements * 2
        rng.shuffle(twice)
        for announcement in twice:
            here.broker.publish(announcement)
        # When services are killed amid their work and started again, and the broker is restarted
        for service in here.services:
            service.start()
        done = disturb(here, rng)
        here.wait_until_all_is_done()
        here.stop()
        result = Found.of(here)
    record_property("disturbances", str(dict(done)))
    record_property("outcomes", str(dict(result.outcomes)))
    print(f"disturbances {dict(done)}, outcomes {dict(result.outcomes)}")
    # Then each exposure and each set was worked on once, nothing was given up, and every pixel is the same
    result.require_each_once(candidates)
    assert result.pixels.keys() == undisturbed.pixels.keys()
    for configuration, arrays in result.pixels.items():
        np.testing.assert_array_equal(arrays, undisturbed.pixels[configuration])
    # And they were disturbed indeed
    assert done["broker"] == 1
    assert all(done[service] >= 2 for service in BINDINGS), done
    assert done["amid its work"] >= 4, done
