"""Which sets of a configuration can be announced as ready."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from services.ingest.products import RampFacts
from shared.exposure_sets import complete_sets
from shared.messages import SetMember, SetReady
from shared.settings import StageSettings


@dataclass(frozen=True)
class Arrivals:
    """What came of one configuration so far.

    Attributes
    ----------
    ramps : list of (SetMember, RampFacts)
    rejected : set of str
        Exposure ids that were refused.
    newest : datetime or None
        When the last of all came.
    """

    ramps: list[tuple[SetMember, RampFacts]]
    rejected: set[str]
    newest: datetime | None


def ready_sets(
    configuration: str,
    arrivals: Arrivals,
    settings: StageSettings,
    expected: int | None = None,
    final: bool = False,
    as_of: datetime | None = None,
    exposure_ids: Iterable[str] | None = None,
) -> list[SetReady]:
    """Return the `set.ready` of every set that is complete by now.

    Parameters
    ----------
    configuration : str
        Slug of the configuration key.
    arrivals : Arrivals
    settings : StageSettings
    expected : int, optional
        Exposures announced for the configuration.
    final : bool
        Nothing is still to come.
    as_of : datetime, optional
        When this check was scheduled: the configuration is settled if nothing came since.
    exposure_ids : iterable of str, optional
        Only these exposures make up the sets.
    """
    wanted = None if exposure_ids is None else set(exposure_ids)
    ramps = [
        (member, facts) for member, facts in arrivals.ramps if wanted is None or member.exposure_id in wanted
    ]
    came = {member.exposure_id for member, _ in ramps}
    rejected = arrivals.rejected - came if wanted is None else arrivals.rejected & wanted - came
    facts_of = {member.manifest: facts for member, facts in ramps}
    ready = complete_sets(
        [member for member, _ in ramps],
        rejected=len(rejected),
        expected=expected,
        settled=as_of is not None and (arrivals.newest is None or arrivals.newest <= as_of),
        final=final,
        min_integrations=settings.min_integrations,
        epoch_gap_days=settings.epoch_gap_days,
    )
    return [
        SetReady(
            configuration=configuration,
            key=facts_of[one.members[0].manifest].key,
            set_id=one.set_id,
            members=list(one.members),
            gain=median(facts_of[member.manifest].gain for member in one.members),
            simulated=any(facts_of[member.manifest].simulated for member in one.members),
        )
        for one in ready
    ]
