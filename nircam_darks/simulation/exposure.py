"""One exposure: charge collected, read with noise, averaged and digitised, group by group."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from services.simulation.cosmic_rays import NOTHING, Deposit, draw_deposit, merge, snowball
from services.simulation.detector import WELL_MARGIN, Pixels
from services.simulation.noise import PINK, Clocking, ReadNoise
from services.simulation.plan import SimulationPlan

#: Highest number of the 16-bit converter.
ADC_MAX = 65535


@dataclass(frozen=True)
class Group:
    """One group as it is downlinked, and what is known of it.

    Attributes
    ----------
    data : ndarray of uint16, 2D (rows, columns)
        DN.
    deposit : Deposit
        What cosmic rays add to the difference from the group before, e-.
    hits : int
        Cosmic rays since the group before.
    saturated : ndarray of int, 1D
        Flat indices of the pixels that the saturation step flags in this group: at or above their level,
        and their eight neighbours.
    """

    integration: int
    group: int
    data: NDArray[np.uint16]
    deposit: Deposit
    hits: int
    saturated: NDArray[np.intp]


def clocking_of(plan: SimulationPlan) -> Clocking:
    """Return how the plan's frames are read."""
    rows, columns = plan.shape
    return Clocking(rows, columns, plan.outputs, plan.device.fastaxis, plan.device.slowaxis)


def frames_per_integration(plan: SimulationPlan) -> int:
    """Return the frame times of an integration: its reset, its frames and the gaps."""
    return 1 + plan.ngroups * plan.nframes + (plan.ngroups - 1) * plan.groupgap


def expose(plan: SimulationPlan, pixels: Pixels, rng: np.random.Generator) -> Iterator[Group]:
    """Yield the groups of one exposure, integration by integration.

    Dark current is Poisson in electrons; the reset leaves kTC noise for the whole integration. Measured
    DN follow from linear DN F by m = 2 F / (1 + sqrt(1 + 4 c F)), the inverse of F = m + c m^2.

    Parameters
    ----------
    rng : numpy.random.Generator
        Of this exposure alone.
    """
    noise = ReadNoise(
        clocking_of(plan),
        pixels.white_noise,
        PINK[plan.device.channel],
        plan.nints * frames_per_integration(plan),
        rng,
    )
    collecting = pixels.science & ~pixels.dead
    snow = _snow(plan, rng)
    inverse_gain = np.float32(1 / pixels.gain)
    four_c = 4 * pixels.nonlinearity
    well = pixels.saturation + np.float32(WELL_MARGIN)
    clock = 0
    for integration in range(plan.nints):
        clock += 1
        charge = np.float32(pixels.ktc) * rng.standard_normal(plan.shape, dtype=np.float32)
        late: list[tuple[Deposit, float]] = []
        for group in range(plan.ngroups):
            pending, late, total = late, [], np.zeros(plan.shape, np.float32)
            hits = 0
            for frame in range(plan.nframes):
                gap = plan.groupgap if frame == 0 and group else 0
                clock += gap
                seconds = (1 + gap) * plan.tframe
                charge += rng.poisson(pixels.rate * np.float32(seconds))
                deposit = draw_deposit(collecting, plan.hit_rate, seconds, plan.scene, rng)
                for _ in range(snow.count((integration, group)) if frame == 0 else 0):
                    deposit = merge([deposit, snowball(collecting, rng)], [1.0, 1.0])
                charge.ravel()[deposit.pixels] += deposit.charge
                hits += deposit.hits
                # Frames before the hit keep the group's average from rising by all of it at once.
                seen = 1 - frame / plan.nframes
                pending.append((deposit, seen))
                if seen < 1:
                    late.append((deposit, 1 - seen))
                linear = charge * inverse_gain
                measured = 2 * linear / (1 + np.sqrt(1 + four_c * linear))
                measured += pixels.superbias
                np.minimum(measured, well, out=measured)
                measured += noise.frame(clock) * inverse_gain
                total += measured
                clock += 1
            data = np.clip(np.rint(total / plan.nframes), 0, ADC_MAX).astype(np.uint16)
            yield Group(
                integration=integration,
                group=group,
                data=data,
                deposit=merge(*map(list, zip(*pending, strict=True))) if pending else NOTHING,
                hits=hits,
                saturated=_flagged_saturated(data >= pixels.saturation),
            )


def _snow(plan: SimulationPlan, rng: np.random.Generator) -> list[tuple[int, int]]:
    # Never in the first group: a jump needs a group before it to be seen.
    return [
        (int(rng.integers(plan.nints)), int(rng.integers(1, plan.ngroups))) for _ in range(plan.snowballs)
    ]


def _flagged_saturated(above: NDArray[np.bool_]) -> NDArray[np.intp]:
    if not above.any():
        return np.empty(0, np.intp)
    grown: NDArray[np.bool_] = ndimage.binary_dilation(above, np.ones((3, 3), bool))
    return np.flatnonzero(grown)
