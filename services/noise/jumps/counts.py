"""Jumps that the pipeline flagged: how many, where, and how sure the count is."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse, special

_EIGHT_CONNECTED = np.ones((3, 3), np.int8)

#: Rejection threshold of jwst's jump step by number of groups, in sigma; `_USUAL_SIGMA` for more groups.
_FEW_GROUPS_SIGMA = {3: 6.0, 4: 5.0}
_USUAL_SIGMA = 4.0


@dataclass(frozen=True)
class JumpCount:
    """Jumps over one choice of pixels.

    Attributes
    ----------
    flags : int
        (integration, group, pixel) places with JUMP_DET.
    flags_error : float
        1 sigma; see `JumpCounter`.
    pixels : int
        Pixels flagged at least once.
    percent, percent_error : float
        `pixels` in per cent of all pixels of the choice; 1 sigma.
    per_group : list of int
        Flags in each group, over all integrations.
    """

    flags: int
    flags_error: float
    pixels: int
    percent: float
    percent_error: float
    per_group: list[int]


@dataclass
class _Tally:
    chosen: NDArray[np.bool_]
    per_group: NDArray[np.int64]
    flag_squares: float = 0.0
    pixel_squares: float = 0.0
    # Of the integration at hand, per island: flags, and pixels that were never flagged before.
    islands: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list)


class JumpCounter:
    """Counts the flags of an exposure, one group at a time.

    The error of a count is that of a compound Poisson process: what arrives independently is an event,
    which flags several pixels (8-connected neighbours in a group) and maybe later groups (the same
    pixel in the next group), so the variance of the number of flags is the sum over events of their
    flags squared. The same holds for pixels, each of which belongs to the event that flagged it first.

    Parameters
    ----------
    science : ndarray of bool, 2D (y, x)
        True off the reference pixels.
    ngroups : int
    """

    def __init__(self, science: NDArray[np.bool_], ngroups: int) -> None:
        self._ngroups = ngroups
        self._ever = np.zeros(science.shape, np.bool_)
        self._all = _Tally(np.ones_like(science), np.zeros(ngroups, np.int64))
        self._science = _Tally(science, np.zeros(ngroups, np.int64))
        self.events = 0
        self._first = np.full(science.shape, ngroups, np.int32)
        self._labels = np.zeros(science.shape, np.int32)
        # Islands of this integration so far, and of its last plane alone.
        self._nodes = 0
        self._previous_count = 0
        self._links: list[NDArray[np.int64]] = []

    @property
    def first_jumps(self) -> NDArray[np.int32]:
        """First flagged group of each pixel in the integration at hand; `ngroups` where there is none."""
        return self._first

    def add(self, group: int, jumps: NDArray[np.bool_]) -> None:
        """Add one group of an integration, in ascending order; group 0 begins the next integration.

        Parameters
        ----------
        group : int
        jumps : ndarray of bool, 2D (y, x)
        """
        if group == 0:
            self._close()
        at = np.flatnonzero(jumps)
        labels, count = ndimage.label(jumps, _EIGHT_CONNECTED)
        mine = labels.ravel()[at] - 1
        before = self._labels.ravel()[at]
        carried = before > 0
        base = self._nodes - self._previous_count
        self._links.append(np.stack([base + before[carried] - 1, self._nodes + mine[carried]]))
        fresh = ~self._ever.ravel()[at]
        for tally in (self._all, self._science):
            inside = tally.chosen.ravel()[at]
            tally.per_group[group] += np.count_nonzero(inside)
            tally.islands.append(
                (
                    np.bincount(mine[inside], minlength=count),
                    np.bincount(mine[inside & fresh], minlength=count),
                )
            )
        self._ever.ravel()[at] = True
        first = self._first.ravel()
        first[at] = np.minimum(first[at], group)
        self._labels = labels
        self._previous_count = count
        self._nodes += count

    def _close(self) -> None:
        if self._nodes:
            links = np.concatenate(self._links, axis=1)
            graph = sparse.coo_array((np.ones(links.shape[1], np.int8), links), shape=(self._nodes,) * 2)
            events, event = sparse.csgraph.connected_components(graph, directed=False)
            self.events += events
            for tally in (self._all, self._science):
                flags = np.bincount(event, np.concatenate([f for f, _ in tally.islands]))
                pixels = np.bincount(event, np.concatenate([p for _, p in tally.islands]))
                tally.flag_squares += float(np.sum(flags**2))
                tally.pixel_squares += float(np.sum(pixels**2))
        for tally in (self._all, self._science):
            tally.islands.clear()
        self._links.clear()
        self._nodes = self._previous_count = 0
        self._labels = np.zeros_like(self._labels)
        self._first[:] = self._ngroups

    def counts(self) -> tuple[JumpCount, JumpCount]:
        """Return the count over all pixels, as the NRC-09 notebook has it, and over science pixels.

        The notebook: ``np.sum`` of the flags, and the pixels with any flag over all groups and
        integrations, over ysize * xsize * 100.
        """
        self._close()
        return self._count(self._all), self._count(self._science)

    def _count(self, tally: _Tally) -> JumpCount:
        pixels = int(np.count_nonzero(self._ever & tally.chosen))
        total = int(np.count_nonzero(tally.chosen))
        return JumpCount(
            flags=int(tally.per_group.sum()),
            flags_error=math.sqrt(tally.flag_squares),
            pixels=pixels,
            percent=100 * pixels / total,
            percent_error=100 * math.sqrt(tally.pixel_squares) / total,
            per_group=tally.per_group.tolist(),
        )


def threshold_sigma(ngroups: int) -> float:
    """Return from how many sigma the jump step flags a difference: 4; 5 with 4 groups, 6 with 3.

    Source: jwst 3.0.0, ``JumpStep.spec``.
    """
    return _FEW_GROUPS_SIGMA.get(ngroups, _USUAL_SIGMA)


def false_positive_probability(ngroups: int) -> float:
    """Return the chance that noise alone flags one difference of two groups.

    The two-sided tail of a Gaussian beyond the jump step's threshold: 6.3e-5 at its usual 4 sigma. With
    4 groups the step takes 5 sigma, with 3 it takes 6, and with fewer it does not run (jwst 3.0.0,
    ``JumpStep.spec``).
    """
    if ngroups < min(_FEW_GROUPS_SIGMA):
        return 0.0
    return float(special.erfc(threshold_sigma(ngroups) / math.sqrt(2)))


def false_positive_percent(ngroups: int, integrations: int) -> float:
    """Return the percentage of pixels that noise alone flags at least once: 0.94 for 149 differences."""
    differences = (ngroups - 1) * integrations
    return -100 * math.expm1(differences * math.log1p(-false_positive_probability(ngroups)))


def live_seconds(seconds_per_integration: float, integrations: int) -> float:
    """Return for how long an exposure could see a jump, s.

    A hit between the reset and the first group leaves no difference to see it by, so the live time of
    an integration runs from its first group to its last. What a saturated pixel misses after its
    saturation is not taken off: darks have too few for it to show.
    """
    return seconds_per_integration * integrations


def expected_percent(percent_per_kilosecond: float, seconds: float) -> float:
    """Return the percentage of pixels hit at least once in `seconds`, hits being independent."""
    rate = -math.log1p(-percent_per_kilosecond / 100) / 1000
    return -100 * math.expm1(-rate * seconds)


def first_jump(flagged: NDArray[Any]) -> int:
    """Return the first True of a ramp's flags, its length if there is none."""
    return int(np.argmax(flagged)) if flagged.any() else len(flagged)
