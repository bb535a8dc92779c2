"""Handlers of benchmarks: one that does nothing, and ours with a stopwatch around them."""

import importlib
import json
import os
import time

from handlers_for_tests import KEY

from shared.messages import Envelope, ExposureIngested, ObjectRef, SetMember
from shared.stage import Outgoing, StageContext

#: Names the file that the seconds of each job are added to.
TIMES = "DARKS_BENCHMARK_TIMES"


def empty(message: Envelope, context: StageContext) -> list[Outgoing]:
    """Do nothing, and say it in one message."""
    said = message.content
    member = SetMember(
        exposure_id=said.exposure_id,
        manifest="ingest/none/manifest.json",
        ramp=ObjectRef(key="ingest/none/ramp.fits", size=1, sha256="0" * 64),
        integrations=1,
        start_mjd=60000.0,
        end_mjd=60000.01,
    )
    ingested = ExposureIngested(
        configuration=KEY.slug, key=KEY, member=member, gain=2.0, simulated=True, versions={}
    )
    return [Outgoing(Envelope.of(ingested, identity=said.exposure_id, cause=message))]


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
    begun = time.perf_counter()
    outgoing: list[Outgoing] = handle(message, context)
    line = json.dumps({"stage": stage, "seconds": time.perf_counter() - begun}) + "\n"
    descriptor = os.open(os.environ[TIMES], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, line.encode())
    os.close(descriptor)
    return outgoing
