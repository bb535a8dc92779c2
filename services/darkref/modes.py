"""How a pixel's values over integrations become one: the seam between reference and flight mode."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.darkref.combine import add_first_hits, sigma_clipped_mean
from services.darkref.flight import add_ends, pedestal_free_mean
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
    """A way to combine.

    Attributes
    ----------
    name : str
    combine : Combiner
    add_ends : callable
        Notes the first group of each pixel that is not to be used; see `add_first_hits`.
    ended_by : str
        The flags that it goes by, for people.
    pedestals : bool
        Whether `combine` needs `BandState.pedestal`.
    """

    name: str
    combine: Combiner
    add_ends: Callable[[NDArray[np.uint8], int, NDArray[np.unsignedinteger]], None]
    ended_by: str
    pedestals: bool


MODES = {
    one.name: one
    for one in (
        Mode("reference", sigma_clipped_mean, add_first_hits, "bit 4, JUMP_DET", pedestals=False),
        Mode(
            "flight",
            pedestal_free_mean,
            add_ends,
            "bits 1, 2, 4 and 32: DO_NOT_USE, SATURATED, JUMP_DET, PERSISTENCE",
            pedestals=True,
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
