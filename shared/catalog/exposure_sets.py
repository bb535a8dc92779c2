"""Which exposures form a set, and when that set is complete.

Everything here is a pure function of what was ingested, rejected and announced, not of the order in which
exposures arrived. Two workers that both find a set complete therefore give it the same id, and the store
ends up with one manifest for it.

An *epoch* holds the exposures of one configuration without a gap longer than ``epoch_gap_days``. A *set* is
what is combined into one reference: the ingested exposures of an epoch that were calibrated in one way
(`shared.products.provenance`).
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from shared.contracts.messages import SetMember
from shared.products.provenance import Provenance, provenance_groups

#: An epoch of more exposures is not combined, unless the sender knows that no more will come: it would hold
#: up every message about one of them, and no message could name them all much beyond this.
LARGEST_EPOCH = 5000

_Exposure = TypeVar("_Exposure")


@dataclass(frozen=True)
class ReadySet:
    """A set of exposures: its id, and its members in time order."""

    set_id: str
    members: tuple[SetMember, ...]

    @property
    def integrations(self) -> int:
        """Integrations of all members."""
        return sum(member.integrations for member in self.members)


@dataclass(frozen=True)
class RejectedExposure:
    """An exposure that ingest rejected; `start_mjd` is None where its header does not give a start."""

    exposure_id: str
    start_mjd: float | None = None


@dataclass(frozen=True)
class Epoch:
    """The exposures of one configuration between two long gaps, rejected ones included.

    Attributes
    ----------
    sets : tuple of ReadySet
        The ingested exposures, by how they were calibrated, and split at long gaps between them. This is one
        set, unless their provenance differs or a rejected exposure lies in a gap; it is empty if every
        exposure was rejected.
    rejected : frozenset of str
        Ids of the rejected exposures.
    expected : int or None
        The largest number of exposures announced with any exposure of the epoch; None if no number was
        announced.
    outdated : tuple of SetMember
        Exposures that have only a ramp that would be made differently today, in time order. A set of the
        others would hold a part of the epoch.
    """

    sets: tuple[ReadySet, ...]
    rejected: frozenset[str]
    expected: int | None
    outdated: tuple[SetMember, ...] = ()

    @property
    def ingested(self) -> int:
        """Number of ingested exposures."""
        return sum(len(ready.members) for ready in self.sets)

    @property
    def is_complete(self) -> bool:
        """Whether every announced exposure was ingested or rejected, and none is to be made again."""
        return not self.outdated and not self.is_too_large and self._all_arrived

    @property
    def is_too_large(self) -> bool:
        """Whether it has more exposures than `LARGEST_EPOCH`."""
        return self.ingested + len(self.rejected) + len(self.outdated) > LARGEST_EPOCH

    @property
    def _all_arrived(self) -> bool:
        arrived = self.ingested + len(self.rejected) + len(self.outdated)
        return self.expected is not None and arrived >= self.expected

    def is_held(self, settled: bool, min_integrations: int) -> bool:
        """Return whether its sets would be ready if its outdated exposures were made again.

        The parameters are those of `complete_sets`.
        """
        if not self.outdated or self.is_too_large:
            return False
        integrations = sum(member.integrations for member in self._members)
        return self._all_arrived or (settled and integrations >= min_integrations)

    @property
    def start(self) -> float | None:
        """Start of its first ingested exposure, MJD; None if there is none."""
        return min((member.start_mjd for member in self._members), default=None)

    @property
    def _members(self) -> tuple[SetMember, ...]:
        return (*(member for ready in self.sets for member in ready.members), *self.outdated)

    def concerns(self, exposure_id: str) -> bool:
        """Return whether an exposure, ingested or rejected, belongs to this epoch."""
        return exposure_id in self.rejected or any(
            member.exposure_id == exposure_id for member in self._members
        )


@dataclass(frozen=True)
class BuiltSet:
    """A product made from a set, reduced to what decides which of several products is current.

    Attributes
    ----------
    name : str
        Identifies the product, such as its path.
    exposures : frozenset of str
        Ids of the set's exposures.
    created : datetime
        When the product was committed.
    withheld : bool
        Whether its verification held or rejected it; such a product supersedes none that passed.
    """

    name: str
    configuration: str
    exposures: frozenset[str]
    created: datetime
    withheld: bool = False


def set_id(members: Iterable[SetMember]) -> str:
    """Return the id of a set: the first 16 hex digits of the sha256 of its sorted members.

    The id depends on the exposure ids and on the product keys of their ramps, and on nothing else.
    """
    identity = "\n".join(sorted(f"{member.exposure_id} {member.product}" for member in members))
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def unique_members(members: Iterable[SetMember]) -> list[SetMember]:
    """Return one member per exposure, in time order.

    If an exposure has two ramps, every worker takes the one whose product key sorts first.
    """
    chosen: dict[str, SetMember] = {}
    for member in members:
        other = chosen.get(member.exposure_id)
        if other is None or _identity(member) < _identity(other):
            chosen[member.exposure_id] = member
    return in_time_order(chosen.values())


def in_time_order(members: Iterable[SetMember]) -> list[SetMember]:
    """Return members by the start of their exposures, and by id where they start together.

    Sums of floating-point numbers depend on their order, and the members of a message may come in any.
    """
    return sorted(members, key=lambda member: (member.start_mjd, member.exposure_id))


def split_at_gaps(
    exposures: Iterable[_Exposure], span: Callable[[_Exposure], tuple[float, float]], gap_days: float
) -> list[list[_Exposure]]:
    """Split exposures into groups wherever more than `gap_days` pass without an exposure.

    Parameters
    ----------
    exposures : iterable
    span : callable
        Returns the start and the end of an exposure, in days.
    gap_days : float
        Longest gap within a group, in days from the latest end so far to the next start.

    Returns
    -------
    list of list
        Groups in time order; each exposure is in exactly one of them.

    Examples
    --------
    >>> split_at_gaps([(0.0, 0.1), (0.2, 0.3), (20.0, 20.1)], lambda exposure: exposure, gap_days=10)
    [[(0.0, 0.1), (0.2, 0.3)], [(20.0, 20.1)]]
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


def split_members(members: Iterable[SetMember], gap_days: float) -> list[list[SetMember]]:
    """Split the members of one configuration with `split_at_gaps`; duplicates count once."""
    return split_at_gaps(unique_members(members), lambda member: (member.start_mjd, member.end_mjd), gap_days)


def form_epochs(
    members: Iterable[SetMember],
    rejected: Iterable[RejectedExposure],
    counts: Mapping[str, int],
    epoch_gap_days: float,
    groups: Mapping[str, str] | None = None,
    outdated: Iterable[SetMember] = (),
) -> list[Epoch]:
    """Form the epochs of one configuration.

    A rejected exposure without a known start counts as rejected in every epoch, because any of them may
    be missing it; the number announced with it counts in none.

    Parameters
    ----------
    members : iterable of SetMember
        Exposures ingested so far, in any order; duplicates count once.
    rejected : iterable of RejectedExposure
        Exposures rejected so far; those that are also among `members` are ignored.
    counts : mapping of str to int
        By exposure id: the number of exposures announced for its epoch.
    epoch_gap_days : float
        See `split_at_gaps`.
    groups : mapping of str to str, optional
        By manifest of the members: their `shared.products.provenance.provenance_groups`. Members of different
        groups are in different sets of the same epoch.
    outdated : iterable of SetMember, optional
        Exposures that have only a ramp that would be made differently today; those that are also among
        `members` are ignored.

    Returns
    -------
    list of Epoch
        In time order.
    """
    chosen = unique_members(members)
    ingested = {member.exposure_id for member in chosen}
    older = [member for member in unique_members(outdated) if member.exposure_id not in ingested]
    ingested |= {member.exposure_id for member in older}
    starts: dict[str, float] = {}
    undated: set[str] = set()
    for exposure in rejected:
        name, start = exposure.exposure_id, exposure.start_mjd
        if name in ingested:
            continue
        if start is None:
            undated.add(name)
        else:
            # Two files of one exposure may disagree: the earlier start counts, whichever was rejected first.
            starts[name] = min(start, starts.get(name, start))
    undated -= starts.keys()
    spans = {name: (start, start) for name, start in starts.items()}
    spans |= {member.exposure_id: (member.start_mjd, member.end_mjd) for member in (*chosen, *older)}
    split = split_at_gaps(spans, spans.__getitem__, epoch_gap_days)
    if undated and not split:
        split = [[]]
    # A configuration may have ten thousand epochs: each exposure is looked at once, not in each of them.
    number_of = {name: number for number, names in enumerate(split) for name in names}
    chosen_in, older_in = (_by_epoch(members, number_of, len(split)) for members in (chosen, older))
    epochs = []
    for names, in_epoch, outdated_in_epoch in zip(map(frozenset, split), chosen_in, older_in, strict=True):
        by_group: dict[str, list[SetMember]] = defaultdict(list)
        for member in in_epoch:
            by_group[(groups or {}).get(member.manifest, "")].append(member)
        within = [part for alike in by_group.values() for part in split_members(alike, epoch_gap_days)]
        within.sort(key=lambda part: (part[0].start_mjd, part[0].exposure_id))
        epochs.append(
            Epoch(
                sets=tuple(ReadySet(set_id(exposures), tuple(exposures)) for exposures in within),
                rejected=(names & starts.keys()) | undated,
                expected=max((counts[name] for name in names & counts.keys()), default=None),
                outdated=tuple(outdated_in_epoch),
            )
        )
    return epochs


def _by_epoch(
    members: Iterable[SetMember], number_of: Mapping[str, int], epochs: int
) -> list[list[SetMember]]:
    sorted_out: list[list[SetMember]] = [[] for _ in range(epochs)]
    for member in members:
        sorted_out[number_of[member.exposure_id]].append(member)
    return sorted_out


def epoch_groups(
    members: Iterable[SetMember], provenances: Mapping[str, Provenance], gap_days: float
) -> dict[str, str]:
    """Return which members may be combined, see `shared.products.provenance.provenance_groups`.

    Only members without a gap between them decide about each other, so that a set can be formed without the
    rest of its configuration.

    Parameters
    ----------
    members : iterable of SetMember
    provenances : mapping of str to Provenance
        By manifest of the member.
    gap_days : float
        See `split_at_gaps`.

    Returns
    -------
    dict of str to str
        By manifest: the group.
    """
    groups: dict[str, str] = {}
    for epoch in split_members(members, gap_days):
        known = {each.manifest for each in epoch} & provenances.keys()
        groups |= provenance_groups({manifest: provenances[manifest] for manifest in known})
    return groups


def complete_sets(
    epochs: Iterable[Epoch], settled: bool, final: bool, min_integrations: int
) -> list[ReadySet]:
    """Return the sets of one configuration that are ready to be combined.

    The sets of an epoch are ready once every announced exposure was ingested or rejected, or if the sender
    knows that no more will come. After the settling time, sets with enough integrations are ready too. An
    epoch with outdated exposures, or with too many, has none that is ready, unless the sender knows better.

    Parameters
    ----------
    epochs : iterable of Epoch
    settled : bool
        Whether nothing arrived during the settling time.
    final : bool
        Whether the sender knows that no exposure is still to come.
    min_integrations : int
        Integrations that a set needs if it is taken as complete only because it settled.
    """
    return [
        ready
        for epoch in epochs
        for ready in epoch.sets
        if final
        or epoch.is_complete
        or (
            settled
            and not epoch.outdated
            and not epoch.is_too_large
            and ready.integrations >= min_integrations
        )
    ]


def arrivals_token(paths: Iterable[str]) -> str:
    """Return what stands for the arrival of these products and of no others.

    Two lists of ramps and rejections have the same token only if nothing arrived in between. No clock has a
    part in it, so machines whose clocks differ agree.

    Parameters
    ----------
    paths : iterable of str
        Paths of the ramps and rejections of a configuration, in any order.

    Returns
    -------
    str
        16 hex digits.
    """
    return hashlib.sha256("\n".join(sorted(paths)).encode()).hexdigest()[:16]


def waiting_for(epochs: Sequence[Epoch], settled: bool, final: bool, min_integrations: int) -> str | None:
    """Return in words what a configuration is waiting for, or None if all its sets are ready.

    The parameters are those of `complete_sets`.
    """
    begun = [epoch for epoch in epochs if epoch.sets]
    if not begun:
        rejected = len({name for epoch in epochs for name in epoch.rejected})
        return f"no exposure was ingested, {rejected} rejected" if rejected else "no exposure was ingested"
    reasons = []
    for epoch in begun:
        if epoch.is_too_large and not final:
            reasons.append(
                f"more than the {LARGEST_EPOCH} exposures that are combined lie from MJD "
                f"{epoch.sets[0].members[0].start_mjd:.2f} on without a gap; set a shorter "
                "DARKS_EPOCH_GAP_DAYS"
            )
            continue
        if final or epoch.is_complete:
            continue
        short = [
            f"{_count(ready.integrations, 'integration')} from MJD {ready.members[0].start_mjd:.2f}"
            for ready in epoch.sets
            if ready.integrations < min_integrations
        ]
        if settled and not short and not epoch.outdated:
            continue
        when = f"from MJD {epoch.sets[0].members[0].start_mjd:.2f}: " if len(begun) > 1 else ""
        if epoch.expected is None:
            ingested = _count(epoch.ingested, "exposure")
        else:
            ingested = f"{epoch.ingested} of {_count(epoch.expected, 'announced exposure')}"
        if epoch.outdated:
            older = _count(len(epoch.outdated), "exposure")
            why = f"{older} of another version or other settings must be made again first"
        elif settled:
            why = f"too few to combine: {', '.join(short)} (at least {min_integrations})"
        else:
            why = "more may come"
        reasons.append(f"{when}{ingested} ingested, {len(epoch.rejected)} rejected; {why}")
    return "; ".join(reasons) or None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def superseded_by(built: Iterable[BuiltSet]) -> dict[str, str | None]:
    """Return for each product of a set the product that supersedes it.

    A product is superseded by one of the same configuration that holds all its exposures and more; among
    products of the same exposures the newest counts. One that is held or
    rejected never supersedes one that passed.

    Parameters
    ----------
    built : iterable of BuiltSet
        Products of one kind only.

    Returns
    -------
    dict of str to (str or None)
        By name: the name of the current product that supersedes it, or None if it is current itself.
    """
    by_configuration: dict[str, list[BuiltSet]] = {}
    # Accepted before withheld, then larger before smaller, then newer before older: a product comes after
    # everything that may supersede it.
    for product in sorted(
        built,
        key=lambda product: (not product.withheld, len(product.exposures), product.created, product.name),
        reverse=True,
    ):
        by_configuration.setdefault(product.configuration, []).append(product)
    superseded: dict[str, str | None] = {}
    for ordered in by_configuration.values():
        current: list[BuiltSet] = []
        # Only a product that shares an exposure can hold all of them.
        sharing: dict[str, list[BuiltSet]] = {}
        for product in ordered:
            some = next(iter(product.exposures), None)
            others = current if some is None else sharing.get(some, [])
            successor = next((c.name for c in others if product.exposures <= c.exposures), None)
            superseded[product.name] = successor
            if successor is None:
                current.append(product)
                for exposure in product.exposures:
                    sharing.setdefault(exposure, []).append(product)
    return superseded


def _identity(member: SetMember) -> tuple[str, float, float, str]:
    return (member.product, member.start_mjd, member.end_mjd, member.manifest)
