"""The empty job of `scale.py`: a fake ramp is committed, and ingest does the rest."""

import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from services.ingest.plan import Plan, plan_for
from services.ingest.sets import note_expected, sets_at_arrival
from shared.catalog.arrival_index import ArrivalIndex, arrival_of
from shared.contracts.messages import Envelope, SetReady
from shared.products.ramp import RAMP, RampMetadata, configuration_prefix
from shared.runtime.handler import Outgoing, StageContext
from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.counting import CountingStore
from shared.store.local import LocalStore
from shared.store.manifest import (
    BuiltProduct,
    Draft,
    InputDigest,
    Manifest,
    ObjectEntry,
    ProductSpec,
    get_or_build,
)
from support.configurations import configuration

#: Names the file that what each job took is added to.
RECORD = "DARKS_BENCHMARK_RECORD"
KEY = configuration(detector="NRCA3")
#: Campaigns of ten exposures within an hour, 17 hours apart: 100,000 exposures are 19 years.
_FIRST, _APART, _EXPOSURE = 52000.0, 0.7, 0.004

#: The plan, once it is known in this process.
_plans: list[Plan] = []


@dataclass
class Campaign:
    """How many exposures there are so far."""

    exposures: int = 0


def handle(message: Envelope, context: StageContext) -> list[Outgoing]:
    """Commit a fake ramp and announce what is complete; note what that took."""
    name = message.content.exposure_id
    store = CountingStore(context.store)
    spec = _spec(name, context.settings)

    def build(draft: Draft) -> BuiltProduct:
        draft.add(RAMP, b"x")
        return BuiltProduct(_results(name, plan_of(context.settings)))

    manifest = get_or_build(store, spec, build, cause=message)
    committed, began = store.requests, time.perf_counter()
    note_expected(KEY.slug, message.content.expected_exposures, name, store)
    here = StageContext(store, context.settings, context.progress)
    outgoing = sets_at_arrival(KEY.slug, manifest, message, here)
    line = {
        "requests": store.requests - committed,
        "seconds": time.perf_counter() - began,
        "memory": psutil.Process().memory_info().rss,
        "sets": sum(isinstance(each.message.content, SetReady) for each in outgoing),
    }
    with Path(os.environ[RECORD]).open("a") as file:
        file.write(json.dumps(line) + "\n")
    return outgoing


def fill(store: Store, settings: StageSettings, number: int) -> None:
    """Write what the index has of an exposure that was ingested before."""
    name = f"jw{number:08d}"
    plan = plan_of(settings)
    index = ArrivalIndex(store, KEY.slug)
    path = f"{configuration_prefix(KEY.slug)}{name}/{number:032x}"
    manifest = Manifest(
        product="ramp",
        path=path,
        inputs=[InputDigest(role="exposure", uri="s3://fake/ramp", sha256=f"{number:064x}")],
        parameters=plan.parameters,
        versions=plan.versions,
        objects=[ObjectEntry(name=RAMP, key=f"{path}/12345678/{RAMP}", size=1, sha256=f"{number:064x}")],
        results=_results(name, plan).model_dump(mode="json"),
        created=datetime.now(UTC),
    )
    arrival = arrival_of(manifest, 10)
    assert arrival is not None
    for key in index.keys_of([arrival]):
        if isinstance(store, LocalStore):
            # Without waiting for the disk, which is no matter of what is measured.
            path = store.root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            store.put(key, b"")


def plan_of(settings: StageSettings) -> Plan:
    """Return the plan of all ramps."""
    if not _plans:
        _plans.append(plan_for([], settings, persistence_done=True))
    return _plans[0]


def _spec(name: str, settings: StageSettings) -> ProductSpec:
    plan = plan_of(settings)
    inputs = [InputDigest(role="exposure", uri="s3://fake/ramp", sha256=name.rjust(64, "0"))]
    return ProductSpec(
        "ramp", f"{configuration_prefix(KEY.slug)}{name}", inputs, plan.parameters, plan.versions
    )


def _results(name: str, plan: Plan) -> RampMetadata:
    number = int(name.removeprefix("jw"))
    start = _FIRST + _APART * (number // 10) + _EXPOSURE * (number % 10)
    return RampMetadata(
        exposure_id=name,
        uri="s3://fake/ramp",
        file=f"{name}_uncal.fits",
        configuration=KEY.slug,
        key=KEY,
        integrations=2,
        start_mjd=start,
        end_mjd=start + _EXPOSURE,
        date_obs="2023-02-25",
        gain=1.8,
        simulated=True,
        pedigree="SIMULATION",
        steps=[],
        references={},
        persistence_from=None,
        flagged_fraction=0.0,
        jwst_version=plan.versions.get("jwst", ""),
        crds_context=plan.versions.get("crds_context", ""),
    )
