"""Exposures that arrive at ingest, without their pixels: only what the store and the sets see of them."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from services.ingest.plan import ALGORITHM_VERSION, plan_for
from services.ingest.sets import note_expected, sets_at_arrival, sets_at_check
from shared.contracts.messages import (
    Envelope,
    ExposureAnnounced,
    ExposureIngested,
    SetCheck,
    SetMember,
    SetReady,
)
from shared.products.claim import Claim, exposure_claim
from shared.products.ramp import (
    RAMP,
    RampMetadata,
    RejectionMetadata,
    StepRecord,
    configuration_prefix,
    member_of,
)
from shared.runtime.handler import Outgoing, StageContext
from shared.settings.stage import StageSettings
from shared.store.base import ObjectInfo
from shared.store.manifest import MANIFEST, Draft, InputDigest, Manifest, find, product_key
from support.configurations import configuration

KEY = configuration(detector="NRCA3")
SLUG = KEY.slug
START_MJD = 60000.0


class DictStore:
    """A store in this process's memory. `before` is called with each operation and key, first."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.before: Callable[[str, str], None] = lambda operation, key: None
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes) -> ObjectInfo:
        self.before("put", key)
        self.objects[key] = data
        return ObjectInfo(len(data), hashlib.sha256(data).hexdigest())

    def put_file(self, key: str, path: Path, watch: object = None) -> ObjectInfo:
        return self.put(key, path.read_bytes())

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.before("put_if_absent", key)
        with self._lock:
            return self.objects.setdefault(key, data) is data

    def get(self, key: str) -> bytes:
        self.before("get", key)
        return self.objects[key]

    def delete(self, key: str) -> None:
        self.before("delete", key)
        self.objects.pop(key, None)

    def list(self, prefix: str) -> Iterator[str]:
        self.before("list", prefix)
        # A copy at once: other threads may write meanwhile.
        return iter(sorted(key for key in list(self.objects) if key.startswith(prefix)))

    def uri(self, key: str) -> str:
        return f"dict:{key}"

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Exposure:
    """One exposure: `count` is how many its announcement says there are.

    Its ramp was made with the plan's CRDS context unless `context` is given.
    It arrived calibrated if `before` has CRDS_CTX, CAL_VER and references by type.
    If it is rejected without being `dated`, its header did not say when it began.
    """

    name: str
    day: float = 0.0
    integrations: int = 1
    rejected: bool = False
    count: int | None = None
    version: str = ALGORITHM_VERSION
    dated: bool = True
    context: str | None = None
    before: tuple[tuple[str, str], ...] | None = None


class SetResults(BaseModel):
    configuration: str = SLUG
    set_id: str
    exposures: list[str]
    verdict: str = "within"
    comparison: dict[str, str] = {"state": "within"}


class NoiseResults(BaseModel):
    configuration: str = SLUG
    exposure_id: str
    jump_pixels_judged: dict[str, str] = {"verdict": "within"}


@dataclass
class Ingest:
    """Does what ingest does once it has calibrated or refused an exposure."""

    store: Any
    settings: StageSettings
    said: list[SetReady] = field(default_factory=list)

    @property
    def context(self) -> StageContext:
        return StageContext(self.store, self.settings)

    def arrive(self, exposure: Exposure) -> list[SetReady]:
        """Commit what became of an exposure and return the sets that are then complete."""
        return self._ready(self.outgoing(exposure))

    def outgoing(self, exposure: Exposure) -> list[Outgoing]:
        manifest = self.reject(exposure) if exposure.rejected else self.ramp(exposure)
        if exposure.count is not None:
            note_expected(SLUG, exposure.count, exposure.name, self.store)
        return sets_at_arrival(SLUG, manifest, _announced(exposure), self.context)

    def check(self, **said: Any) -> list[SetReady]:
        """Have a `set.check` answered."""
        check = SetCheck(configuration=SLUG, **{"scheduled_at": datetime.now(UTC), **said})
        return self.answer(Envelope.of(check, identity="check"))

    def answer(self, message: Envelope) -> list[SetReady]:
        return self._ready(sets_at_check(message.content, message, self.context))

    def outgoing_of(self, message: Envelope) -> list[Outgoing]:
        """All messages that answer a `set.check`."""
        return sets_at_check(message.content, message, self.context)

    def ramp(self, exposure: Exposure) -> Manifest:
        plan = plan_for([], self.settings, persistence_done=True)
        versions = {**plan.versions, "algorithm": exposure.version}
        if exposure.context is not None:
            versions["crds_context"] = exposure.context
        inputs = [InputDigest(role="exposure", uri=_uri(exposure), sha256=_digest(exposure))]
        start = START_MJD + exposure.day
        before = dict(exposure.before or ())
        results = RampMetadata(
            exposure_id=exposure.name,
            uri=_uri(exposure),
            file=f"{exposure.name}_uncal.fits",
            configuration=SLUG,
            key=KEY,
            integrations=exposure.integrations,
            start_mjd=start,
            end_mjd=start + 0.01,
            date_obs="2023-02-25",
            gain=1.8,
            simulated=True,
            pedigree="SIMULATION",
            steps=[]
            if exposure.before is None
            else [StepRecord(name="superbias", status="already", seconds=0.0)],
            references={name: value for name, value in before.items() if name.islower()},
            persistence_from=None,
            flagged_fraction=0.0,
            jwst_version=plan.versions["jwst"],
            crds_context=plan.context if exposure.context is None else exposure.context,
            calibrated_before={name: value for name, value in before.items() if name.isupper()},
        )
        path = self._path(exposure, product_key(inputs, plan.parameters, versions))
        draft = Draft(self.store, "ramp", path, inputs, plan.parameters, versions)
        entry = draft.add(RAMP, b"")
        member = member_of(results, f"{path}/{MANIFEST}", entry)
        ingested = ExposureIngested(
            configuration=SLUG, key=KEY, member=member, gain=1.8, simulated=True, versions=versions
        )
        return draft.commit(results, [Envelope.of(ingested, identity=path)])

    def reject(self, exposure: Exposure) -> Manifest:
        results = RejectionMetadata(
            exposure_id=exposure.name,
            uri=_uri(exposure),
            file=f"{exposure.name}_uncal.fits",
            configuration=SLUG,
            check="shape",
            reason=f"{exposure.name}_uncal.fits: 3-D data",
            start_mjd=START_MJD + exposure.day if exposure.dated else None,
        )
        path = self._path(exposure, product_key([], {"uri": results.uri}, {}))
        return Draft(self.store, "rejection", path, [], {}, {}).commit(results)

    def claim(self, exposure: Exposure, claimed: datetime | None = None) -> Claim:
        """Leave the claim of an exposure that ingest has begun with."""
        claim = Claim(
            exposure_id=exposure.name, uri=_uri(exposure), file="f", sha256=_digest(exposure), claimed=claimed
        )
        self.store.put(exposure_claim(exposure.name, claim.sha256), claim.model_dump_json().encode())
        return claim

    def noise(self, exposure: Exposure) -> None:
        """Commit the noise of an exposure's ramp."""
        member = self._member(exposure)
        inputs = [InputDigest(role="ramp", uri="u", sha256="00", product=member.product)]
        path = f"noise/{SLUG}/{exposure.name}/{product_key(inputs, {}, {})}"
        Draft(self.store, "exposure-noise", path, inputs, {}, {}).commit(
            NoiseResults(exposure_id=exposure.name)
        )

    def build(self, ready: SetReady, product: str = "reference", parameters: str = "") -> str:
        """Commit a dark reference, or with ``"set-noise"`` the noise, of a set; return its path."""
        stage = "darkref" if product == "reference" else "noise"
        names = [member.exposure_id for member in ready.members]
        path = f"{stage}/{SLUG}/{ready.set_id}/{product_key([], {'as': parameters}, {})}"
        results = SetResults(set_id=ready.set_id, exposures=names)
        Draft(self.store, product, path, [], {}, {}).commit(results)
        return path

    def redate(self, path: str, seconds_ago: float) -> None:
        """Have a product committed some time ago."""
        manifest = find(self.store, path)
        assert manifest is not None
        manifest.created = datetime.now(UTC) - timedelta(seconds=seconds_ago)
        self.store.put(f"{path}/{MANIFEST}", manifest.model_dump_json(by_alias=True).encode())

    def _member(self, exposure: Exposure) -> SetMember:
        content: ExposureIngested = self.ramp(exposure).messages[0].content
        return content.member

    def _path(self, exposure: Exposure, key: str) -> str:
        return f"{configuration_prefix(SLUG)}{exposure.name}/{key}"

    def _ready(self, outgoing: Sequence[Outgoing]) -> list[SetReady]:
        results = [
            message.message.content for message in outgoing if message.message.schema_name == "set.ready"
        ]
        self.said += results
        return results


def names(ready: SetReady) -> frozenset[str]:
    """The exposures of a set."""
    return frozenset(member.exposure_id for member in ready.members)


def _uri(exposure: Exposure) -> str:
    return f"s3://archive/darks/{exposure.name}_uncal.fits"


def _digest(exposure: Exposure) -> str:
    return hashlib.sha256(exposure.name.encode()).hexdigest()


def _announced(exposure: Exposure) -> Envelope:
    content = ExposureAnnounced(
        exposure_id=exposure.name, uri=_uri(exposure), expected_exposures=exposure.count
    )
    return Envelope.of(content, identity=exposure.name)
