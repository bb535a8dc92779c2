"""A set's noise in emulated readout patterns, and what hit all of its exposures together."""

import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from services.noise import handler
from services.noise.effective.emulate import PER_PIXEL
from services.noise.handler import handle
from services.noise.memory_plan import plan_noise, resident_memory
from shared.errors import EnvironmentFault
from shared.products.noise import EMULATED_NOISE, EmulatedPattern, ExposureNoiseResults, SetNoiseResults
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import find, find_all
from support.configurations import configuration
from support.noise_sets import GAIN, JUMP_DET, ingested, put_ramp, set_ready, white_ramps

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
        manifest = find(context.store, path).model_copy(update={"messages": [ingested(key, member)]})
        context.store.put(member.manifest, manifest.model_dump_json(by_alias=True).encode())
        members.append(member)
    return members


def products(context, kind):
    return [manifest for manifest in find_all(context.store, "noise/") if manifest.product == kind]


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
    result = emulated_in(context, manifest)
    # Then each has its curve, near the closed form of means of white noise, within four of its errors
    assert [(each.pattern, each.nframes, each.groupgap) for each in result] == [
        ("MEDIUM8", 8, 2),
        ("SHALLOW4", 4, 1),
    ]
    for one, groups in zip(result, (3, 6), strict=True):
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
    assert plain.results == other.results
    assert {"emulate" in entry.parameters for entry in (plain, other)} == {True, False}


def test_what_cannot_be_made_is_said_beside_what_can(context, tmp_path):
    members = put_set(context, tmp_path, configuration(16, 16, 20), 2)
    handle(set_ready(configuration(16, 16, 20), members), asked(context, "BRIGHT2", "DEEP8"))
    made, refused = emulated_in(context, products(context, "set-noise")[0])
    assert (made.pattern, made.groups[-1]) == ("BRIGHT2", 10)
    assert (refused.pattern, refused.groups) == ("DEEP8", [])
    assert "DEEP8" in refused.refusal


def test_sets_of_other_patterns_are_measured_and_say_why_nothing_is_emulated(context, tmp_path):
    key = configuration(16, 16, 6, readpatt="SHALLOW4", nframes=4, groupgap=1)
    handle(set_ready(key, put_set(context, tmp_path, key, 2)), asked(context, "DEEP8"))
    (emulated,) = emulated_in(context, products(context, "set-noise")[0])
    assert (emulated.pattern, emulated.groups) == ("DEEP8", [])
    assert "SHALLOW4" in emulated.refusal


def test_emulation_counts_in_the_memory_bound(context, tmp_path, monkeypatch):
    # Given a bound that a full frame just keeps to
    full, used = configuration(2048, 2048, 108), resident_memory()
    bound = used + (64 << 20) + 181 * 2048**2
    plan_noise(full, 10, bound, used)
    # Then it does not with a pattern more
    with pytest.raises(EnvironmentFault) as caught:
        plan_noise(full, 10, bound, used, PER_PIXEL)
    assert caught.value.setting == "--max-memory"
    # and the handler counts those that can be made
    seen = []
    monkeypatch.setattr(handler, "plan_noise", lambda *given: seen.append(given[-1]) or plan_noise(*given))
    short = configuration(16, 16, 20)
    handle(set_ready(short, put_set(context, tmp_path, short, 2)), asked(context, "BRIGHT2", "DEEP8"))
    assert seen == [PER_PIXEL]


# Hits


def test_what_hit_a_set_is_the_sum_over_its_exposures(context, tmp_path):
    # Given four exposures of 50 hits each, whose noise was measured as they came
    members = put_set(context, tmp_path, KEY, 4, hits=50)
    for member in members:
        (output,) = handle(ingested(KEY, member), context)
        assert output.message.content.headline["hits_per_cm2_s"] > 0
    events = [
        ExposureNoiseResults.model_validate(product.results).events
        for product in products(context, "exposure-noise")
    ]
    # When the set's is measured
    (output,) = handle(set_ready(KEY, members), context)
    # Then its hits are all of theirs over all of their live time, in product and message
    (manifest,) = products(context, "set-noise")
    hits = SetNoiseResults.model_validate(manifest.results).hits_per_cm2_s
    exposed = sum(event.area_cm2 * event.live_seconds for event in events)
    assert hits.value == pytest.approx(sum(each.hits for each in events) / exposed)
    assert hits.value * exposed == pytest.approx(200, abs=5 * math.sqrt(200))
    # The error is that of so many counts
    assert hits.error * exposed == pytest.approx(math.sqrt(200), rel=0.15)
    assert "hits/cm2/s in flight" in hits.verdict
    headline = output.message.content.headline
    assert (headline["hits_per_cm2_s"], headline["hits_per_cm2_s_error"]) == (hits.value, hits.error)


def test_a_set_does_not_depend_on_which_message_came_first(context, tmp_path):
    # Given a set of which no exposure's noise was measured yet
    members = put_set(context, tmp_path, KEY, 2, hits=30)
    handle(set_ready(KEY, members), context)
    first = products(context, "set-noise")[0].results
    # Then the exposures' products stand, and their own messages find them and are said as always
    assert len(products(context, "exposure-noise")) == 2
    for member in members:
        (output,) = handle(ingested(KEY, member), context)
        assert output.message.content.exposure_id == member.exposure_id
        assert output.message.correlation_id
    assert len(products(context, "exposure-noise")) == 2
    assert first["hits_per_cm2_s"]["value"] > 0


def test_a_set_of_which_nothing_tells_of_hits_has_none(context, tmp_path):
    # Given exposures whose own records are gone
    members = [put_ramp(context.store, tmp_path, KEY, white_ramps(KEY, seed=n), number=n) for n in (1, 2)]
    (output,) = handle(set_ready(KEY, members), context)
    assert output.message.content.headline["hits_per_cm2_s"] is None
    assert products(context, "set-noise")[0].results["hits_per_cm2_s"] is None
