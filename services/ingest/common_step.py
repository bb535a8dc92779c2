"""Finds a step that all pixels of an output take in the same group, and takes it out of the ramp.

A flash of light, or a bias that moves where no reference pixels correct for it, lifts every pixel from one
group on. The jump step flags the group in every pixel: as many hits as there are pixels, and ramps that end
there. It is one event, of which one number is known very well: its height, the median over the pixels of an
output of that group's difference.

**When.** After linearity, before jump. For every output the medians of all differences of the exposure are
compared: with those of the same group of the other integrations if there are three or more; else with all
differences but the first of each integration, which may settle after the reset. A step stands out by
`STANDS_OUT` robust sigmas of these medians, by the noise of one pixel (the jump step cannot flag much below
that), and by twice what the groups before and after it do, since settling takes several groups.

**What follows.** The height is subtracted from SCI of that group and all later ones of the integration, in
the science pixels of that output, so that only the level that the event left behind is gone: ramp and hits
go on as they were. What cannot be taken out is the noise that the event brought with it, such as the shot
noise of its light. Where a group's differences scatter more than those of other groups, a flag that the
jump step raised within `WITHIN` of that larger scatter is taken back, unless it is a neighbour of a hit.
The ramp's manifest and HISTORY name every step with its height. An exposure without such a step is not
changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from shared.nircam.configuration import ConfigurationKey
from shared.nircam.dq import UNUSABLE_GROUP_FLAGS, GroupFlag
from shared.nircam.geometry import amplifiers, science_pixels
from shared.products.ramp import CommonStep
from shared.statistics.medians import median
from shared.statistics.robust import median_and_sigma, robust_sigma

#: Robust sigmas of the medians of differences. Eight of them, as in a ramp of ten groups, may give a sigma
#: that is a third of the true one.
STANDS_OUT = 10.0
#: Scatters of the group's own differences within which a flag is not a hit.
WITHIN = 5.0
#: Fewest medians that can be compared.
_FEWEST = 5
#: Integrations from which on groups are compared with the same group of the others.
_ENOUGH_INTEGRATIONS = 3
#: Pixels of an output that are looked at first: their median is known to a hundredth of a pixel's noise.
_SAMPLE = 16384
#: A group scatters more than the others if its differences do by more than this factor.
_WIDER = 1.05


@dataclass(frozen=True)
class StepSearch:
    """Looks for common steps in the exposures of a configuration.

    Attributes
    ----------
    outputs : list of slice
        Columns of each output.
    science : ndarray of bool, 2D (y, x)
    """

    outputs: Sequence[slice]
    science: NDArray[np.bool_]

    @classmethod
    def of(cls, key: ConfigurationKey) -> "StepSearch":
        """Return the search for a configuration."""
        return cls(amplifiers(key), science_pixels(key))

    def find(self, data: NDArray[np.floating], groupdq: NDArray[np.uint8]) -> list[CommonStep]:
        """Find the common steps of an exposure.

        Parameters
        ----------
        data : ndarray, 4D (integrations, groups, y, x)
            After linearity, DN.
        groupdq : ndarray, 4D
        """
        integrations, groups = data.shape[:2]
        if integrations * max(groups - 2, 0) < _FEWEST:
            return []
        heights: dict[tuple[int, int], list[float | None]] = {}
        for number, columns in enumerate(self.outputs):
            sample = self._sample(columns)
            if sample is None:
                continue
            medians, scatter = _differences(data, groupdq, sample)
            excess = _excess(medians)
            for integration, group in _standing_out(excess, scatter):
                usual = medians[integration, group - 1] - excess[integration, group - 1]
                pixels = self.science[:, columns]
                step = (data[integration, group] - data[integration, group - 1])[:, columns][pixels]
                by_output = heights.setdefault((integration, group), [None] * len(self.outputs))
                by_output[number] = float(median(step) - usual)
        return [
            CommonStep(integration=integration, group=group, dn=dn)
            for (integration, group), dn in sorted(heights.items())
        ]

    def subtract(self, data: NDArray[np.floating], steps: Sequence[CommonStep]) -> None:
        """Subtract common steps from the groups that have them, in the science pixels; in place."""
        for step in steps:
            for columns, height in zip(self.outputs, step.dn, strict=True):
                if height is not None:
                    lift = np.where(self.science[:, columns], data.dtype.type(height), 0)
                    for group in range(step.group, data.shape[1]):
                        data[step.integration, group, :, columns] -= lift.astype(data.dtype)

    def take_back(
        self, data: NDArray[np.floating], groupdq: NDArray[np.uint8], steps: Sequence[CommonStep]
    ) -> None:
        """Take back the jump flags that the noise of a common step raised; GROUPDQ is changed in place.

        Parameters
        ----------
        data : ndarray, 4D (integrations, groups, y, x)
            With the steps subtracted.
        groupdq : ndarray, 4D
            As the jump step left it.
        steps : sequence of CommonStep
        """
        for step in steps:
            for columns, height in zip(self.outputs, step.dn, strict=True):
                sample = self._sample(columns)
                if height is None or sample is None:
                    continue
                usual = _usual_scatter(data, step.integration, sample, {each.group for each in steps})
                before, after = data[step.integration, step.group - 1 : step.group + 1, :, columns]
                centre, scatter = median_and_sigma((after - before)[self.science[:, columns]])
                if not scatter > _WIDER * usual:
                    continue
                flags = groupdq[step.integration, step.group, :, columns]
                flagged = (flags & GroupFlag.JUMP_DET.mask) != 0
                hit = flagged & (np.abs(after - before - centre) > WITHIN * scatter)
                noise = flagged & ~ndimage.binary_dilation(hit)
                flags[noise] &= ~GroupFlag.JUMP_DET.mask

    def _sample(self, columns: slice) -> tuple[slice, slice] | None:
        """Return rows and columns that take some thousand science pixels of an output, evenly."""
        rows = np.flatnonzero(self.science[:, columns].any(axis=1))
        inside = np.flatnonzero(self.science[:, columns].any(axis=0))
        if not rows.size:
            return None
        first, last = columns.start + int(inside[0]), columns.start + int(inside[-1]) + 1
        stride = max(rows.size * inside.size // _SAMPLE, 1)
        return slice(int(rows[0]), int(rows[-1]) + 1, stride), slice(first, last)


def _differences(
    data: NDArray[np.floating], groupdq: NDArray[np.uint8], sample: tuple[slice, slice]
) -> tuple[NDArray[np.float64], float]:
    """Return the median of each difference (integrations, groups - 1), and the usual scatter of a pixel."""
    integrations, groups = data.shape[:2]
    medians = np.full((integrations, groups - 1), np.nan)
    scatters = []
    for integration in range(integrations):
        before: NDArray[Any] | None = None
        for group in range(groups):
            unusable = (groupdq[integration, group][sample] & UNUSABLE_GROUP_FLAGS.mask) != 0
            frame = None if unusable.mean() > 0.5 else data[integration, group][sample]
            if before is not None and frame is not None:
                step = (frame - before).ravel()
                medians[integration, group - 1], scatter = median_and_sigma(step)
                scatters.append(scatter)
            before = frame
    return medians, float(np.median(scatters)) if scatters else 0.0


def _excess(medians: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how much each median is above what is usual there; NaN where that cannot be told."""
    if len(medians) >= _ENOUGH_INTEGRATIONS:
        usual = np.array([median(column[np.isfinite(column)]) for column in medians.T])
        return np.asarray(medians - usual)
    later = medians[:, 1:]
    excess = medians - median(later[np.isfinite(later)])
    excess[:, 0] = np.nan
    return excess


def _standing_out(excess: NDArray[np.float64], scatter: float) -> list[tuple[int, int]]:
    """Return (integration, group) of the differences that stand out."""
    known = excess[np.isfinite(excess)]
    if len(known) < _FEWEST or scatter <= 0:
        return []
    limit = max(STANDS_OUT * robust_sigma(known, 0.0), scatter)
    found = []
    for integration, difference in zip(*np.nonzero(np.abs(np.nan_to_num(excess)) > limit), strict=True):
        row = np.abs(np.nan_to_num(excess[integration]))
        neighbours = [*row[max(difference - 1, 0) : difference], *row[difference + 1 : difference + 2]]
        if all(row[difference] > 2 * other for other in neighbours):
            found.append((int(integration), int(difference) + 1))
    return found


def _usual_scatter(
    data: NDArray[np.floating], integration: int, sample: tuple[slice, slice], steps: set[int]
) -> float:
    """Return the median over the other groups of the scatter of a difference, DN."""
    scatters = [
        median_and_sigma((data[integration, group][sample] - data[integration, group - 1][sample]).ravel())[1]
        for group in range(1, data.shape[1])
        if group not in steps
    ]
    return float(np.median(scatters)) if scatters else float("inf")
