"""When is a set of exposures complete: a pure decision, the same whoever takes it and when.

Nothing here knows the order in which exposures came. So two workers that both see a set complete
name the same set, and one manifest comes of it.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from shared.messages import SetMember

_Exposure = TypeVar("_Exposure")


@dataclass(frozen=True)
class ReadySet:
    """A set: its id, and its members in time order."""

    set_id: str
    members: tuple[SetMember, ...]

    @property
    def integrations(self) -> int:
        """Integrations of all members."""
        return sum(member.integrations for member in self.members)


@dataclass(frozen=True)
class RejectedExposure:
    """An exposure that was refused; `start_mjd` is None where its header did not say when it began."""

    exposure_id: str
    start_mjd: float | None = None


@dataclass(frozen=True)
class Campaign:
    """Exposures of one configuration with no long gap between them, rejected ones among them.

    Attributes
    ----------
    sets : tuple of ReadySet
        Its members, split where more than the gap passes without one of them: one set, except where
        only rejected exposures bridge a gap; none if all were rejected.
    rejected : frozenset of str
        Ids of the exposures that will not come.
    expected : int or None
        The largest count that was announced with any of its exposures; None if nobody said.
    """

    sets: tuple[ReadySet, ...]
    rejected: frozenset[str]
    expected: int | None

    @property
    def ingested(self) -> int:
        """Exposures of all its sets."""
        return sum(len(one.members) for one in self.sets)

    @property
    def all_came(self) -> bool:
        """Whether everything that was announced has come or was refused."""
        return self.expected is not None and self.ingested + len(self.rejected) >= self.expected

    def concerns(self, exposure_id: str) -> bool:
        """Say whether an exposure has a part in when this campaign is complete."""
        return exposure_id in self.rejected or any(
            member.exposure_id == exposure_id for one in self.sets for member in one.members
        )


@dataclass(frozen=True)
class BuiltSet:
    """A product that was made of a set, as far as it matters which of several counts.

    Attributes
    ----------
    name : str
        Tells it from every other, such as the product's path.
    exposures : frozenset of str
        Ids of its members.
    created : datetime
        When the product was committed.
    rejected : bool
        Whether it failed its verification: it then takes nobody's place.
    """

    name: str
    configuration: str
    exposures: frozenset[str]
    created: datetime
    rejected: bool = False


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


def split_at_gaps(
    exposures: Iterable[_Exposure], span: Callable[[_Exposure], tuple[float, float]], gap_days: float
) -> list[list[_Exposure]]:
    """Split exposures where more than `gap_days` passes without one.

    Parameters
    ----------
    exposures : iterable
    span : callable
        Gives start and end of an exposure, in days.
    gap_days : float
        Days from the latest end so far to the next start.

    Returns
    -------
    list of list
        In time order; each exposure is in exactly one of them.
    """
    split: list[list[_Exposure]] = []
    latest = 0.0
    for exposure in sorted(exposures, key=lambda exposure: span(exposure)[0]):
        start, end = span(exposure)
        if not split or start - latest > gap_days:
            split.append([])
            latest = end
        split[-1].append(exposure)
        latest = max(latest, end)
    return split


def epochs(members: Iterable[SetMember], gap_days: float) -> list[list[SetMember]]:
    """Split the members of one configuration as `split_at_gaps` does; doubles count once."""
    return split_at_gaps(unique_members(members), lambda member: (member.start_mjd, member.end_mjd), gap_days)


def campaigns(
    members: Iterable[SetMember],
    rejected: Iterable[RejectedExposure],
    counts: Mapping[str, int],
    epoch_gap_days: float,
) -> list[Campaign]:
    """Form the campaigns of one configuration from what came of it.

    A rejected exposure of which nobody knows when it began counts as rejected in every campaign, as it
    may have been missing there; the count that was announced with it counts in none.

    Parameters
    ----------
    members : iterable of SetMember
        Ingested so far, in any order; doubles count once.
    rejected : iterable of RejectedExposure
        One of which there is a member too is not taken as rejected.
    counts : mapping of str to int
        By exposure: how many exposures its campaign has, as announced with it.
    epoch_gap_days : float
        See `split_at_gaps`.
    """
    chosen = unique_members(members)
    came = {member.exposure_id for member in chosen}
    starts: dict[str, float] = {}
    undated: set[str] = set()
    for one in rejected:
        if one.exposure_id in came:
            continue
        if one.start_mjd is None:
            undated.add(one.exposure_id)
        else:
            # Of two files of one exposure the earlier start counts, whichever was refused first.
            starts[one.exposure_id] = min(one.start_mjd, starts.get(one.exposure_id, one.start_mjd))
    undated -= starts.keys()
    spans = {name: (start, start) for name, start in starts.items()}
    spans |= {member.exposure_id: (member.start_mjd, member.end_mjd) for member in chosen}
    split = split_at_gaps(spans, spans.__getitem__, epoch_gap_days)
    if undated and not split:
        split = [[]]
    found = []
    for names in map(frozenset, split):
        within = epochs((member for member in chosen if member.exposure_id in names), epoch_gap_days)
        found.append(
            Campaign(
                sets=tuple(ReadySet(set_id(epoch), tuple(epoch)) for epoch in within),
                rejected=(names & starts.keys()) | undated,
                expected=max((counts[name] for name in names & counts.keys()), default=None),
            )
        )
    return found


def complete_sets(
    came: Iterable[Campaign], settled: bool, final: bool, min_integrations: int
) -> list[ReadySet]:
    """Return the sets of one configuration that are ready to be combined.

    Those of a campaign are ready when everything that was announced for it has come, where a rejected
    exposure will not; all are, when the sender knows that nothing more will come. With nothing new for
    a while, those are ready that hold enough.

    Parameters
    ----------
    came : iterable of Campaign
    settled : bool
        Nothing new came for the settling time.
    final : bool
        Nothing is still to come.
    min_integrations : int
        What a set needs when it is only taken as complete.
    """
    return [
        one
        for campaign in came
        for one in campaign.sets
        if final or campaign.all_came or (settled and one.integrations >= min_integrations)
    ]


def waiting_for(came: Sequence[Campaign], settled: bool, final: bool, min_integrations: int) -> str | None:
    """Say in words what a configuration still waits for; None if all its sets are ready.

    Parameters are those of `complete_sets`.
    """
    begun = [campaign for campaign in came if campaign.sets]
    if not begun:
        rejected = len({name for campaign in came for name in campaign.rejected})
        return f"no exposure was ingested, {rejected} rejected" if rejected else "no exposure was ingested"
    said = []
    for campaign in begun:
        if final or campaign.all_came:
            continue
        short = [
            f"{one.integrations} integrations from MJD {one.members[0].start_mjd:.2f}"
            for one in campaign.sets
            if one.integrations < min_integrations
        ]
        if settled and not short:
            continue
        when = f"from MJD {campaign.sets[0].members[0].start_mjd:.2f}: " if len(begun) > 1 else ""
        count = str(campaign.ingested)
        announced = count if campaign.expected is None else f"{count} of {campaign.expected} announced"
        why = (
            f"too few to combine: {', '.join(short)} (at least {min_integrations})"
            if settled
            else "more may come"
        )
        said.append(f"{when}{announced} exposures ingested, {len(campaign.rejected)} rejected; {why}")
    return "; ".join(said) or None


def superseded_by(built: Iterable[BuiltSet]) -> dict[str, str | None]:
    """Say of each product of a set whether it is current, or which one stands in its place.

    A set is superseded by one of the same configuration that holds all its exposures and more; of the
    same exposures built again, the newest counts. A rejected one never takes the place of one that was not.
    Give products of one kind only.

    Returns
    -------
    dict of str to (str or None)
        By name: the name of the current product that supersedes it; None for a current one.
    """
    by_configuration: dict[str, list[BuiltSet]] = {}
    # Those not rejected first, the largest of them, and of those the newest: what supersedes a product comes
    # before it.
    for one in sorted(
        built, key=lambda one: (not one.rejected, len(one.exposures), one.created, one.name), reverse=True
    ):
        by_configuration.setdefault(one.configuration, []).append(one)
    found: dict[str, str | None] = {}
    for ordered in by_configuration.values():
        current: list[BuiltSet] = []
        for one in ordered:
            found[one.name] = next((c.name for c in current if one.exposures <= c.exposures), None)
            if found[one.name] is None:
                current.append(one)
    return found


def _identity(member: SetMember) -> tuple[str, float, float, str]:
    return (member.product, member.start_mjd, member.end_mjd, member.manifest)
