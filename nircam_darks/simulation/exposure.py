"""One exposure: charge is collected, read with noise, averaged and digitised, group by group."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nircam_darks.simulation.cosmic_rays import NOTHING, Deposit, draw_deposit, merge, snowball
from nircam_darks.simulation.detector import WELL_MARGIN, SimulatedPixels
from nircam_darks.simulation.noise import ONE_OVER_F, Clocking, ReadNoise
from nircam_darks.simulation.plan import SimulationPlan

#: Largest value of the 16-bit converter.
ADC_MAX = 65535


@dataclass(frozen=True)
class Group:
    """One group as downlinked, with the truth about it.

    Attributes
    ----------
    data : ndarray of uint16, 2D (rows, columns)
        DN.
    deposit : Deposit
        Charge that cosmic rays add to the difference from the previous group (e-).
    hits : int
        Cosmic rays since the previous group.
    saturated : ndarray of int, 1D
        Flat indices of the pixels that the saturation step flags in this group: those at or above their
        saturation level, and their eight neighbours.
    """

    integration: int
    group: int
    data: NDArray[np.uint16]
    deposit: Deposit
    hits: int
    saturated: NDArray[np.intp]


def clocking_of(plan: SimulationPlan) -> Clocking:
    """Return the readout of the plan's frames."""
    rows, columns = plan.shape
    return Clocking(rows, columns, plan.outputs, plan.device.fastaxis, plan.device.slowaxis)


def frames_per_integration(plan: SimulationPlan) -> int:
    """Return the duration of an integration in frame times, with its reset and the gaps."""
    return 1 + plan.ngroups * plan.nframes + (plan.ngroups - 1) * plan.groupgap


def expose(plan: SimulationPlan, pixels: SimulatedPixels, rng: np.random.Generator) -> Iterator[Group]:
    """Yield the groups of one exposure, integration by integration.

    Dark current is Poisson in electrons; the reset leaves kTC noise for the whole integration. Measured
    DN follow from linear DN F by m = 2 F / (1 + sqrt(1 + 4 c F)), the inverse of F = m + c m^2.

    Parameters
    ----------
    rng : numpy.random.Generator
        Used by this exposure only.
    """
    noise = ReadNoise(
        clocking_of(plan),
        pixels.white_noise,
        ONE_OVER_F[plan.device.channel],
        plan.nints * frames_per_integration(plan),
        rng,
    )
    collecting = pixels.science & ~pixels.dead
    snowballs = _draw_snowballs(plan, rng)
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
                for _ in range(snowballs.count((integration, group)) if frame == 0 else 0):
                    deposit = merge([deposit, snowball(collecting, rng)], [1.0, 1.0])
                charge.ravel()[deposit.pixels] += deposit.charge
                hits += deposit.hits
                # Frames before the hit dilute it in the average of its group.
                seen = 1 - frame / plan.nframes
                pending.append((deposit, seen))
                if seen < 1:
                    late.append((deposit, 1 - seen))
                measured = _measured(charge * inverse_gain, four_c)
                measured += pixels.superbias
                np.minimum(measured, well, out=measured)
                measured += noise.frame(clock) * inverse_gain
                total += measured
                clock += 1
            total /= plan.nframes
            np.clip(np.rint(total, out=total), 0, ADC_MAX, out=total)
            data = total.astype(np.uint16)
            yield Group(
                integration=integration,
                group=group,
                data=data,
                deposit=merge(*map(list, zip(*pending, strict=True))) if pending else NOTHING,
                hits=hits,
                saturated=_saturation_flags(data >= pixels.saturation),
            )


def _measured(linear: NDArray[np.float32], four_c: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 2 F / (1 + sqrt(1 + 4 c F)), in place of F."""
    root = four_c * linear
    root += 1
    np.sqrt(root, out=root)
    root += 1
    linear *= 2
    linear /= root
    return linear


def _draw_snowballs(plan: SimulationPlan, rng: np.random.Generator) -> list[tuple[int, int]]:
    # Never in the first group: a jump is only seen as a difference from an earlier group.
    return [
        (int(rng.integers(plan.nints)), int(rng.integers(1, plan.ngroups))) for _ in range(plan.snowballs)
    ]


def _saturation_flags(above: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the flat indices of pixels and of their eight neighbours, ascending, each once."""
    y, x = np.nonzero(above)
    rows, columns = above.shape
    # A few thousand of four million pixels: a dilation of the whole frame takes fifty times as long.
    near = np.array([(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)])
    y, x = y[:, None] + near[:, 0], x[:, None] + near[:, 1]
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    return np.unique(y[inside] * columns + x[inside])
