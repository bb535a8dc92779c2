"""How a pixel's values over integrations become one: the seam between reference and flight mode."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.darkref.combine import add_first_hits, sigma_clipped_mean
from services.darkref.flight import add_ends, pedestal_free_mean
from services.darkref.reference_history import (
    STANDARD_DEVIATION,
    STANDARD_ERROR,
    Making,
    flight_history,
    reference_history,
)
from services.darkref.small_samples import clip_in_words
from services.darkref.windows import BandState, Combined, Window
from shared.errors import PermanentError


class Combiner(Protocol):
    """What a mode does with a window of samples."""

    def __call__(
        self, window: Window, state: BandState, sigma: float, pixels: slice, into: Combined
    ) -> NDArray[np.int64]:
        """Combine some pixels of a window; see `sigma_clipped_mean` and `pedestal_free_mean`."""
        ...


@dataclass(frozen=True)
class Mode:
    """A way to combine, and what follows from it for the file that comes of it.

    Attributes
    ----------
    name : str
    combine : Combiner
    add_ends : callable
        Notes the first group of each pixel that is not to be used; see `add_first_hits`.
    ended_by : str
        The flags that it goes by, for people.
    pedestals : bool
        Whether each integration's own pedestal is taken out; `combine` then needs `BandState.pedestal`, and
        the first group is 0.
    flags_pixels : bool
        Whether bad pixels are flagged in DQ. If so, the dark is compared with the one it replaces: a file
        that flags none would have none newly hot.
    errors : str
        What ERR is, for people.
    clip : callable
        Says in a sentence how so many integrations are clipped at a width in sigma.
    history : callable
        Makes HISTORY.
    """

    name: str
    combine: Combiner
    add_ends: Callable[[NDArray[np.uint8], int, NDArray[np.unsignedinteger]], None]
    ended_by: str
    pedestals: bool
    flags_pixels: bool
    errors: str
    clip: Callable[[int, float], str]
    history: Callable[[Making], list[str]]


def _usual_clip(integrations: int, sigma: float) -> str:
    return f"{sigma:g} {STANDARD_DEVIATION}s about the median, at most 5 rounds."


MODES = {
    one.name: one
    for one in (
        Mode(
            "reference",
            sigma_clipped_mean,
            add_first_hits,
            "bit 4, JUMP_DET",
            pedestals=False,
            flags_pixels=False,
            errors=STANDARD_DEVIATION,
            clip=_usual_clip,
            history=reference_history,
        ),
        Mode(
            "flight",
            pedestal_free_mean,
            add_ends,
            "bits 1, 2, 4 and 32: DO_NOT_USE, SATURATED, JUMP_DET, PERSISTENCE",
            pedestals=True,
            flags_pixels=True,
            errors=STANDARD_ERROR,
            clip=clip_in_words,
            history=flight_history,
        ),
    )
}


def mode_named(name: str) -> Mode:
    """Return a mode.

    Raises
    ------
    PermanentError
        If this version does not have it.
    """
    try:
        return MODES[name]
    except KeyError:
        raise PermanentError(
            f"darkref mode {name!r} is not built in this version; use --mode reference (DARKS_MODE=reference)"
        ) from None
