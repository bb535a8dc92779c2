"""A snowball before the first read: no ring in the mean, and one event at most."""

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from services.darkref.handler import handle
from shared.contracts.messages import Envelope, SetReady
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.manifest import find
from support.ingest_exposures import SECOND, START_MJD, bench_on, write_exposure, write_references

DO_NOT_USE, SATURATED, JUMP_DET, PERSISTENCE = 1, 2, 4, 32
#: y, x of the middle, and at the edge of the array.
PLACES = [(35, 38), (62, 61)]
CORE, SPILL = 5, 7.5


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return write_references(tmp_path_factory.mktemp("references"))


@pytest.fixture
def bench(tmp_path, references, monkeypatch):
    return bench_on(tmp_path, references, monkeypatch)


def distance_from(place):
    y, x = np.mgrid[:64, :64]
    return np.hypot(y - place[0], x - place[1])


def with_snowball(path, place):
    """A core that is saturated from group 0 of integration 0 on, and spills 60 DN within some groups."""
    distance = distance_from(place)
    with fits.open(path, mode="update", memmap=False) as hdus:
        data = hdus["SCI"].data.astype(np.int64)
        groups = np.arange(data.shape[1])[:, None, None]
        spilt = 60 * (1 - np.exp(-groups / 3)) * (distance <= SPILL)
        data[0] += np.rint(3000 * np.exp(-distance / 4) + spilt).astype(np.int64)
        data[0, :, distance <= CORE] = 65000
        hdus["SCI"].data[:] = data
    return path


@pytest.mark.parametrize("place", PLACES)
def test_the_ring_of_a_snowball_in_the_first_group_is_masked(bench, place):
    path = with_snowball(write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", ngroups=8), place)
    results = bench.results(path)
    assert results.first_group_snowballs == 1
    distance = distance_from(place)
    ring = (distance > CORE + 1.5) & (distance <= SPILL)
    with bench.open(path) as ramp:
        flags = ramp.groupdq
        assert np.all(flags[0][:, ring] & DO_NOT_USE)
        # The core glows afterwards, and is flagged for it; the ring of the next integration is used
        assert np.all(flags[1][:, distance <= CORE] & PERSISTENCE)
        assert not np.any(flags[1][:, ring] & (DO_NOT_USE | SATURATED))
        # One event: the spill's flags are in the first difference alone
        near = distance <= SPILL + 1
        events = [ndimage.label((plane & JUMP_DET != 0) & near, np.ones((3, 3)))[1] for plane in flags[0]]
        assert sum(events[2:]) == 0


def test_no_ring_is_left_in_the_mean(bench):
    # Given five exposures, one of them with a snowball before its first read
    place, contents = PLACES[0], []
    for number in range(5):
        start = START_MJD + number * 5000 * SECOND
        path = write_exposure(
            bench.inbox / f"jw{number}_nrca3_uncal.fits",
            seed=number,
            nints=1,
            ngroups=8,
            start_mjd=start,
        )
        contents.append(bench.content(with_snowball(path, place) if number == 2 else path))
    ready = SetReady(
        configuration=contents[0].configuration,
        key=contents[0].key,
        set_id="5",
        members=[content.member for content in contents],
        gain=contents[0].gain,
        simulated=False,
    )
    # When their dark is built
    settings = StageSettings(store=bench.root / "store", verify=False)
    [built] = handle(Envelope.of(ready, identity="5"), StageContext(bench.store, settings))
    manifest = find(bench.store, built.message.content.manifest.removesuffix("/manifest.json"))
    [name] = [entry.name for entry in manifest.objects if entry.name.endswith("_dark.fits")]
    dark = fits.getdata(bench.store.root / manifest.object(name).key, "SCI")
    # Then the last group of the ring is as dark as the rest, to five errors of its median
    distance = distance_from(place)
    science = np.zeros((64, 64), bool)
    science[4:, 4:] = True
    ring = science & (distance > CORE + 1.5) & (distance <= SPILL)
    rest = science & (distance > 15)
    last = dark[-1]
    error = 1.2533 * last[rest].std() / np.sqrt(ring.sum())
    assert abs(np.median(last[ring]) - np.median(last[rest])) < 5 * error


@pytest.mark.parametrize("nints", [1, 3])
def test_a_saturated_pixel_is_no_snowball(bench, nints):
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", nints=nints, ngroups=8)
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus["SCI"].data[:, :, 20:22, 20:22] = 65000
    assert bench.results(path).first_group_snowballs == 0
