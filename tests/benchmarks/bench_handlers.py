"""Handlers of benchmarks: one that does nothing, and ours with a stopwatch around them."""

import importlib
import json
import os
import time
from dataclasses import replace

from shared.contracts.messages import Envelope, ExposureIngested, ObjectRef, SetMember
from shared.runtime.handler import Outgoing, StageContext
from support.handlers import KEY

#: Names the file that the seconds of each job are added to.
TIMES = "DARKS_BENCHMARK_TIMES"


def empty(message: Envelope, context: StageContext) -> list[Outgoing]:
    """Do nothing, and say it in one message."""
    content = message.content
    member = SetMember(
        exposure_id=content.exposure_id,
        manifest="ingest/none/manifest.json",
        ramp=ObjectRef(key="ingest/none/ramp.fits", size=1, sha256="0" * 64),
        integrations=1,
        start_mjd=60000.0,
        end_mjd=60000.01,
    )
    ingested = ExposureIngested(
        configuration=KEY.slug, key=KEY, member=member, gain=2.0, simulated=True, versions={}
    )
    return [Outgoing(Envelope.of(ingested, identity=content.exposure_id, cause=message))]


def ingest(message: Envelope, context: StageContext) -> list[Outgoing]:
    """Time ingest."""
    return _timed("ingest", message, context)


def noise(message: Envelope, context: StageContext) -> list[Outgoing]:
    """Time noise."""
    return _timed("noise", message, context)


def darkref(message: Envelope, context: StageContext) -> list[Outgoing]:
    """Time darkref."""
    return _timed("darkref", message, context)


def _timed(stage: str, message: Envelope, context: StageContext) -> list[Outgoing]:
    # Loading the stage is a worker's start, not the job's own time.
    handle = importlib.import_module(f"services.{stage}.handler").handle
    waited = 0.0

    def wait_turn() -> None:
        nonlocal waited
        start = time.perf_counter()
        context.wait_turn()
        waited += time.perf_counter() - start

    begun = time.perf_counter()
    outgoing: list[Outgoing] = handle(message, replace(context, wait_turn=wait_turn))
    seconds = time.perf_counter() - begun - waited
    record = {"stage": stage, "seconds": seconds, "waited": waited, "end": time.time()}
    line = json.dumps(record) + "\n"
    descriptor = os.open(os.environ[TIMES], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, line.encode())
    os.close(descriptor)
    return outgoing
