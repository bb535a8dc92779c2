"""A stage small enough to see through, which misbehaves as the announced URI says.

Job processes import it by name: pytest has tests/ among its own paths, services get it by PYTHONPATH.
"""

import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from shared.contracts.messages import Envelope, ExposureAnnounced, ExposureIngested, ObjectRef, SetMember
from shared.errors import BadInput, StoreUnavailable, TransientError
from shared.nircam.configuration import ConfigurationKey
from shared.runtime.handler import Outgoing, StageContext
from shared.store.manifest import Draft, InputDigest, find, product_key

HANDLERS = {"ingest": "support.handlers:handle", "noise": "support.handlers:none"}

KEY = ConfigurationKey(
    detector="NRCA1",
    subarray="SUB64P",
    substrt1=1,
    substrt2=1,
    subsize1=64,
    subsize2=64,
    noutputs=1,
    readpatt="RAPID",
    nframes=1,
    groupgap=0,
    tframe=0.05,
    ngroups=5,
    exp_type="NRC_DARK",
)


class Results(BaseModel):
    exposure_id: str


def announcement(exposure_id: str, does: str = "work") -> Envelope:
    """Return an announcement that makes the handler do `does`."""
    return Envelope.of(ExposureAnnounced(exposure_id=exposure_id, uri=f"test:{does}"), identity=exposure_id)


def attempts(folder: Path, exposure_id: str) -> int:
    """Say how often the handler began with an exposure."""
    try:
        return (folder / f"{exposure_id}.attempts").stat().st_size
    except FileNotFoundError:
        return 0


def computations(folder: Path, exposure_id: str) -> int:
    """Say how often the handler computed it, having found no manifest."""
    try:
        return (folder / f"{exposure_id}.computed").stat().st_size
    except FileNotFoundError:
        return 0


def handle(message: Envelope, context: StageContext) -> list[Outgoing]:
    content = message.content
    folder = context.settings.store.parent
    _, _, what = content.uri.partition(":")
    does, _, argument = what.partition("=")
    _mark(folder / f"{content.exposure_id}.attempts")
    first = attempts(folder, content.exposure_id) == 1
    if does == "environment":
        environment_of(folder, content.exposure_id).write_text(json.dumps(dict(os.environ)))
    if does == "wait":
        _wait_for(released(folder, content.exposure_id))
    if does == "turn":
        context.wait_turn()
    if does == "ill" and not cure(folder).exists():
        context.progress(1, 2, "groups")
        ILLS[argument]()
    _misbehave(does, argument, attempts(folder, content.exposure_id))

    inputs = [InputDigest(role="exposure", uri=content.uri, sha256=content.exposure_id)]
    key = product_key(inputs, {}, {"algorithm": "1"})
    path = f"ingest/{KEY.slug}/{content.exposure_id}/{key}"
    standing = find(context.store, path)
    if standing is not None:
        return [Outgoing(m) for m in standing.messages]
    _mark(folder / f"{content.exposure_id}.computed")
    context.progress(1, 2, "groups")
    draft = Draft(context.store, "ramp", path, inputs, {}, {"algorithm": "1"})
    entry = draft.add("ramp.fits", content.exposure_id.encode())
    if does == "die-before-commit" and first:
        os.kill(os.getpid(), signal.SIGKILL)
    member = SetMember(
        exposure_id=content.exposure_id,
        manifest=f"{path}/manifest.json",
        ramp=ObjectRef(key=entry.key, size=entry.size, sha256=entry.sha256),
        integrations=1,
        start_mjd=60000.0,
        end_mjd=60000.01,
    )
    outgoing = ExposureIngested(
        configuration=KEY.slug, key=KEY, member=member, gain=2.0, simulated=True, versions={}
    )
    manifest = draft.commit(
        Results(exposure_id=content.exposure_id), [Envelope.of(outgoing, identity=key, cause=message)]
    )
    if does == "die-after-commit" and first:
        os.kill(os.getpid(), signal.SIGKILL)
    context.progress(2, 2, "groups")
    if does == "late-progress":
        threading.Timer(0.2, lambda: context.progress(1, 1, "late")).start()
    return [Outgoing(m) for m in manifest.messages]


def cure(folder: Path) -> Path:
    """The file whose being there cures a job told to be ``ill=<one of ILLS>``."""
    return folder / "cured"


def crash_in_c() -> None:
    ctypes.string_at(0)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_nothing() -> None:
    time.sleep(600)


def eat_memory() -> None:
    eaten = []
    while len(eaten) < 500:
        eaten.append(np.ones(1 << 20))
        time.sleep(0.01)


ILLS = {
    "abort": os.abort,
    "segfault": crash_in_c,
    "killed": be_killed,
    "hang": wait_for_nothing,
    "memory": eat_memory,
}


def released(folder: Path, exposure_id: str) -> Path:
    """The file that a job told to ``wait`` waits for."""
    return folder / f"{exposure_id}.released"


def environment_of(folder: Path, exposure_id: str) -> Path:
    """The file into which a job told to say its ``environment`` writes it, as JSON."""
    return folder / f"{exposure_id}.environment.json"


def _wait_for(file: Path) -> None:
    end = time.monotonic() + 60
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.01)


def none(message: Envelope, context: StageContext) -> list[Outgoing]:
    return []


def _misbehave(does: str, argument: str, attempt: int) -> None:
    if does == "sleep":
        time.sleep(float(argument))
    elif does == "hang-once" and attempt == 1:
        time.sleep(600)
    elif does == "transient-until" and attempt < int(argument):
        raise TransientError(f"CRDS did not answer at attempt {attempt}")
    elif does == "store-down-until" and attempt < int(argument):
        raise StoreUnavailable(f"the store did not answer at attempt {attempt}")
    elif does == "reject":
        raise BadInput("shape", "x.fits: 3-D data\nin two lines")
    elif does == "bug":
        raise KeyError("no such keyword")
    elif does == "exit":
        sys.exit("CRDS_PATH is not set")
    elif does == "out-of-memory":
        np.empty(1 << 60, dtype=np.uint8)
    elif does == "grow":
        kept = [np.ones(1 << 22) for _ in range(int(argument))]
        time.sleep(60)
        del kept
    elif does == "disk-full":
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise OSError("Not enough space on disk: requested 10, available 0.") from None
    elif does == "code":
        os._exit(int(argument))
    elif does == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif does == "noise":
        print("printed by the handler")
        logging.getLogger("stpipe.step").warning("logged by stpipe")
        os.write(2, b"written by compiled code\n")


def _mark(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b".")
