"""How a pixel's values over integrations become one: the seam between reference and flight mode."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.darkref.combine import sigma_clipped_mean
from services.darkref.windows import BandState, Combined, Window
from shared.errors import PermanentError


class Combiner(Protocol):
    """What a mode does with a window of samples."""

    def __call__(
        self, window: Window, state: BandState, sigma: float, pixels: slice, into: Combined
    ) -> NDArray[np.int64]:
        """Combine some pixels of a window; see `sigma_clipped_mean`."""
        ...


COMBINERS: dict[str, Combiner] = {"reference": sigma_clipped_mean}


def combiner(mode: str) -> Combiner:
    """Return the combiner of a mode.

    Raises
    ------
    PermanentError
        If this version does not have that mode.
    """
    try:
        return COMBINERS[mode]
    except KeyError:
        raise PermanentError(
            f"darkref mode {mode!r} is not built in this version; use --mode reference (DARKS_MODE=reference)"
        ) from None
