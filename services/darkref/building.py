"""A dark in the making: its file laid out on this machine's disk, and a set's ramps combined into it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.darkref import reference_file
from services.darkref.facts import describe_dark
from services.darkref.modes import Mode
from services.darkref.products import CONTRIBUTIONS
from services.darkref.reference_history import SPARE_LINES
from services.darkref.streaming import CombinedSet, combine_set
from services.darkref.walk import Integration
from services.darkref.windows import WindowPlan, plan
from shared.configuration import ConfigurationKey
from shared.cubes import Cube
from shared.geometry import science_pixels
from shared.messages import SetMember, SetReady
from shared.ramps import Ramp
from shared.settings import StageSettings
from shared.stage import Progress

#: Width of the clip at both ends, in standard deviations: the notebook's.
SIGMA = 3.0

#: Opens the ramps of some members of a set; closed with the context.
OpenRamps = Callable[[Sequence[SetMember]], AbstractContextManager[list[Integration]]]


@dataclass(frozen=True)
class Recipe:
    """How a set is combined.

    Attributes
    ----------
    ready : SetReady
    mode : Mode
    settings : StageSettings
    open_ramps : callable
    progress : callable
    """

    ready: SetReady
    mode: Mode
    settings: StageSettings
    open_ramps: OpenRamps
    progress: Progress


@dataclass(frozen=True)
class CombinedDark:
    """A dark of which all is written but what its pixels are judged by.

    Attributes
    ----------
    path : Path
    places : dict of str to Place
        Where its arrays lie.
    combined : CombinedSet
        Closed with the context.
    windows : WindowPlan
    """

    path: Path
    places: dict[str, reference_file.Place]
    combined: CombinedSet
    windows: WindowPlan

    def measurements(self, key: ConfigurationKey) -> float:
        """Return how many integrations a (group, pixel) is usually the mean of: the last group's median."""
        return float(np.median(self.combined.nmeas.plane(key.ngroups - 1)[science_pixels(key)]))


@dataclass(frozen=True)
class Withheld:
    """An exposure, and a reference that was built without it.

    Attributes
    ----------
    exposure : str
        Its name.
    key : ConfigurationKey
        Its configuration; the same pixels, any readout pattern.
    ramp : Ramp
        As ingest leaves it.
    reference : Path
        The dark without it; the one to be delivered, if that does not have it in.
    measurements : float
        Median number of integrations in a (group, pixel) of that dark.
    """

    exposure: str
    key: ConfigurationKey
    ramp: Ramp
    reference: Path
    measurements: float


@contextmanager
def combined_dark(folder: Path, recipe: Recipe, members: Sequence[SetMember]) -> Iterator[CombinedDark]:
    """Lay out the dark of some of a set's members in a folder, and combine their ramps into it.

    Raises
    ------
    PermanentError
        If a ramp is not there or does not have its configuration's shape.
    """
    ready, mode, settings = recipe.ready, recipe.mode, recipe.settings
    key = ready.key
    count = sum(member.integrations for member in members)
    windows = plan(
        count,
        key.ngroups,
        key.subsize2,
        key.subsize1,
        settings.max_memory,
        settings.max_equivalent_groups,
        mode.pedestals,
    )
    path = folder / reference_file.file_name(key)
    # All of the file is written at once; what its pixels say comes into the header's spare room.
    places = reference_file.lay_out_dark(
        path,
        key,
        describe_dark(ready, members, mode, settings, SIGMA),
        flight=mode.flags_pixels,
        spare_history=SPARE_LINES if mode.flags_pixels else 0,
    )
    nmeas = reference_file.lay_out_contributions(folder / CONTRIBUTIONS, key)
    slopes = (count, key.subsize2, key.subsize1)
    with ExitStack() as stack:
        combined = CombinedSet(
            sci=stack.enter_context(places["SCI"].cube(path, np.float32)),
            err=stack.enter_context(places["ERR"].cube(path, np.float32)),
            nmeas=stack.enter_context(nmeas.cube(folder / CONTRIBUTIONS, np.uint16)),
            slopes=stack.enter_context(Cube(folder / "slopes.raw", slopes, np.float32)),
        )
        with recipe.open_ramps(members) as integrations:
            combine_set(integrations, combined, windows, mode, SIGMA, folder, recipe.progress)
        yield CombinedDark(path, places, combined, windows)


@contextmanager
def built_without_one(
    folder: Path, recipe: Recipe, members: Sequence[SetMember]
) -> Iterator[Withheld | None]:
    """Build the dark without the exposure in the middle of the set's time, to try it on that one.

    Parameters
    ----------
    folder : Path
        For files that are removed again by whoever made it.
    members : sequence of SetMember
        In the order of time.

    Yields
    ------
    Withheld or None
        None of a set of one exposure.
    """
    chosen = members[len(members) // 2]
    rest = [member for member in members if member is not chosen]
    if not rest:
        yield None
        return
    with (
        combined_dark(folder, recipe, rest) as dark,
        recipe.open_ramps([chosen]) as integrations,
    ):
        key = recipe.ready.key
        yield Withheld(chosen.exposure_id, key, integrations[0].ramp, dark.path, dark.measurements(key))
