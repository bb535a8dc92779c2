"""Which sets of a configuration can be announced as ready."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from services.ingest.products import RampFacts
from shared.exposure_sets import RejectedExposure, campaigns, complete_sets
from shared.messages import SetMember, SetReady
from shared.settings import StageSettings


@dataclass(frozen=True)
class Arrivals:
    """What came of one configuration so far.

    Attributes
    ----------
    ramps : list of (SetMember, RampFacts)
    rejected : list of RejectedExposure
    newest : datetime or None
        When the last of all came.
    """

    ramps: list[tuple[SetMember, RampFacts]]
    rejected: list[RejectedExposure]
    newest: datetime | None


def ready_sets(
    configuration: str,
    arrivals: Arrivals,
    settings: StageSettings,
    counts: Mapping[str, int],
    final: bool = False,
    as_of: datetime | None = None,
    exposure_ids: Iterable[str] | None = None,
    concerning: str | None = None,
) -> list[SetReady]:
    """Return the `set.ready` of every set that is complete by now.

    Parameters
    ----------
    configuration : str
        Slug of the configuration key.
    arrivals : Arrivals
    settings : StageSettings
    counts : mapping of str to int
        Exposures announced, as `shared.exposure_sets.campaigns` takes them.
    final : bool
        Nothing is still to come.
    as_of : datetime, optional
        When this check was scheduled: the configuration is settled if nothing came since.
    exposure_ids : iterable of str, optional
        Only these exposures make up the sets.
    concerning : str, optional
        Only sets of campaigns that this exposure has a part in.
    """
    wanted = None if exposure_ids is None else set(exposure_ids)
    ramps = [
        (member, facts) for member, facts in arrivals.ramps if wanted is None or member.exposure_id in wanted
    ]
    rejected = [one for one in arrivals.rejected if wanted is None or one.exposure_id in wanted]
    facts_of = {member.manifest: facts for member, facts in ramps}
    came = campaigns([member for member, _ in ramps], rejected, counts, settings.epoch_gap_days)
    ready = complete_sets(
        [campaign for campaign in came if concerning is None or campaign.concerns(concerning)],
        settled=as_of is not None and (arrivals.newest is None or arrivals.newest <= as_of),
        final=final,
        min_integrations=settings.min_integrations,
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
