"""The catalog on every kind of store: what the commands say without it, in a few requests."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from nircam_darks.operations.coverage import coverage_matrix
from nircam_darks.operations.stability import store_stability
from nircam_darks.operations.status import store_status
from shared.catalog.packs import Catalog, stored_by_catalog
from shared.catalog.waiting import WaitingSurvey
from shared.runtime.metrics import Metrics
from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.counting import CountingStore
from support.report_store import FilledStore, a_key

NOW = datetime(2026, 3, 2, tzinfo=UTC)
SETTINGS = StageSettings(store="s3://test")


def fill(store: Store) -> None:
    """Commit exposures of two configurations, their noise, and what was made of their sets."""
    filled = FilledStore(store, Path("/files"))
    for detector in ("NRCALONG", "NRCB1"):
        key = a_key(detector=detector)
        names = [f"jw{detector}{n}" for n in range(8)]
        for n, name in enumerate(names):
            filled.ramp(key, name, n, integrations=2)
            filled.exposure_noise(key, name, n)
        filled.reference(key, names, set_id="5e7")
        filled.set_noise(key, names, set_id="5e7")
    filled.reject("bad.fits", "jwbad", "shape", "3-D data")


def answers(store: Store) -> tuple[str, ...]:
    """What the three commands say."""
    return (
        store_status(stored_by_catalog(store), SETTINGS, 10, NOW).model_dump_json(),
        coverage_matrix(store, SETTINGS, NOW).model_dump_json(),
        store_stability(store).model_dump_json(),
    )


@pytest.mark.parametrize("packed", [True, False])
def test_the_commands_say_the_same_with_a_catalog_in_few_requests(store: Store, packed: bool) -> None:
    # Given a store, what is said of its manifests, and its catalog
    counted = CountingStore(store)
    fill(counted)
    expected = answers(counted)
    Catalog(counted).remake()
    assert answers(counted) == expected
    # When more comes, in packs or not yet
    filled = FilledStore(counted, Path("/files"))
    filled.ramp(a_key(), "jwlater", 9)
    filled.exposure_noise(a_key(), "jwlater", 9)
    if packed:
        Catalog(counted).pack(fewest=1)
    before = counted.requests
    found = answers(counted)
    # Then each is read with a few requests: marker, marks twice, packs twice, and what has a mark
    assert counted.requests - before <= 3 * (8 + (0 if packed else 2))
    # And they say what the manifests say
    counted.delete("index/catalog-1/whole")
    assert found == answers(counted) != expected


def test_the_survey_takes_a_few_requests(store: Store) -> None:
    counted = CountingStore(store)
    fill(counted)
    # Given what it shows without a catalog, which takes several calls
    plain, quick = Metrics("ingest"), Metrics("ingest")
    slow = WaitingSurvey(plain)
    for _ in range(4):
        slow(counted)
    Catalog(counted).remake()
    before = counted.requests
    # When the store has one
    WaitingSurvey(quick)(counted)
    # Then one call shows the same
    assert counted.requests - before <= 9
    assert quick.waiting() == plain.waiting()
