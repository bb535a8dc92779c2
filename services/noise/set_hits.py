"""The hits of a set: those of all its exposures over all their live time."""

import math
from collections.abc import Sequence

from services.noise.jump_products import JumpEvents
from services.noise.products import Measured
from services.noise.verdicts import judge


def set_hits(exposures: Sequence[JumpEvents]) -> Measured | None:
    """Return the hits/cm2/s of some exposures together; None where nothing was searched.

    The errors of the exposures are independent and add in quadrature.
    """
    exposed = sum(one.area_cm2 * one.live_seconds for one in exposures)
    if exposed <= 0:
        return None
    errors = (one.hits_per_cm2_s_error * one.area_cm2 * one.live_seconds for one in exposures)
    least, most = exposures[0].expected_hits_per_cm2_s
    return judge(
        sum(one.hits for one in exposures) / exposed,
        math.hypot(*errors) / exposed,
        (least + most) / 2,
        (most - least) / 2,
        f"{least:g} to {most:g} hits/cm2/s in flight",
    )
