"""What the index says of a ramp or a rejection, and the key that says it.

An entry of the index is an empty object: all that forming a set asks of an exposure is in its key. The key
lies in the folder of each stretch of ten days that the exposure touches:

    <dd>/<dd>/<start>~<exposure>~<end>~<count>~<kind>/<the rest>

where the kind is ``p`` for a ramp, ``r`` for a rejection, and ``m`` for what only its manifest can say.
`shared.catalog.arrival_index` lists and writes the keys; nothing here reads a store.
"""

import base64
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.contracts.messages import ObjectRef, SetMember
from shared.products.ramp import RAMP, RampDelivery, configuration_prefix
from shared.store.manifest import MANIFEST

#: Folder of the exposures that every epoch has to look at.
ANY_TIME = "any/"
#: Between the fields of a key. No exposure id and no number has it.
_BETWEEN = "~"
_UNDATED = "u"
#: MJD 0 to 100000 are the years 1858 to 2132; what claims to lie outside is listed with every epoch.
LAST_DAY = 100_000
#: An exposure that claims to last longer is listed with every epoch, too.
_LONGEST_DAYS = 400.0
#: Longest part of a key that file systems take, in bytes.
_LONGEST_PART = 250
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHA256 = re.compile(r"[0-9a-f]{64}")

#: An exposure's start and end, MJD.
Span = tuple[float, float]


@dataclass(frozen=True)
class IndexedRamp:
    """What the index knows of a ramp; `made` is the digest of how it was made, see `HowRampWasMade`."""

    member: SetMember
    delivery: RampDelivery
    made: str
    gain: float
    simulated: bool


@dataclass(frozen=True)
class Arrival:
    """A ramp or a rejection of an exposure, as the index has it.

    Attributes
    ----------
    path : str
        Of the product.
    created : datetime
        When it was committed.
    span : (float, float) or None
        Start and end of the exposure, MJD; of a rejection, the start twice, or None if it is not known.
    count : int
        The largest number of exposures that was announced with this exposure; 0 if none was.
    ramp : IndexedRamp or None
        None of a rejection.
    """

    exposure_id: str
    path: str
    created: datetime
    span: Span | None
    count: int = 0
    ramp: IndexedRamp | None = None


def is_usable(span: Span) -> bool:
    """Return whether entries can be sorted by the time of an exposure."""
    start, end = span
    return 0 <= start <= end < LAST_DAY and end - start <= _LONGEST_DAYS


def floor_days(day: float, stride: int) -> int:
    """Return the first day (MJD) of the stretch of `stride` days that holds a time."""
    return math.floor(day / stride) * stride


def days_prefix(day: int, stride: int) -> str:
    """Return what the folders of a stretch of 10, 100, 1000 or 10 000 days begin with."""
    digits = f"{day:05d}"
    ends = {
        10: f"{digits[:2]}/{digits[2:4]}/",
        100: f"{digits[:2]}/{digits[2]}",
        1000: f"{digits[:2]}/",
        10_000: digits[0],
    }
    return ends[stride]


def folders_of_span(span: Span | None) -> list[str]:
    """Return the folder of each stretch of ten days that an exposure touches."""
    if span is None or not is_usable(span):
        return [ANY_TIME]
    days = range(floor_days(span[0], 10), floor_days(span[1], 10) + 1, 10)
    return [f"{day:05d}"[:2] + "/" + f"{day:05d}"[2:4] + "/" for day in days]


def entry_name(arrival: Arrival) -> str:
    """Return the end of an arrival's key: two parts, since a file system limits the length of one."""
    start, end = map(repr, arrival.span) if arrival.span is not None else (_UNDATED, _UNDATED)
    common = [start, arrival.exposure_id, end, str(arrival.count)]
    created = str(_microseconds(arrival.created))
    product = arrival.path.rpartition("/")[2]
    usual = arrival.path.split("/")[2:] == [arrival.exposure_id, product]
    fields = _ramp_fields(arrival) if arrival.ramp is not None else [product, created]
    if usual and fields is not None and len(rest := _BETWEEN.join(fields)) <= _LONGEST_PART:
        return f"{_BETWEEN.join([*common, 'r' if arrival.ramp is None else 'p'])}/{rest}"
    return f"{_BETWEEN.join([*common, 'm'])}/{_text(arrival.path)}{_BETWEEN}{created}"


def _ramp_fields(arrival: Arrival) -> list[str] | None:
    """Return what a key says of a ramp; None if only its manifest can say it."""
    ramp = arrival.ramp
    assert ramp is not None
    member, delivery = ramp.member, ramp.delivery
    draft, _, name = member.ramp.key.removeprefix(f"{arrival.path}/").partition("/")
    revision = "" if delivery.revision == arrival.path else delivery.revision
    if name != RAMP or not (revision == "" or _SHA256.fullmatch(revision)):
        return None
    return [
        *(member.product, draft, str(member.ramp.size)),
        *(member.ramp.sha256, str(member.integrations), repr(ramp.gain), str(int(ramp.simulated)), ramp.made),
        # The first half orders and tells apart revisions as well as the whole.
        *(revision[:32], str(delivery.steps_done), str(_microseconds(arrival.created))),
        _text(delivery.file_date),
    ]


def entry_of(parts: list[str], configuration: str, read_manifest: Callable[[str, int], Arrival]) -> Arrival:
    """Return the arrival of a key, whose last two parts `entry_name` has written.

    Parameters
    ----------
    parts : list of str
        The key, split at its slashes.
    configuration : str
        Slug of the configuration key.
    read_manifest : callable
        Called with path and announced number of a product that no key can hold.

    Raises
    ------
    ValueError, IndexError
        If nothing that `entry_name` writes looks so.
    """
    head, rest = parts[-2:]
    start, exposure_id, end, count, kind = head.split(_BETWEEN)
    fields = rest.split(_BETWEEN)
    if kind == "m":
        return read_manifest(_of_text(fields[0]), int(count))
    path = f"{configuration_prefix(configuration)}{exposure_id}/{fields[0]}"
    span = None if start == _UNDATED else (float(start), float(end))
    if kind == "r":
        return Arrival(exposure_id, path, _time(fields[1]), span, int(count))
    if kind != "p" or span is None:
        raise ValueError(f"an entry of kind {kind!r}")
    _, draft, size, sha256, integrations, gain, simulated, made, revision, steps, created, date = fields
    member = SetMember(
        exposure_id=exposure_id,
        manifest=f"{path}/{MANIFEST}",
        ramp=ObjectRef(key=f"{path}/{draft}/{RAMP}", size=int(size), sha256=sha256),
        integrations=int(integrations),
        start_mjd=span[0],
        end_mjd=span[1],
    )
    delivery = RampDelivery(exposure_id, revision or path, int(steps), _of_text(date), _time(created))
    ramp = IndexedRamp(member, delivery, made, float(gain), simulated == "1")
    return Arrival(exposure_id, path, delivery.created, span, int(count), ramp)


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _time(microseconds: str) -> datetime:
    return _EPOCH + timedelta(microseconds=int(microseconds))


def _text(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _of_text(encoded: str) -> str:
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
