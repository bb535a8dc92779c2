"""A set's noise in emulated readout patterns, and what hit all of its exposures together."""

import math
from dataclasses import replace

import numpy as np
import pytest
from configurations import configuration
from darkref_sets import KeyFacts
from noise_sets import GAIN, JUMP_DET, ingested, put_ramp, set_ready, white_ramps
from pydantic import TypeAdapter

from services.noise import handler
from services.noise.emulate import PER_PIXEL
from services.noise.emulated_products import EMULATED_NOISE, EmulatedPattern
from services.noise.handler import handle
from services.noise.memory import plan, resident
from services.noise.products import ExposureNoiseFacts, SetNoiseFacts
from shared.errors import EnvironmentFault
from shared.settings import StageSettings
from shared.stage import StageContext
from shared.store.local import LocalStore
from shared.store.manifest import Draft, find_all

KEY = configuration(64, 64, 30)


@pytest.fixture
def context(tmp_path):
    store = LocalStore(tmp_path / "store")
    yield StageContext(store, StageSettings(store=tmp_path / "store"))
    store.close()


def asked(context, *patterns):
    return replace(context, settings=context.settings.model_copy(update={"emulate": list(patterns)}))


def put_set(context, tmp_path, key, exposures, hits=0):
    """Exposures of one ramp of white noise, each as ingest leaves it; `hits` of 500 DN in every one."""
    members = []
    for number in range(1, exposures + 1):
        rng = np.random.default_rng(number)
        sci = white_ramps(key, seed=number)
        groupdq = np.zeros(sci.shape, np.uint8)
        for _ in range(hits):
            group, y, x = rng.integers((1, 4, 4), (key.ngroups, key.subsize2 - 4, key.subsize1 - 4))
            sci[0, group:, y, x] += 500
            groupdq[0, group, y, x] = JUMP_DET
        member = put_ramp(context.store, tmp_path, key, sci, groupdq, number=number)
        path = member.manifest.rpartition("/")[0]
        Draft(context.store, "ramp", path, [], {}, {}).commit(KeyFacts(key=key), [ingested(key, member)])
        members.append(member)
    return members


def products(context, kind):
    return [one for one in find_all(context.store, "noise/") if one.product == kind]


def emulated_in(context, manifest):
    body = context.store.get(manifest.object(EMULATED_NOISE).key)
    return TypeAdapter(list[EmulatedPattern]).validate_json(body)


# Readout patterns


def test_a_set_tells_its_noise_in_the_patterns_that_were_asked_for(context, tmp_path):
    # Given twelve RAPID ramps of white noise of 5 DN
    members = put_set(context, tmp_path, KEY, 12)
    # When its noise is measured, in two further patterns
    handle(set_ready(KEY, members), asked(context, "MEDIUM8", "SHALLOW4"))
    (manifest,) = products(context, "set-noise")
    found = emulated_in(context, manifest)
    # Then each has its curve, near the closed form of means of white noise, within four of its errors
    assert [(one.pattern, one.nframes, one.groupgap) for one in found] == [
        ("MEDIUM8", 8, 2),
        ("SHALLOW4", 4, 1),
    ]
    for one, groups in zip(found, (3, 6), strict=True):
        assert one.groups == list(range(2, groups + 1))
        assert one.seconds[0] == pytest.approx((one.nframes + one.groupgap) * KEY.tframe)
        n = groups
        closed = GAIN * 5 / math.sqrt(one.nframes) * math.sqrt(12 * (n - 1) / (n * (n + 1)))
        assert one.spatial[-1] == pytest.approx(closed, abs=4 * one.error)
        assert 0 < one.error < 0.05 * closed
        assert len(one.theory) == len(one.spatial) == len(one.groups)
        assert one.refusal is None
    # and the set's own figures are what they are without it
    handle(set_ready(KEY, members), context)
    plain, other = products(context, "set-noise")
    assert plain.facts == other.facts
    assert {"emulate" in one.parameters for one in (plain, other)} == {True, False}


def test_what_cannot_be_made_is_said_beside_what_can(context, tmp_path):
    members = put_set(context, tmp_path, configuration(16, 16, 20), 2)
    handle(set_ready(configuration(16, 16, 20), members), asked(context, "BRIGHT2", "DEEP8"))
    made, refused = emulated_in(context, products(context, "set-noise")[0])
    assert (made.pattern, made.groups[-1]) == ("BRIGHT2", 10)
    assert (refused.pattern, refused.groups) == ("DEEP8", [])
    assert "20 RAPID groups make 1" in refused.refusal


def test_sets_of_other_patterns_are_measured_and_say_why_nothing_is_emulated(context, tmp_path):
    key = configuration(16, 16, 6, readpatt="SHALLOW4", nframes=4, groupgap=1)
    handle(set_ready(key, put_set(context, tmp_path, key, 2)), asked(context, "DEEP8"))
    (one,) = emulated_in(context, products(context, "set-noise")[0])
    assert "only RAPID ramps have every frame" in one.refusal


def test_emulation_counts_in_the_memory_bound(context, tmp_path, monkeypatch):
    # Given a bound that a full frame just keeps to
    full, used = configuration(2048, 2048, 108), resident()
    bound = used + (64 << 20) + 181 * 2048**2
    plan(full, 10, bound, used)
    # Then it does not with a pattern more
    with pytest.raises(EnvironmentFault, match="raise --max-memory"):
        plan(full, 10, bound, used, PER_PIXEL)
    # and the handler counts those that can be made
    seen = []
    monkeypatch.setattr(handler, "plan", lambda *given: seen.append(given[-1]) or plan(*given))
    short = configuration(16, 16, 20)
    handle(set_ready(short, put_set(context, tmp_path, short, 2)), asked(context, "BRIGHT2", "DEEP8"))
    assert seen == [PER_PIXEL]


# Hits


def test_what_hit_a_set_is_the_sum_over_its_exposures(context, tmp_path):
    # Given four exposures of 50 hits each, whose noise was measured as they came
    members = put_set(context, tmp_path, KEY, 4, hits=50)
    for member in members:
        (said,) = handle(ingested(KEY, member), context)
        assert said.message.content.headline["hits_per_cm2_s"] > 0
    events = [
        ExposureNoiseFacts.model_validate(one.facts).events for one in products(context, "exposure-noise")
    ]
    # When the set's is measured
    (said,) = handle(set_ready(KEY, members), context)
    # Then its hits are all of theirs over all of their live time, in product and message
    (manifest,) = products(context, "set-noise")
    hits = SetNoiseFacts.model_validate(manifest.facts).hits_per_cm2_s
    exposed = sum(one.area_cm2 * one.live_seconds for one in events)
    assert hits.value == pytest.approx(sum(one.hits for one in events) / exposed)
    assert hits.value * exposed == pytest.approx(200, abs=5 * math.sqrt(200))
    # The error is that of so many counts
    assert hits.error * exposed == pytest.approx(math.sqrt(200), rel=0.15)
    assert "hits/cm2/s in flight" in hits.verdict
    headline = said.message.content.headline
    assert (headline["hits_per_cm2_s"], headline["hits_per_cm2_s_error"]) == (hits.value, hits.error)


def test_a_set_does_not_depend_on_which_message_came_first(context, tmp_path):
    # Given a set of which no exposure's noise was measured yet
    members = put_set(context, tmp_path, KEY, 2, hits=30)
    handle(set_ready(KEY, members), context)
    first = products(context, "set-noise")[0].facts
    # Then the exposures' products stand, and their own messages find them and are said as always
    assert len(products(context, "exposure-noise")) == 2
    for member in members:
        (said,) = handle(ingested(KEY, member), context)
        assert said.message.content.exposure_id == member.exposure_id
        assert said.message.correlation_id
    assert len(products(context, "exposure-noise")) == 2
    assert first["hits_per_cm2_s"]["value"] > 0


def test_a_set_of_which_nothing_tells_of_hits_has_none(context, tmp_path):
    # Given exposures whose own records are gone
    members = [put_ramp(context.store, tmp_path, KEY, white_ramps(KEY), number=n) for n in (1, 2)]
    (said,) = handle(set_ready(KEY, members), context)
    assert said.message.content.headline["hits_per_cm2_s"] is None
    assert products(context, "set-noise")[0].facts["hits_per_cm2_s"] is None
