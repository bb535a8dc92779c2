"""When is a set of exposures complete: a pure decision, the same whoever takes it and when.

Nothing here knows the order in which exposures came. So two workers that both see a set complete
name the same set, and one manifest comes of it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.messages import SetMember


@dataclass(frozen=True)
class ReadySet:
    """A complete set: its id, and its members in time order."""

    set_id: str
    members: tuple[SetMember, ...]

    @property
    def integrations(self) -> int:
        """Integrations of all members."""
        return sum(member.integrations for member in self.members)


def set_id(members: Iterable[SetMember]) -> str:
    """Return the name of a set: the first 16 hex digits of the sha256 of its sorted members.

    Only which exposures they are and what their ramps were made from counts.
    """
    said = "\n".join(sorted(f"{member.exposure_id} {member.product}" for member in members))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def unique_members(members: Iterable[SetMember]) -> list[SetMember]:
    """Return one member an exposure, in time order.

    Of two ramps of one exposure the one whose product key sorts first counts, so that everybody takes
    the same.
    """
    chosen: dict[str, SetMember] = {}
    for member in members:
        standing = chosen.get(member.exposure_id)
        if standing is None or _identity(member) < _identity(standing):
            chosen[member.exposure_id] = member
    return sorted(chosen.values(), key=lambda member: (member.start_mjd, member.exposure_id))


def epochs(members: Iterable[SetMember], gap_days: float) -> list[list[SetMember]]:
    """Split the members of one configuration where more than `gap_days` passes without an exposure.

    Parameters
    ----------
    members : iterable of SetMember
    gap_days : float
        Days from the latest end so far to the next start.

    Returns
    -------
    list of list of SetMember
        In time order; each exposure is in exactly one of them.
    """
    split: list[list[SetMember]] = []
    latest = 0.0
    for member in unique_members(members):
        if not split or member.start_mjd - latest > gap_days:
            split.append([])
            latest = member.end_mjd
        split[-1].append(member)
        latest = max(latest, member.end_mjd)
    return split


def complete_sets(
    members: Iterable[SetMember],
    rejected: int,
    expected: int | None,
    settled: bool,
    final: bool,
    min_integrations: int,
    epoch_gap_days: float,
) -> list[ReadySet]:
    """Return the sets of one configuration that are ready to be combined.

    All are ready when everything that was announced has come, where a rejected exposure will not,
    or when the sender knows that nothing more will. With nothing new for a while, those are ready
    that hold enough.

    Parameters
    ----------
    members : iterable of SetMember
        Ingested so far, in any order; doubles count once.
    rejected : int
        Exposures that were refused.
    expected : int or None
        Exposures announced for the configuration; None if nobody said.
    settled : bool
        Nothing new came for the settling time.
    final : bool
        Nothing is still to come.
    min_integrations : int
        What a set needs when it is only taken as complete.
    epoch_gap_days : float
        See `epochs`.
    """
    split = epochs(members, epoch_gap_days)
    everything = final or _all_came(split, rejected, expected)
    ready = []
    for epoch in split:
        candidate = ReadySet(set_id(epoch), tuple(epoch))
        if everything or (settled and candidate.integrations >= min_integrations):
            ready.append(candidate)
    return ready


def waiting_for(
    members: Iterable[SetMember],
    rejected: int,
    expected: int | None,
    settled: bool,
    final: bool,
    min_integrations: int,
    epoch_gap_days: float,
) -> str | None:
    """Say in words what a configuration still waits for; None if all its sets are ready.

    Parameters are those of `complete_sets`.
    """
    split = epochs(members, epoch_gap_days)
    if not split:
        return f"no exposure was ingested, {rejected} rejected" if rejected else "no exposure was ingested"
    if final or _all_came(split, rejected, expected):
        return None
    came = sum(map(len, split))
    announced = f"{came} of {expected} announced" if expected is not None else f"{came}"
    said = f"{announced} exposures ingested, {rejected} rejected"
    if not settled:
        return f"{said}; more may come"
    short = [
        f"{count} integrations from MJD {epoch[0].start_mjd:.2f}"
        for epoch in split
        if (count := sum(member.integrations for member in epoch)) < min_integrations
    ]
    return f"{said}; too few to combine: {', '.join(short)} (at least {min_integrations})" if short else None


def _all_came(split: Sequence[Sequence[SetMember]], rejected: int, expected: int | None) -> bool:
    return expected is not None and sum(map(len, split)) + rejected >= expected


def _identity(member: SetMember) -> tuple[str, float, float, str]:
    return (member.product, member.start_mjd, member.end_mjd, member.manifest)
