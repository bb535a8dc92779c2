"""Ramps that are not what was written: nothing is built from them, and the error says what and where."""

import numpy as np
import pytest
from astropy.io import fits

from services.darkref.handler import handle as darkref
from services.noise.handler import handle as noise
from shared.contracts.messages import Envelope
from shared.errors import BadMessage, DamagedObject, PermanentError
from shared.ramps import members
from shared.ramps.digests import DIGESTS
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.manifest import find, find_all
from support.configurations import configuration
from support.darkref_sets import KeyResults
from support.flipping_store import FlippingStore, byte_of_pixel
from support.noise_sets import ingested, put_ramp, set_ready, white_ramps
from support.ramp_products import commit_ramp

STAGES = {"darkref": darkref, "noise": noise}


@pytest.fixture
def context(tmp_path):
    store = FlippingStore(tmp_path / "store")
    yield StageContext(store, StageSettings(store=tmp_path / "store", verify=False))
    store.close()


@pytest.fixture
def ready(context, tmp_path) -> Envelope:
    """The message of a set of three exposures of two integrations."""
    key = configuration(64, 64, 5)
    return set_ready(
        key,
        [put_ramp(context.store, tmp_path, key, white_ramps(key, 2, seed=n), number=n + 1) for n in range(3)],
    )


def products(context):
    return [*find_all(context.store, "darkref/"), *find_all(context.store, "noise/")]


def changed(ready, **named) -> Envelope:
    """Return the message with something else said of its second ramp."""
    data = ready.model_dump(by_alias=True, mode="json")
    data["data"]["members"][1]["ramp"] |= named
    return Envelope.model_validate(data)


@pytest.mark.parametrize("stage", STAGES)
def test_no_product_is_made_of_pixels_that_were_changed_in_the_store(context, ready, stage):
    # Given a ramp of which somebody or something changed every value of SCI by a little
    entry = ready.content.members[1].ramp
    path = context.store.root / entry.key
    with fits.open(path, mode="update") as hdus:
        hdus["SCI"].data += np.float32(0.5)
    # When its set is worked on, Then it ends for good, named, and nothing is built of the set
    with pytest.raises(DamagedObject) as caught:
        STAGES[stage](ready, context)
    assert isinstance(caught.value, PermanentError)
    assert entry.key in caught.value.where
    assert caught.value.keyword == "SCI"
    assert not [each for each in products(context) if each.product in ("reference", "set-noise")]


@pytest.mark.parametrize("extension", ["SCI", "GROUPDQ"])
def test_a_bit_flipped_on_its_way_does_not_show(context, ready, extension):
    # Given a set's reference
    (first,) = darkref(ready, context)
    reference = context.store.get(first.message.content.reference.key)
    (built,) = find_all(context.store, "darkref/")
    context.store.delete(f"{built.path}/manifest.json")
    # When a bit of a ramp is flipped once, on its way
    entry = ready.content.members[2].ramp
    place = byte_of_pixel(context.store.root / entry.key, extension, 1, 3, 20, 20)
    context.store.places[entry.key] = {place: 1}
    (again,) = darkref(ready, context)
    # Then the reference is the same
    assert context.store.places[entry.key] == {place: 0}
    path = context.store.root / again.message.content.reference.key
    with fits.open(path) as hdus, fits.HDUList.fromstring(reference) as wanted:
        np.testing.assert_array_equal(hdus["SCI"].data, wanted["SCI"].data)
        np.testing.assert_array_equal(hdus["ERR"].data, wanted["ERR"].data)


def test_the_noise_of_an_exposure_is_checked_too(context, ready):
    member = ready.content.members[0]
    place = byte_of_pixel(context.store.root / member.ramp.key, "PIXELDQ", 5, 5)
    context.store.places[member.ramp.key] = {place: 10**6}
    with pytest.raises(DamagedObject) as caught:
        noise(ingested(ready.content.key, member), context)
    assert caught.value.keyword == "PIXELDQ"
    assert products(context) == []


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("named", [{"sha256": "0" * 64}, {"size": 5}, {"key": "ingest/other/ramp.fits"}])
def test_a_message_that_names_another_file_than_the_manifest_is_refused(context, ready, stage, named):
    with pytest.raises(BadMessage) as caught:
        STAGES[stage](changed(ready, **named), context)
    assert caught.value.keyword == next(iter(named))
    assert products(context) == []


@pytest.mark.parametrize("stage", STAGES)
def test_digests_that_are_missing_or_changed_are_not_passed_over(context, ready, stage):
    member = ready.content.members[1]
    entry = find(context.store, member.manifest.removesuffix("/manifest.json")).object(DIGESTS)
    whole = context.store.get(entry.key)
    context.store.put(entry.key, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DamagedObject):
        STAGES[stage](ready, context)
    context.store.delete(entry.key)
    with pytest.raises(DamagedObject):
        STAGES[stage](ready, context)


def test_a_ramp_that_was_cut_is_damaged(context, ready):
    member = ready.content.members[0]
    path = context.store.root / member.ramp.key
    path.write_bytes(path.read_bytes()[:-2880])
    with pytest.raises(DamagedObject):
        darkref(ready, context)


def test_ramps_of_before_are_read_as_ever_and_the_log_says_so_once(context, ready, tmp_path, caplog):
    # Given a set of which two ramps were made before ramps had digests
    members._say_unchecked.cache_clear()
    content = ready.content
    for number in (1, 2):
        old = content.members[number]
        key = f"{old.manifest.rpartition('/')[0]}-before"
        file = context.store.root / old.ramp.key
        ref = commit_ramp(context.store, key, file, KeyResults(key=content.key), digests=False)
        content.members[number] = old.model_copy(update={"ramp": ref, "manifest": f"{key}/manifest.json"})
    # When it is worked on, Then there is a reference, and one line in the log
    (outgoing,) = darkref(set_ready(content.key, content.members), context)
    assert outgoing.message.schema_name == "reference.built"
    assert sum(record.name == members.__name__ for record in caplog.records) == 1
