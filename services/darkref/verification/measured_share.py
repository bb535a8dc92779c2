"""Whether enough was measured for a mean to be one: per amplifier, up to the last group.

A dark loses pixels and measurements to cosmic rays, saturation and dead outputs. The median of what is left
looks well however little that is, so the loss itself is checked, in every amplifier:

- Unreliable pixels: science pixels with fewer than `min_valid` measurements in the last group, or with
  UNRELIABLE_DARK in DQ. An exposure of 1000 s loses 5 to 10 % of its own pixels to hits at the rate in
  flight, which dithering and other exposures restore. What the dark loses is lost in all of them, so it must
  not be more than that: 10 %. Three integrations of 1000 s lose about 20 %, four 3 %.
- Lost measurements: of the last group, which saturation, dead outputs and, in notebook mode, hits leave with
  the fewest. Beyond 50 %, the mean has fewer than half of the integrations that the header names.

Groups before the last that have fewer measurements than `min_valid` make a pixel unreliable through its DQ.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.nircam.dq import PixelFlag
from shared.products.reference import VerificationCheck

#: Per cent of an amplifier's science pixels that may be unreliable.
UNRELIABLE_LIMIT = 10.0
#: Per cent of its measurements in the last group that may be lost.
LOST_LIMIT = 50.0


def measured_share(
    last: NDArray[np.unsignedinteger],
    integrations: int,
    min_valid: int,
    quality: NDArray[np.uint32] | None,
    science: NDArray[np.bool_],
    amplifiers: Sequence[slice],
) -> list[VerificationCheck]:
    """Check for each amplifier how much of it was measured.

    Parameters
    ----------
    last : ndarray of unsigned int, 2D (y, x)
        Number of measurements of the last group.
    integrations : int
        Of the set: the most there could be.
    min_valid : int
        Fewest measurements of a reliable pixel.
    quality : ndarray of uint32, 2D (y, x), or None
        DQ of the dark; None in notebook mode, which flags nothing.
    science : ndarray of bool, 2D (y, x)
    amplifiers : sequence of slice
        Columns of each output.
    """
    reliable = last >= min_valid
    if quality is not None:
        reliable &= (quality & PixelFlag.UNRELIABLE_DARK.mask) == 0
    checks = []
    for number, columns in enumerate(amplifiers, start=1):
        mine = science[:, columns]
        pixels = int(np.count_nonzero(mine))
        if not pixels:
            # All of them reference pixels: there is nothing that the dark could have measured.
            continue
        share = float(np.count_nonzero(reliable[:, columns] & mine)) / pixels
        kept = float(last[:, columns][mine].mean(dtype=np.float64)) / integrations
        where = f"amplifier {number}"
        checks.append(
            VerificationCheck(
                name="unreliable pixels",
                where=where,
                passed=100 * (1 - share) <= UNRELIABLE_LIMIT,
                value=100 * (1 - share),
                limit=UNRELIABLE_LIMIT,
                unit="%",
                detail=f"{100 * share:.4g} % of {pixels} science pixels are reliable: {min_valid} or more "
                "measurements (--min-valid) in the last group and no UNRELIABLE_DARK; more exposures help",
            )
        )
        checks.append(
            VerificationCheck(
                name="lost measurements",
                where=where,
                passed=100 * (1 - kept) <= LOST_LIMIT,
                value=100 * (1 - kept),
                limit=LOST_LIMIT,
                unit="%",
                detail=f"the last group has {100 * kept:.4g} % of the measurements of {integrations} "
                "integrations; look for a dead output, or leave out the exposures that lost most",
            )
        )
    return checks
